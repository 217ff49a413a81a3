"""What must hold for each registered model, on each task that it serves.

By default each backbone runs once, with the average over time, and each pooling once behind a small backbone of frames
and one of clips. The soak tests run every combination forward, and more of them through everything.
"""

import copy
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import pytest
import torch
from torch import Tensor

from kineflow.errors import ParamsError
from kineflow.models.backbones.clip_network import ClipNetwork
from kineflow.models.classifier import VideoClassifier
from kineflow.models.heads import LinearHead
from kineflow.models.layout import use_channels_last
from kineflow.models.registry import ModelSpec, create_model, find_model, list_models
from kineflow.models.specs import BackboneSpec, Options, Task
from kineflow.models.streaming import FrameStream, why_no_stream
from kineflow.models.zoo import BACKBONES, POOLINGS

NUM_CLASSES = 5
BATCH_SIZE = 2
NUM_FRAMES = 3
BEFORE_POOLINGS = ("resnet10_tiny", "r3d_mini")
NUM_SAMPLED = 2  # poolings of each backbone that the soak tests run through everything
# The Inceptions' unpadded convolutions leave nothing of 32 px.
SIDE_PX = {"embedding": 1, "pixels": 16, "inception_v3": 80, "inception_resnet_v2": 80}
SMALL: Options = {
    "hidden_dim": 12,
    "representation_dim": 8,
    "fc_dim": 8,
    "inner_channels": 8,
    "num_filters": 8,
    "side_px": SIDE_PX["pixels"],
}
# Softmax does not see what is added to all keys alike, so the keys' bias cannot learn.
NEVER_LEARNS = ("attention.key.bias", "nl.phi.bias")


@dataclass(frozen=True)
class Case:
    spec: ModelSpec
    task: Task
    model: VideoClassifier

    @property
    def is_small(self) -> bool:
        return self.spec.name.startswith((*BEFORE_POOLINGS, "embedding", "pixels"))

    @property
    def any_length(self) -> bool:
        return "num_steps" not in self.spec.options  # concatenation reads clips of one length alone

    @cached_property
    def clips(self) -> Tensor:
        return self.clips_of(num_frames_of(self.model.backbone))

    def clips_of(self, num_frames: int) -> Tensor:
        return make_clips(backbone_name(self.spec), self.model.backbone, self.model.in_channels, num_frames)


def make_clips(name: str, backbone: torch.nn.Module, in_channels: int, num_frames: int) -> Tensor:
    side_px = max(SIDE_PX.get(name, 32), getattr(backbone, "min_side_px", 1))
    shape = (BATCH_SIZE, in_channels, num_frames, side_px, side_px)
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def num_frames_of(backbone: torch.nn.Module) -> int:
    """The fewest frames that leave two time steps, so that what is computed over time has something to compare."""
    if not isinstance(backbone, ClipNetwork):
        return NUM_FRAMES
    if getattr(backbone.network, "form", "") == "late":  # reads multiples of its stride
        return 2 * backbone.temporal_stride
    return max(NUM_FRAMES, backbone.min_frames + backbone.temporal_stride)


def backbone_name(spec: ModelSpec) -> str:
    return spec.name.partition(".")[0]


def in_channels_of(spec: ModelSpec | BackboneSpec) -> int:
    return 16 if spec.input == "embedding" else 2


def options_of(options: Options, *, num_steps: int) -> Options:
    wanted = {**SMALL, "num_steps": num_steps}
    return {key: wanted.get(key, value) for key, value in options.items()}


def build(spec: ModelSpec, task: Task, *, seed: int = 0) -> VideoClassifier:
    torch.manual_seed(seed)
    keeps_frames = spec.input != "3d" or backbone_name(spec).startswith(("mc3_18", "inflated_resnet50", "x3d_"))
    options = options_of(spec.options, num_steps=NUM_FRAMES if keeps_frames else 2)
    model = create_model(
        spec.name, num_classes=NUM_CLASSES, in_channels=in_channels_of(spec), task=task, options=options
    )
    for module in model.modules():
        if type(module).__name__ == "StochasticDepth":
            module.p = 0.0  # or a batch of two may skip a block, whose weights then have no gradient
    return model


