"""Which region of each video is looked at, from the files that say so: a CSV of boxes, or a folder of keypoints."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kineflow.annotations.roi_boxes import Box, read_boxes
from kineflow.errors import DataError
from kineflow.storage import FileInfo, list_files
from kineflow.video.pose_files import PoseFiles, find_pose_files, list_pose_files
from kineflow.video.roi import Region, follow


@dataclass(frozen=True)
class RegionSource:
    """Where the region of one video is read from.

    Args:
        roi: the section `frames.roi` of params.
        box: of kind boxes.
        keypoints: of kind pose: the video's.
    """

    roi: Mapping[str, Any]
    box: Box | None = None
    keypoints: PoseFiles | None = None

    def read(self, *, cache_dir: Path) -> Region:
        """The region.

        Args:
            cache_dir: of objects; see `storage.local_file`.

        Raises:
            AnnotationError: the keypoints cannot be read.
            DataError: they lack the body part, are of several animals, or none is believed.
        """
        if self.box is not None:
            return region_of(self.box)
        assert self.keypoints is not None
        track, name = self.keypoints.read(cache_dir=cache_dir), self.roi["bodypart"]
        source = self.keypoints.name
        if name not in track.bodyparts:
            known = ", ".join(track.bodyparts)
            raise DataError(f"{source}: no body part {name!r} (it has {known}); correct frames.roi.bodypart")
        if len(track.individuals) != 1:
            raise DataError(f"{source}: {len(track.individuals)} individuals; a crop can follow only one")
        part = track.bodyparts.index(name)
        return follow(
            track.xy_px[:, 0, part],
            track.likelihood[:, 0, part],
            side_px=self.roi["side_px"],
            min_likelihood=self.roi["min_likelihood"],
            smooth=self.roi["smooth_frames"],
        )

    @property
    def content(self) -> dict[str, Any]:
        """What the region depends on, as JSON values; nothing of where it lies."""
        if self.box is not None:
            return asdict(self.box)
        assert self.keypoints is not None
        settings = {name: value for name, value in self.roi.items() if name != "path"}
        return settings | {"keypoints": self.keypoints.content}


def region_of(box: Box) -> Region:
    """What a fixed box looks at."""
    return Region(box.width_px, box.height_px, np.array([[box.x_px, box.y_px]], np.float64))


def find_regions(
    roi: Mapping[str, Any], video_ids: Sequence[str], hashes: Mapping[str, str]
) -> dict[str, RegionSource | None]:
    """Where each video's region is read from; None for whole frames.

    Args:
        roi: the section `frames.roi` of params: kind, path and, for poses, the settings of the crop.
        hashes: SHA-256 of files of keypoints by their place in the folder; a missing one is computed.

    Raises:
        AnnotationError: the CSV of boxes is malformed; names the row.
        DataError: a video has no box or no keypoints, or more than one file of them.
    """
    if roi["kind"] == "full":
        return dict.fromkeys(video_ids)
    path = Path(roi["path"])
    if roi["kind"] == "boxes":
        boxes = read_boxes(path)
        missing = [video_id for video_id in video_ids if video_id not in boxes]
        if missing:
            raise DataError(f"{path}: no box for {missing[0]} ({len(missing)} videos lack one); add a row for each")
        return {video_id: RegionSource(roi, box=boxes[video_id]) for video_id in video_ids}
    keys = [info.key for _, info in list_region_files(str(path))]
    files = find_pose_files(str(path.absolute()), keys, video_ids, hashes)
    return {video_id: RegionSource(roi, keypoints=files[video_id]) for video_id in video_ids}


def list_region_files(path: str | None) -> list[tuple[str, FileInfo]]:
    """The files that say what is looked at, each with the folder that its key counts from.

    Raises:
        DataError: the path is not there, or holds none.
    """
    if path is None:
        return []
    given = Path(path)
    if given.is_file():
        folder = str(given.parent)
        return [(folder, info) for info in list_files(folder) if info.key == given.name]
    return [(path, info) for info in list_pose_files(path, param="frames.roi.path")]
