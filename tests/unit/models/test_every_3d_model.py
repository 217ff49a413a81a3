"""What must hold for each 3D backbone of full size, on clips long enough for its strides.

The deepest and those that differ from a tested one in depth alone run in the soak tests, as do the poolings that
`test_every_model.py` already runs behind small backbones.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from kineflow.errors import ParamsError
from kineflow.models.backbones.clip_network import ClipNetwork
from kineflow.models.classifier import VideoClassifier
from kineflow.models.layout import use_channels_last
from kineflow.models.registry import ModelSpec, create_model, list_models
from kineflow.models.specs import Task

NUM_CLASSES = 5
SIDE_PX = 40
NUM_FRAMES = 3  # where every frame keeps its own feature; else what leaves two steps
KEEP_FRAMES = ("mc3_18", "inflated_resnet50", "x3d_")
SMALL = ("r3d_mini", "r3d_tiny", "r3d_18")  # in test_every_model.py
BY_DEFAULT = (
    "mc3_18.avg",
    "s3d.avg",
    "swin3d_t.avg",
    "resnext101_3d_frmb.avg",
    "inflated_resnet50.avg",
    "modified_resnet50_nl.avg",
    "i3d_frab.avg",
    "mfnet_3d.avg",
    "ip_csn_50.avg",
    "p3d_63.avg",
    "slowfast_50_early.bert",
    "slowfast_50_late.bert_late",
    "rep_flow_50.avg",
    "x3d_s.avg_fc",
)


@dataclass(frozen=True)
class Case:
    spec: ModelSpec
    task: Task
    model: VideoClassifier
    clips: Tensor


def build(spec: ModelSpec, task: Task, *, seed: int = 0) -> VideoClassifier:
    torch.manual_seed(seed)
    steps = NUM_FRAMES if spec.name.startswith(KEEP_FRAMES) else 2
    options = {"num_steps": steps} if "num_steps" in spec.options else {}
    model = create_model(spec.name, num_classes=NUM_CLASSES, in_channels=2, task=task, options=options)
    for module in model.modules():
        if type(module).__name__ == "StochasticDepth":
            module.p = 0.0  # or a batch of two may skip a block, whose weights then have no gradient
    return model


def backbone_of(model: VideoClassifier) -> ClipNetwork:
    assert isinstance(model.backbone, ClipNetwork)
    return model.backbone


def every_case() -> list[object]:
    cases = []
    for spec in list_models():
        if spec.input != "3d" or spec.name.split(".")[0] in SMALL:
            continue
        for task in spec.tasks:
            marks = [] if spec.name in BY_DEFAULT else [pytest.mark.soak]
            cases.append(pytest.param((spec, task), id=f"{spec.name}-{task}", marks=marks))
    return cases


@pytest.fixture(scope="module", params=every_case())
def case(request: pytest.FixtureRequest) -> Iterator[Case]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    spec, task = request.param
    model = build(spec, task)
    # Two time steps at least, so that what is computed over time has something to compare.
    backbone = backbone_of(model)
    num_frames = max(NUM_FRAMES, 2 * backbone.temporal_stride, backbone.min_frames + backbone.temporal_stride)
    clips = torch.randn((2, 2, num_frames, SIDE_PX, SIDE_PX), generator=torch.Generator().manual_seed(0))
    yield Case(spec, task, model, clips)
    torch.set_num_threads(threads)


def relative_error(actual: Tensor, expected: Tensor) -> float:
    error = (actual.float() - expected.float()).square().mean().sqrt()
    return (error / expected.float().square().mean().sqrt()).item()


def test_answers_are_alike_alone_in_a_batch_channels_last_and_roughly_in_bf16(case: Case) -> None:
    model = case.model.eval()
    with torch.no_grad():
        logits, features = model(case.clips)
        alone = torch.cat([model(clip[None]).logits for clip in case.clips])
        with torch.autocast("cpu", torch.bfloat16):
            in_bf16 = model(case.clips).logits
        other = build(case.spec, case.task, seed=9).eval()
        other.load_state_dict(model.state_dict())
        again = use_channels_last(other)(case.clips).logits
    steps = (case.clips.shape[2],) if case.task == "frame" else ()
    assert logits.shape == (2, *steps, NUM_CLASSES)
    assert features.shape == (2, *steps, model.feature_dim)
    assert not torch.equal(logits[0], logits[1])
    assert relative_error(alone, logits) < 1e-4
    assert relative_error(again, logits) < 1e-4
    assert in_bf16.isfinite().all()
    assert relative_error(in_bf16, logits) < 0.4  # untrained depth amplifies the rounding


def test_gradients_reach_every_parameter(case: Case) -> None:
    model = case.model.train()
    torch.manual_seed(1)
    logits = model(case.clips).logits
    (logits * torch.randn(logits.shape)).sum().backward()
    # Softmax does not see what is added to all keys alike, so the keys' bias cannot learn.
    dead = [
        name
        for name, parameter in model.named_parameters()
        if not name.endswith(("attention.key.bias", "nl.phi.bias"))
        and (parameter.grad is None or not parameter.grad.any() or not parameter.grad.isfinite().all())
    ]
    model.zero_grad()
    assert dead == []


def test_gradients_are_finite_in_bf16(case: Case) -> None:
    model = case.model.train()
    with torch.autocast("cpu", torch.bfloat16):
        model(case.clips).logits.float().square().mean().backward()
    unsound = [
        name
        for name, parameter in model.named_parameters()
        if parameter.grad is None or not parameter.grad.isfinite().all()
    ]
    model.zero_grad()
    assert unsound == []


def test_the_shortest_clip_is_read_and_a_shorter_one_refused(case: Case) -> None:
    model, backbone = case.model.eval(), backbone_of(case.model)
    side_px = max(backbone.min_side_px, 32)
    shortest = max(backbone.min_frames, 8 if "late" in case.spec.name else 1)
    if "num_steps" not in case.spec.options:  # concatenation reads clips of one length alone
        with torch.no_grad():
            assert model(torch.randn(1, 2, shortest, side_px, side_px)).logits.isfinite().all()
    if backbone.min_frames > 1:
        with pytest.raises(ParamsError, match=f"at least {backbone.min_frames} frames"):
            model(torch.randn(1, 2, backbone.min_frames - 1, side_px, side_px))


def test_each_family_is_tested_by_default() -> None:
    names = {spec.name for spec in list_models()}
    assert set(BY_DEFAULT) <= names
