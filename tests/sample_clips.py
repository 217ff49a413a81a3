"""Clips of the rendered sample as a training reads them, without their way through files."""

from collections.abc import Sequence

import cv2
import numpy as np

from kineflow.data.dataset import ClipDataset, ClipItem
from kineflow.data.open_videos import OpenVideos
from kineflow.data.preprocessing import Preprocessing
from kineflow.data.readers import DecodedImages
from kineflow.data.views import Augment
from kineflow.sample.render import frames_of
from kineflow.sample.spec import PlannedVideo, SampleSpec


def preprocessing(*, num_frames: int, side_px: int, subtract_background: bool = True) -> Preprocessing:
    """As the stream rgb of the preset `sample` has it, at another size."""
    return Preprocessing(
        task="clip",
        stream="rgb",
        fps=20.0,
        frames={},
        flow=None,
        sampling="segments",
        num_frames=num_frames,
        frame_stride=1,
        height_px=side_px,
        width_px=side_px,
        decode_height_px=side_px,
        decode_width_px=side_px,
        subtract_background=subtract_background,
        flow_scale_px=1.0,
        num_views=1,
    )


def painted(
    spec: SampleSpec, videos: Sequence[PlannedVideo], made: Preprocessing, augment: Augment | None = None
) -> ClipDataset:
    """Clips of the sample with their behaviours' places in the spec as classes."""
    size = (made.width_px, made.height_px)
    images = {
        video.name: DecodedImages(
            np.stack([cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in frames_of(spec, video)])
        )
        for video in videos
    }
    items = [
        ClipItem(video.name, video.name, 0, video.num_frames, spec.behaviours.index(video.bouts[0].behaviour))
        for video in videos
    ]
    return ClipDataset(items, OpenVideos(images.__getitem__), made, augment)
