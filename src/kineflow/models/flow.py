"""Every flow method by its name: OpenCV's, which need nothing, and networks, which need a weights file."""

from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from kineflow.errors import DataError, ParamsError
from kineflow.store import file_sha256
from kineflow.video import flow as opencv
from kineflow.video.flow_store import FlowRule

if TYPE_CHECKING:
    from torch import nn

NETWORKS = ("raft_small", "raft_large")
METHODS = (*(name for name, _ in opencv.METHODS), *NETWORKS)


def flow_rule(method: str, *, bound_px: float, weights: str | None) -> FlowRule:
    """The rule that flow is computed and stored by.

    Args:
        weights: of a network: a local file or `torchvision:NAME`; None for OpenCV's methods.

    Raises:
        ParamsError: the network's weights are not on this machine.
    """
    sha256 = None if method not in NETWORKS else file_sha256(_weights_path(method, weights))
    return FlowRule(method, bound_px, weights_sha256=sha256)


def compute_flow(frames: Path, target: Path, *, rule: FlowRule, jpeg_quality: int | None, weights: str | None) -> int:
    """Write the flow store of a frame store, by any method; see `kineflow.video.flow.compute_flow`.

    Raises:
        ParamsError: the network's weights are not on this machine.
        DataError: they are others than those of the rule, or do not fit; or the frames are missing or too small.
    """
    if rule.method not in NETWORKS:
        return opencv.compute_flow(frames, target, rule=rule, jpeg_quality=jpeg_quality)
    from kineflow.models.raft import raft_flows

    path = _weights_path(rule.method, weights)
    model = _network(rule.method, path, rule.weights_sha256)
    return opencv.compute_flow(
        frames, target, rule=rule, jpeg_quality=jpeg_quality, flows_of=partial(raft_flows, model=model)
    )


@lru_cache(maxsize=1)  # one for each worker, not for each video
def _network(method: str, path: Path, sha256: str | None) -> "nn.Module":
    from kineflow.models.raft import load_raft

    if file_sha256(path) != sha256:
        raise DataError(f"{path}: not the {method} weights that this flow is made with; put back the file of before")
    return load_raft(method, path)


def _weights_path(method: str, weights: str | None) -> Path:
    from kineflow.models.weight_sources import find_checkpoint

    if weights is None:
        raise ParamsError(f"flow.method {method} needs flow.weights: a local file, or torchvision:{method}")
    return find_checkpoint(weights)