def default_models() -> list[str]:
    """Each backbone once, and each pooling once behind a small backbone, or else behind the first that has it."""
    with_backbone = [f"{spec.name}.{'avg' if 'avg' in spec.poolings else spec.poolings[0]}" for spec in BACKBONES]
    with_pooling = [
        f"{spec.name}.{pooling}" for spec in BACKBONES if spec.name in BEFORE_POOLINGS for pooling in spec.poolings
    ]
    seen = {name.partition(".")[2] for name in (*with_backbone, *with_pooling)}
    others = [
        next(f"{spec.name}.{pooling.name}" for spec in BACKBONES if pooling.name in spec.poolings)
        for pooling in POOLINGS
        if pooling.name not in seen
    ]
    return list(dict.fromkeys([*with_backbone, *with_pooling, *others]))


def sampled_models() -> list[str]:
    """A few poolings of each backbone, going round so that each pooling meets many backbones."""
    names = []
    for index, spec in enumerate(BACKBONES):
        chosen = {spec.poolings[(NUM_SAMPLED * index + i) % len(spec.poolings)] for i in range(NUM_SAMPLED)}
        names += [f"{spec.name}.{pooling}" for pooling in sorted(chosen)]
    return names


def every_case() -> list[object]:
    by_default = default_models()
    names = dict.fromkeys([*by_default, *sampled_models()])
    tcn = find_model("embedding.tcn")
    normed = replace(tcn, options={**tcn.options, "norm": "weight"})  # whose parameters are not those of the others
    return [pytest.param((normed, task), id=f"{tcn.name}-weight-{task}") for task in tcn.tasks] + [
        pytest.param(
            (find_model(name), task), id=f"{name}-{task}", marks=[] if name in by_default else [pytest.mark.soak]
        )
        for name in names
        for task in find_model(name).tasks
    ]


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


def test_answers_are_alike_alone_reloaded_channels_last_and_roughly_in_bf16(case: Case) -> None:
    """One model, emptied, loaded and laid out anew, reads the first clip alone: whatever is not alike shows there."""
    model, clips = case.model.eval(), case.clips
    other = copy.deepcopy(model)
    for value in other.state_dict().values():
        value.fill_(1)
    other.load_state_dict(model.state_dict())
    other = use_channels_last(other, everywhere=True)
    with torch.no_grad():
        logits, features, _ = model(clips)
        first = other(clips[:1]).logits
        with torch.autocast("cpu", torch.bfloat16):
            in_bf16 = model(clips[:1]).logits
    steps = (clips.shape[2],) if case.task == "frame" else ()
    assert logits.shape == (BATCH_SIZE, *steps, NUM_CLASSES)
    assert features.shape == (BATCH_SIZE, *steps, model.feature_dim)
    if case.spec.name.endswith(".avg"):  # a recurrent pooling saturates behind untrained depth
        assert not torch.equal(logits[0], logits[1])
    reloaded = other.state_dict()
    assert all(torch.equal(value, reloaded[name]) for name, value in model.state_dict().items())
    assert_close(first, logits[:1], relative=1e-4)
    assert in_bf16.isfinite().all()
    assert_close(in_bf16, logits[:1], relative=0.4)  # 101 random layers amplify the rounding


def test_gradients_reach_every_parameter(case: Case) -> None:
    case.model.train()
    gradients = []
    for _ in range(2 if case.is_small else 1):
        torch.manual_seed(1)
        logits = case.model(case.clips).logits
        (logits * torch.randn(logits.shape)).sum().backward()
        gradients.append([parameter.grad for parameter in case.model.parameters()])
        case.model.zero_grad()
    dead = [
        name
        for (name, _), gradient in zip(case.model.named_parameters(), gradients[0], strict=True)
        if not name.endswith(NEVER_LEARNS) and (gradient is None or not gradient.any() or not gradient.isfinite().all())
    ]
    assert dead == []
    assert all(torch.equal(a, b) for a, b in zip(gradients[0], gradients[-1], strict=True))


