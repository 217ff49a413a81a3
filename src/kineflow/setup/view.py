"""`kineflow view`: the frames of a video as training sees them, beside their flow."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

from kineflow.errors import DataError
from kineflow.models.flow import compute_flow, flow_rule
from kineflow.params import Params
from kineflow.video.decode import naming
from kineflow.video.extract import FrameSize, extract_frames
from kineflow.video.flow import flow_key
from kineflow.video.flow_store import FlowReader
from kineflow.video.frame_store import FrameReader
from kineflow.video.preview import Panel, check_target, flow_panel, write_moment, write_preview
from kineflow.video.result_index import read_index


@dataclass(frozen=True)
class Viewed:
    """What was drawn: how many frames of what size, and where they came from."""

    num_frames: int
    height_px: int
    width_px: int
    origin: str


def view(
    video: str, target: Path, params: Params, *, stores: tuple[Path, Path], flow: bool, at_sec: float | None
) -> Viewed:
    """Write a preview of a video: a film, or a picture of the moment `at_sec`.

    Args:
        video: the id of a video that is extracted already, which shows the very images of the store; or a video file,
            which is extracted by `params.frames`, as a whole, and forgotten again.
        target: a .mp4, or with `at_sec` a .png.
        stores: the folders of the extracted frames and of their flow.
        flow: whether its flow stands beside the frames.

    Raises:
        DataError: there is neither such an id nor such a file, or the store has no flow of it, or one of other frames.
        DecodeError: the file cannot be decoded; it is named.
        ParamsError: the target cannot be written or has another suffix, or flow needs weights that are not there.
    """
    check_target(target, suffix=".mp4" if at_sec is None else ".png")
    stored, flows = (folder / f"{video}.zip" for folder in stores)
    if stored.is_file():
        if flow:
            _check_flow(video, *stores)
        return _draw(stored, flows if flow else None, target, at_sec=at_sec, origin="the stores, as trained on")
    source = Path(video)
    if not source.is_file():
        raise DataError(f"{video}: neither a video of {stores[0]} nor a file; `ls {stores[0]}` lists the former")
    with tempfile.TemporaryDirectory(prefix="kineflow-view-") as name:
        frames, flows = Path(name) / "frames.zip", Path(name) / "flow.zip"
        wanted = params.frames
        size = FrameSize(wanted.height_px, wanted.width_px, wanted.short_side_px)
        with naming(source):
            extract_frames(source, frames, fps=wanted.fps, size=size, jpeg_quality=wanted.jpeg_quality)
        if flow:
            rule = flow_rule(params.flow.method, bound_px=params.flow.bound_px, weights=params.flow.weights)
            quality, weights = params.flow.jpeg_quality, params.flow.weights
            compute_flow(frames, flows, rule=rule, jpeg_quality=quality, weights=weights)
        cut = "" if wanted.roi.kind == "full" else "; frames.roi does not apply to it"
        return _draw(
            frames, flows if flow else None, target, at_sec=at_sec, origin=f"the file, by params.yaml, whole{cut}"
        )


def _check_flow(video: str, frames: Path, flows: Path) -> None:
    """Whether the stored flow is that of the stored frames.

    Raises:
        DataError: there is none, or it is of other frames, such as those of before their params changed.
    """
    path = flows / f"{video}.zip"
    if not path.is_file():
        raise DataError(f"{path} is not there; run `dvc repro compute_flow`, or name the video's file")
    with FlowReader(path) as reader:
        keys, flow_keys = ({row.video_id: row.key for row in read_index(folder)} for folder in (frames, flows))
        if flow_keys.get(video) != flow_key(keys.get(video, ""), reader.rule, reader.quality):
            raise DataError(f"{path}: not the flow of the frames in {frames}; run `dvc repro compute_flow`")


def _draw(frames: Path, flows: Path | None, target: Path, *, at_sec: float | None, origin: str) -> Viewed:
    with FrameReader(frames) as reader:
        panels = [Panel("frames", lambda item: reader.read([item])[0])]
        if flows is not None:
            panels.append(flow_panel(FlowReader(flows)))
        times_sec = reader.timestamps_sec.tolist()
        if at_sec is None:
            write_preview(panels, times_sec, target, fps=reader.fps)
        else:
            write_moment(panels, times_sec, target, at_sec=at_sec)
        return Viewed(1 if at_sec is not None else len(reader), reader.height, reader.width, origin)
