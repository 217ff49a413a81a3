"""What must hold for each registered model, on each task that it serves."""

import copy
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from kineflow.errors import ParamsError
from kineflow.models.classifier import VideoClassifier
from kineflow.models.layout import use_channels_last
from kineflow.models.registry import ModelSpec, create_model, list_models
from kineflow.models.specs import Task
from kineflow.models.streaming import FrameStream, why_no_stream

NUM_CLASSES = 5
BATCH_SIZE = 3
NUM_FRAMES = 3


# Every pooling runs behind these. The other backbones differ in nothing that a pooling sees but their width: `avg`
# shows that they are sound, and their other poolings run in the soak tests.
SMALL = ("resnet10_tiny", "r3d_mini", "embedding", "pixels")
MEDIUM = (
    "resnet18",
    "resnet18_triple",
    "tsm_resnet18",
    "tsm_resnet18_in_place",
    "tsm_resnet18_online",
    "r3d_tiny",
    "r3d_18",
)
# The Inceptions' unpadded convolutions leave nothing of 32 px.
SIDE_PX = {"embedding": 1, "pixels": 16, "inception_v3": 80, "inception_resnet_v2": 80}


@dataclass(frozen=True)
class Case:
    spec: ModelSpec
    task: Task
    model: VideoClassifier

    @property
    def num_frames(self) -> int:
        """What leaves two time steps at least: a recurrent pooling then reads its own state."""
        stride = getattr(self.model.backbone, "temporal_stride", 1)
        return NUM_FRAMES if stride == 1 else 2 * stride

    def clips(self, *, num_frames: int | None = None, seed: int = 0) -> Tensor:
        num_frames = num_frames or self.num_frames
        side_px = SIDE_PX.get(backbone_name(self.spec), 32)
        shape = (BATCH_SIZE, self.model.in_channels, num_frames, side_px, side_px)
        return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def backbone_name(spec: ModelSpec) -> str:
    return spec.name.partition(".")[0]


def build(spec: ModelSpec, task: Task, *, seed: int = 0) -> VideoClassifier:
    torch.manual_seed(seed)
    in_channels = 16 if spec.input == "embedding" else 2
    small = {
        "hidden_dim": 12,
        "representation_dim": 8,
        "num_steps": 2 if spec.input == "3d" else NUM_FRAMES,
        "fc_dim": 8,
        "inner_channels": 8,
        "num_filters": 8,
        "side_px": SIDE_PX["pixels"],
    }
    options = {key: value for key, value in small.items() if key in spec.options}
    return create_model(spec.name, num_classes=NUM_CLASSES, in_channels=in_channels, task=task, options=options)


def every_case() -> list[object]:
    """Every model on each of its tasks; the 3D ones of full size are in test_every_3d_model.py."""
    cases = []
    for spec in list_models():
        backbone, pooling = spec.name.split(".")
        if spec.input == "3d" and not backbone.startswith(("r3d_mini", "r3d_tiny", "r3d_18")):
            continue
        by_default = backbone in SMALL or (backbone in MEDIUM and pooling == "avg")
        marks = [] if by_default else [pytest.mark.soak]
        for task in spec.tasks:
            cases.append(pytest.param((spec, task), id=f"{spec.name}-{task}", marks=marks))
    return cases


@pytest.fixture(scope="module", params=every_case())
def case(request: pytest.FixtureRequest) -> Iterator[Case]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    spec, task = request.param
    yield Case(spec, task, build(spec, task))
    torch.set_num_threads(threads)


def assert_close(actual: Tensor, expected: Tensor, *, relative: float) -> None:
    """Bound the root mean square error by a share of that of the values: untrained networks differ in scale."""
    error = (actual.float() - expected.float()).square().mean().sqrt()
    assert error.item() <= relative * expected.float().square().mean().sqrt().item()


def test_answers_have_the_shapes_of_the_task(case: Case) -> None:
    case.model.eval()
    any_length = "num_steps" not in case.spec.options
    for num_frames in (1, 2, case.num_frames) if any_length else (case.num_frames,):
        with torch.no_grad():
            logits, features = case.model(case.clips(num_frames=num_frames))
        steps = (num_frames,) if case.task == "frame" else ()
        assert logits.shape == (BATCH_SIZE, *steps, NUM_CLASSES)
        assert features.shape == (BATCH_SIZE, *steps, case.model.feature_dim)
        assert torch.equal(logits, case.model.head(features))