def test_gradients_are_finite_in_bf16(case: Case) -> None:
    case.model.train()
    with torch.autocast("cpu", torch.bfloat16):
        case.model(case.clips).logits.float().square().mean().backward()
    gradients = [parameter.grad for parameter in case.model.parameters()]
    case.model.zero_grad()
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients)


def test_the_shortest_clip_is_read_and_a_shorter_one_refused(case: Case) -> None:
    case.model.eval()
    backbone = case.model.backbone
    min_frames = backbone.min_frames if isinstance(backbone, ClipNetwork) else 1
    shortest = max(min_frames, 8 if "late" in case.spec.name else 1)
    if case.any_length:
        with torch.no_grad():
            assert case.model(case.clips_of(shortest)).logits.isfinite().all()
    if min_frames > 1:
        with pytest.raises(ParamsError, match=f"at least {min_frames} frames"):
            case.model(case.clips_of(min_frames - 1))


def test_padding_changes_no_answer(case: Case) -> None:
    if not case.spec.padded:
        with pytest.raises(ParamsError, match="cannot leave padding out"):
            case.model(case.clips, torch.full((BATCH_SIZE,), 1))
        return
    clips, lengths_B = case.clips_of(4), torch.tensor([2, 4])
    case.model.eval()
    with torch.no_grad():
        padded, longest = case.model(clips, lengths_B).logits
        alone = case.model(clips[:1, :, :2]).logits[0]
        assert_close(padded[:2] if case.task == "frame" else padded, alone, relative=1e-4)
        assert_close(longest, case.model(clips[1:]).logits[0], relative=1e-4)
        if case.task == "clip" and not case.spec.name.endswith(".none"):
            # Without the lengths it would be another answer.
            assert not torch.allclose(case.model(clips[:1]).logits[0], padded, rtol=1e-4)


def test_frames_answered_one_by_one_are_those_of_the_whole_clip(case: Case) -> None:
    case.model.eval()
    reason = why_no_stream(case.model)
    if reason:
        with pytest.raises(ParamsError, match=f"cannot stream: {reason}"):
            FrameStream(case.model)
        return
    assert case.task == "frame"
    clips = case.clips_of(6)
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


def test_every_backbone_and_every_pooling_runs_by_default() -> None:
    names = default_models()
    assert {name.partition(".")[0] for name in names} == {spec.name for spec in BACKBONES}
    assert {name.partition(".")[2] for name in names} == {spec.name for spec in POOLINGS}
    assert len(sampled_models()) == NUM_SAMPLED * len(BACKBONES) - 1  # one backbone has a single pooling


@pytest.mark.soak
@pytest.mark.parametrize("spec", BACKBONES, ids=lambda spec: spec.name)
def test_every_combination_answers(spec: BackboneSpec) -> None:
    """Every pooling behind one backbone of each task, whose weights they share, so that all of them take minutes."""
    torch.manual_seed(0)
    models = [model for model in list_models() if backbone_name(model) == spec.name]
    assert len(models) == len(spec.poolings)
    for task in spec.tasks:
        backbone = spec.build(in_channels_of(spec), task, options_of(spec.options, num_steps=0)).eval()
        clips = make_clips(spec.name, backbone, in_channels_of(spec), num_frames_of(backbone))
        with torch.no_grad():
            maps_BDTHW = backbone(clips)
        for model in models:
            if task not in model.tasks:
                continue
            pooling_spec = next(pooling for pooling in POOLINGS if model.name == f"{spec.name}.{pooling.name}")
            options = options_of(pooling_spec.options, num_steps=maps_BDTHW.shape[2])
            pooling = pooling_spec.build(maps_BDTHW.shape[1], task, options)
            whole = VideoClassifier(
                name=model.name,
                task=task,
                backbone=backbone,
                pooling=pooling,
                head=LinearHead(feature_dim=pooling.feature_dim, num_classes=NUM_CLASSES, dropout=0.0),
                in_channels=in_channels_of(spec),
                num_classes=NUM_CLASSES,
            ).eval()
            with torch.no_grad():
                logits = whole(clips).logits
            steps = (clips.shape[2],) if task == "frame" else ()
            assert logits.shape == (BATCH_SIZE, *steps, NUM_CLASSES), model.name
            assert logits.isfinite().all(), model.name
