"""Frames to optical flow: one file for each video; only what changed is computed."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from kineflow.models.flow import NETWORKS, compute_flow, flow_rule
from kineflow.params import FlowParams, Params
from kineflow.stages import paths
from kineflow.stages.stage import StageReport
from kineflow.stages.video_results import VideoPlan, VideoTask, compute_missing, link_results
from kineflow.store import ResultStore, home
from kineflow.video.flow import flow_key
from kineflow.video.flow_store import FlowRule, min_flow_bytes_a_pixel
from kineflow.video.frame_store import FrameReader
from kineflow.video.pack import is_pack
from kineflow.video.result_index import VideoResult, read_index

PARAMS = ("flow", "streams.flow.enabled", "streams.fv.enabled", "evaluate.baselines")
NUM_LOOKED_AT = 20


@dataclass(frozen=True)
class FlowTask:
    """A video's frames whose flow is to be computed, for a worker that shares our disk (absolute paths)."""

    frames: Path
    key: str
    store_root: Path
    rule: FlowRule
    jpeg_quality: int | None
    weights: str | None  # a path


def run(params: Params, report: StageReport) -> None:
    """Write `data/flow`, or its disabled form where neither the streams flow and fv nor a baseline need it.

    Raises:
        ParamsError: the weights of the network are not on this machine.
        DataError: the frames are missing, or too small for flow; or the weights do not fit.
        StorageFullError: the flow does not fit on the disk.
    """
    if not params.needs_flow:
        paths.write_disabled(paths.FLOW, "streams flow and fv are disabled, and evaluate.baselines has no hof")
        report.note("disabled: neither the streams flow and fv nor the hof baseline are enabled")
        return
    plan = plan_flow(params, read_index(paths.FRAMES))
    compute_missing(plan, report, out=paths.FLOW)
    link_results(paths.FLOW, plan.results, store=plan.store, suffix="zip")


def plan_flow(params: Params, frames: Sequence[VideoResult]) -> VideoPlan[FlowTask]:
    """The flow of every video's frames, which need not be there yet.

    Raises:
        ParamsError: the weights of the network are not on this machine.
    """
    store = ResultStore(home() / "store" / "flow", is_whole=is_pack)
    rule = flow_rule(params.flow.method, bound_px=params.flow.bound_px, weights=params.flow.weights)
    weights = _weights(params.flow)
    tasks = []
    for video in frames:
        key = flow_key(video.key, rule, params.flow.jpeg_quality)
        result = VideoResult(video.video_id, key, video.num_frames - 1)
        source = (paths.FRAMES / f"{video.video_id}.zip").absolute()
        task = FlowTask(source, key, store.root.absolute(), rule, params.flow.jpeg_quality, weights)
        tasks.append(VideoTask(result, task, float(video.num_frames)))
    num_gpus = 1.0 if params.flow.method in NETWORKS else 0.0
    return VideoPlan(flow_into_store, tasks, store, partial(_min_flow_bytes, tasks, params.flow), num_gpus=num_gpus)


def _min_flow_bytes(tasks: Sequence[VideoTask[FlowTask]], params: FlowParams) -> float:
    some = tasks[:: max(1, len(tasks) // NUM_LOOKED_AT)]
    num_pixels = min(FrameReader(entry.task.frames).num_pixels for entry in some)
    return num_pixels * min_flow_bytes_a_pixel(params.jpeg_quality)


def flow_into_store(task: FlowTask) -> int:
    """Compute the flow of one video, and return the number of flows.

    Raises:
        DataError: the frames are missing, cut off, or too small for flow.
    """
    with ResultStore(task.store_root).writing(task.key) as target:
        return compute_flow(
            task.frames,
            target,
            rule=task.rule,
            jpeg_quality=task.jpeg_quality,
            weights=task.weights,
        )


def _weights(flow: FlowParams) -> str | None:
    """The file of the network, for a worker that may run in another folder; None for methods without one."""
    if flow.method not in NETWORKS or flow.weights is None:
        return None
    from kineflow.models.weight_sources import find_checkpoint

    return str(find_checkpoint(flow.weights).absolute())