def test_gradients_reach_every_parameter_and_repeat_exactly(case: Case) -> None:
    case.model.train()
    gradients = []
    for _ in range(2):
        torch.manual_seed(1)
        logits = case.model(case.clips()).logits
        (logits * torch.randn(logits.shape)).sum().backward()
        gradients.append([parameter.grad for parameter in case.model.parameters()])
        case.model.zero_grad()
    names = [name for name, _ in case.model.named_parameters()]
    # Softmax does not see what is added to all keys alike, so the keys' bias cannot learn.
    dead = [
        name
        for name, gradient in zip(names, gradients[0], strict=True)
        if not name.endswith("attention.key.bias")
        and (gradient is None or not gradient.any() or not gradient.isfinite().all())
    ]
    assert dead == []
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_a_clip_is_answered_alike_alone_and_in_a_batch(case: Case) -> None:
    case.model.eval()
    clips = case.clips()
    with torch.no_grad():
        together = case.model(clips).logits
        alone = torch.cat([case.model(clip[None]).logits for clip in clips])
    assert_close(alone, together, relative=1e-4)


def test_the_state_dict_carries_the_whole_model(case: Case) -> None:
    other = build(case.spec, case.task, seed=9).eval()
    case.model.eval()
    with torch.no_grad():
        wanted = case.model(case.clips()).logits
        assert not torch.equal(other(case.clips()).logits, wanted)
        other.load_state_dict(case.model.state_dict())
        assert torch.equal(other(case.clips()).logits, wanted)


def test_bf16_autocast_on_the_cpu_agrees_roughly(case: Case) -> None:
    case.model.eval()
    with torch.no_grad():
        wanted = case.model(case.clips()).logits
        with torch.autocast("cpu", torch.bfloat16):
            logits = case.model(case.clips()).logits
    assert logits.isfinite().all()
    assert_close(logits, wanted, relative=0.25)  # 101 random layers amplify the rounding
    case.model.train()
    with torch.autocast("cpu", torch.bfloat16):
        case.model(case.clips()).logits.float().square().mean().backward()
    gradients = [parameter.grad for parameter in case.model.parameters()]
    case.model.zero_grad()
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients)


def test_channels_last_changes_nothing_but_speed(case: Case) -> None:
    model = use_channels_last(copy.deepcopy(case.model)).eval()
    case.model.eval()
    with torch.no_grad():
        assert_close(model(case.clips()).logits, case.model(case.clips()).logits, relative=1e-4)


def test_padding_changes_no_answer(case: Case) -> None:
    clips, lengths_B = case.clips(num_frames=5), torch.tensor([3, 5, 1])
    case.model.eval()
    if not case.spec.padded:
        with pytest.raises(ParamsError, match="cannot leave padding out"):
            case.model(clips, lengths_B)
        return
    with torch.no_grad():
        padded = case.model(clips, lengths_B).logits
        for clip, length in enumerate(lengths_B.tolist()):
            alone = case.model(clips[clip : clip + 1, :, :length]).logits[0]
            answer = padded[clip, :length] if case.task == "frame" else padded[clip]
            assert_close(answer, alone, relative=1e-4)
        if case.spec.name.endswith(".none"):
            return
        whole = case.model(clips).logits
        row = whole[0, :3] if case.task == "frame" else whole[0]
        if case.task == "clip":
            assert not torch.allclose(row, padded[0], rtol=1e-4)  # without the lengths it would be another answer


def test_frames_answered_one_by_one_are_those_of_the_whole_clip(case: Case) -> None:
    case.model.eval()
    clips = case.clips(num_frames=6)
    reason = why_no_stream(case.model)
    if reason:
        with pytest.raises(ParamsError, match=f"cannot stream: {reason}"):
            FrameStream(case.model)
        return
    assert case.task == "frame"
    streams = [FrameStream(case.model) for _ in range(2)]
    with torch.no_grad():
        whole = case.model(clips).logits
        # In pieces of 1, 1, 3 and 1; another video between them leaves no trace.
        pieces = []
        for start, end in ((0, 1), (1, 2), (2, 5), (5, 6)):
            pieces.append(streams[0].feed(clips[:, :, start:end]).logits)
            streams[1].feed(torch.randn_like(clips[:, :, :2]))
        assert_close(torch.cat(pieces, dim=1), whole, relative=1e-4)
        assert_close(case.model(clips).logits, whole, relative=1e-6)
