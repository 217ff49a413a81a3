"""Frames to optical flow: one file for each video; only what changed is computed."""

from dataclasses import asdict, dataclass
from pathlib import Path

from kineflow.models.flow import compute_flow, flow_rule
from kineflow.params import FlowParams, Params
from kineflow.stages import paths
from kineflow.stages.stage import StageReport
from kineflow.stages.video_results import VideoResult, compute_missing, link_results, read_index
from kineflow.store import ResultStore, digest, home
from kineflow.video.flow import CODE_VERSION
from kineflow.video.flow_store import FlowRule
from kineflow.video.pack import is_pack

PARAMS = ("flow", "streams.flow.enabled", "evaluate.baselines")


@dataclass(frozen=True)
class FlowTask:
    """A video's frames whose flow is to be computed, for a worker that shares our disk (absolute paths)."""

    frames: Path
    key: str
    store_root: Path
    rule: FlowRule
    params: FlowParams


def run(params: Params, report: StageReport) -> None:
    """Write `data/flow`, or its disabled form where neither the flow stream nor a baseline needs it.

    Raises:
        ParamsError: the weights of the network are not on this machine.
        DataError: the frames are missing, or too small for flow; or the weights do not fit.
    """
    if not params.streams.flow.enabled and "hof" not in params.evaluate.baselines:
        paths.write_disabled(paths.FLOW, "streams.flow.enabled is false and evaluate.baselines has no hof")
        report.note("disabled: neither the flow stream nor the hof baseline is enabled")
        return
    store = ResultStore(home() / "store" / "flow", is_whole=is_pack)
    rule = flow_rule(params.flow.method, bound_px=params.flow.bound_px, weights=params.flow.weights)
    described = {"rule": asdict(rule), "jpeg_quality": params.flow.jpeg_quality}
    results, tasks = [], []
    for frames in read_index(paths.FRAMES):
        key = digest(kind="flow", code=CODE_VERSION, frames=frames.key, params=described)
        result = VideoResult(frames.video_id, key, frames.num_frames - 1)
        source = (paths.FRAMES / f"{frames.video_id}.zip").absolute()
        results.append(result)
        tasks.append(
            (result, FlowTask(source, key, store.root.absolute(), rule, params.flow), float(frames.num_frames))
        )
    compute_missing(flow_into_store, tasks, store=store, report=report)
    link_results(paths.FLOW, results, store=store, suffix="zip")


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
            jpeg_quality=task.params.jpeg_quality,
            weights=task.params.weights,
        )
