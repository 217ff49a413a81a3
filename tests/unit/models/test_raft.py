"""RAFT's loading and batching, with a generated state file, against torchvision's own forward."""

from pathlib import Path

import numpy as np
import pytest
import simplejpeg
import torch

from kineflow.errors import DataError, ParamsError
from kineflow.models.flow import compute_flow, flow_rule
from kineflow.models.raft import load_raft, raft_flows
from kineflow.models.torchvision_compat import declare_missing_torchvision_ops
from kineflow.video.flow_store import FlowReader
from kineflow.video.frame_store import FrameReader, writing_frames


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    declare_missing_torchvision_ops()
    from torchvision.models.optical_flow import raft_small

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "raft.pth"
    torch.save(raft_small().state_dict(), path)
    return path


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    with writing_frames(tmp_path / "frames.zip", fps=10.0, height=128, width=136, quality=95) as writer:
        for index in range(3):
            jpeg = simplejpeg.encode_jpeg(random.integers(0, 256, (128, 136, 3), np.uint8), quality=95)
            writer.append(jpeg, source_frame=index, timestamp_sec=index / 10)
    return tmp_path / "frames.zip"


def test_flows_are_those_of_torchvision(weights: Path, frames: Path) -> None:
    from torchvision.models.optical_flow import raft_small

    with FrameReader(frames) as reader:
        ours = np.stack(list(raft_flows(reader, load_raft("raft_small", weights))))
        images = torch.from_numpy(reader.read([0, 1, 2])).permute(0, 3, 1, 2).float() / 127.5 - 1
    model = raft_small().eval()
    model.load_state_dict(torch.load(weights, weights_only=True))
    with torch.inference_mode():
        theirs = model(images[1:2], images[2:3])[-1][0].permute(1, 2, 0).numpy()
    assert ours.shape == (2, 128, 136, 2)
    np.testing.assert_allclose(ours[1], theirs, atol=1e-2)


def test_the_store_records_the_weights(weights: Path, frames: Path, tmp_path: Path) -> None:
    rule = flow_rule("raft_small", bound_px=8.0, weights=str(weights))
    source = str(weights)
    assert compute_flow(frames, tmp_path / "flow.zip", rule=rule, jpeg_quality=None, weights=source) == 2
    assert FlowReader(tmp_path / "flow.zip").rule == rule


def test_weights_that_do_not_fit_are_refused_in_one_sentence(weights: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not the weights of raft_large"):
        load_raft("raft_large", weights)
    state = torch.load(weights, weights_only=True)
    first = next(iter(state))
    torch.save(state | {first: torch.zeros(1)}, tmp_path / "shape.pth")
    with pytest.raises(DataError, match=r"is \(1,\) there"):
        load_raft("raft_small", tmp_path / "shape.pth")
    with pytest.raises(ParamsError, match="there is no such file"):
        flow_rule("raft_small", bound_px=8.0, weights=str(tmp_path / "none.pth"))
