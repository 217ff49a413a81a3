"""What one clip costs each backbone of the zoo, and ours against the same model of torchvision or timm.

Seconds are those of the processor on one thread, so that a busy machine does not show. A clip is the one at which
`kineflow models` counts the backbone; a 2D backbone reads its frames as one batch.
"""

import copy
import gc
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn

from benchmarks.timing import Comparison, compare, elapsed_sec
from kineflow.models.catalogue import NUM_CLASSES, describe_models, fitting_options
from kineflow.models.classifier import VideoClassifier
from kineflow.models.layout import use_channels_last
from kineflow.models.registry import create_model, find_model
from kineflow.models.specs import Task
from kineflow.models.torchvision_compat import declare_missing_torchvision_ops
from kineflow.models.zoo import BACKBONES, POOLINGS
from kineflow.training.precision import autocast
from kineflow.training.recipe import Precision

Layout = Literal["contiguous", "chosen"]
Pass = Literal["forward", "both"]

BUDGET_SEC = 600.0
MAX_ROUNDS = 4
BEHIND_POOLINGS = "resnet10_tiny"  # each pooling is measured behind this one
MATRIX_SIDE = 2048
SMALL_FRAMES = (3, 2, 112, 112)  # of one clip, where ours is compared with another's
SMALL_CLIP = (3, 8, 64, 64)
TORCHVISION = {
    "resnet18": SMALL_FRAMES,
    "resnet34": SMALL_FRAMES,
    "resnet50": SMALL_FRAMES,
    "resnet101": SMALL_FRAMES,
    "r3d_18": SMALL_CLIP,
    "mc3_18": SMALL_CLIP,
    "r2plus1d_18": SMALL_CLIP,
    "s3d": (3, 16, 224, 224),  # the smallest clip that torchvision's reads
    "swin3d_t": SMALL_CLIP,
    "swin3d_s": SMALL_CLIP,
    "swin3d_b": SMALL_CLIP,
    "mvit_v2_s": (3, 16, 224, 224),  # the only one that torchvision's reads
    "vgg13": SMALL_FRAMES,
}
TIMM = {"inception_v3": (3, 2, 149, 149), "inception_resnet_v2": (3, 2, 149, 149)}


class Variant(NamedTuple):
    """One way to run a model."""

    precision: Precision
    layout: Layout
    passes: Pass


# The first two are always measured; a model whose share of the budget is spent has no others.
NUM_ALWAYS = 2
VARIANTS = (
    Variant("bf16", "chosen", "forward"),
    Variant("fp32", "chosen", "forward"),
    Variant("bf16", "chosen", "both"),
    Variant("fp32", "chosen", "both"),
    Variant("fp32", "contiguous", "both"),
    Variant("bf16", "contiguous", "both"),
    Variant("fp32", "contiguous", "forward"),
    Variant("bf16", "contiguous", "forward"),
)


@dataclass(frozen=True)
class Cost:
    """What one clip costs a model in one precision, laid out contiguously or as `use_channels_last` does for it.

    Args:
        model: `backbone.pooling`.
        input_CTHW: the clip.
        macs: of one forward pass.
        precision: `fp32`, or `bf16` by autocast.
        sec: median seconds of each layout and pass that was measured; backward includes forward.
        matrix_flops: operations a second of a large matrix product in this precision, in the same minute.
    """

    header: ClassVar[tuple[str, ...]] = (
        "model",
        "clip",
        "GMACs",
        "precision",
        "forward, contiguous",
        "as we lay it out",
        "and backward, contiguous",
        "as we lay it out",
        "GFLOP/s forward",
        "of a matrix product",
    )

    model: str
    input_CTHW: tuple[int, ...]
    macs: int
    precision: Precision
    sec: Mapping[tuple[Pass, Layout], float]
    matrix_flops: float

    @property
    def flops(self) -> float:
        """Operations a second, forward, in the faster layout: two for each multiply-accumulate."""
        return 2 * self.macs / min(sec for (passes, _), sec in self.sec.items() if passes == "forward")

    @property
    def cells(self) -> tuple[str, ...]:
        """As `header` names them; a dash where nothing was measured."""
        layouts: tuple[Layout, ...] = ("contiguous", "chosen")
        keys = [(passes, layout) for passes in ("forward", "both") for layout in layouts]
        return (
            self.model,
            "x".join(map(str, self.input_CTHW)),
            f"{self.macs / 1e9:.2f}",
            self.precision,
            *(f"{1000 * self.sec[key]:,.1f} ms" if key in self.sec else "-" for key in keys),  # type: ignore[index]
            f"{self.flops / 1e9:.0f}",
            f"{self.flops / self.matrix_flops:.0%}",
        )


def main(budget_sec: float = BUDGET_SEC) -> list[Cost | Comparison]:
    """Print what each backbone and each pooling costs, and the ratios to other people's same models.

    Args:
        budget_sec: by the clock on the wall, about. Less leaves out rounds and then layouts.
    """
    torch.set_num_threads(1)
    until = time.monotonic() + budget_sec
    with_pooling = [f"{BEHIND_POOLINGS}.{pooling.name}" for pooling in POOLINGS]
    names = dict.fromkeys([*(model_of(spec.name) for spec in BACKBONES), *with_pooling])
    return [*compare_with_others(), *measure_costs([name for name in names if _exists(name)], until=until)]


def model_of(backbone_name: str) -> str:
    """A backbone with the average over time, or with its first pooling where it does not go with that."""
    (spec,) = (spec for spec in BACKBONES if spec.name == backbone_name)
    return f"{backbone_name}.{'avg' if 'avg' in spec.poolings else spec.poolings[0]}"


def measure_costs(names: list[str], *, until: float) -> list[Cost]:
    """Measure models, each in its share of the time that is left: by its multiply-accumulates, and some for each."""
    entries = [describe_models(name)[0] for name in names]
    weights = [entry.macs + 5e8 for entry in entries]
    costs = []
    for index, entry in enumerate(entries):
        share = weights[index] / sum(weights[index:])
        share_sec = share * max(until - time.monotonic(), 0)
        found = measure_cost(entry.name, entry.input_CTHW, entry.macs, entry.tasks[0], share_sec=share_sec)
        for cost in found:
            print("  ".join(cost.cells), flush=True)
        costs += found
        gc.collect()
    return costs


def measure_cost(
    name: str, input_CTHW: tuple[int, ...], macs: int, task: Task, *, share_sec: float
) -> tuple[Cost, ...]:
    """Run the variants in turn, again and again, until the share of the time is over."""
    started = time.monotonic()
    model = make_model(name, task, input_CTHW)
    models: dict[tuple[Precision, Layout], VideoClassifier] = {
        ("fp32", "contiguous"): model,
        ("bf16", "contiguous"): model,
        ("fp32", "chosen"): use_channels_last(copy.deepcopy(model), everywhere=False),
        ("bf16", "chosen"): use_channels_last(copy.deepcopy(model), everywhere=True),
    }
    clip = torch.randn(1, *input_CTHW)
    clips: dict[Layout, Tensor] = {
        "contiguous": clip,
        "chosen": clip.contiguous(memory_format=torch.channels_last_3d),
    }
    rounds: dict[Variant, list[float]] = {}
    matrix_sec: dict[Precision, list[float]] = {"fp32": [], "bf16": []}
    products = {precision: matrix_product(precision) for precision in matrix_sec}
    for _ in range(MAX_ROUNDS):
        for precision, seconds in matrix_sec.items():
            seconds.append(elapsed_sec(products[precision], clock=time.process_time))
        for variant in VARIANTS:
            if time.monotonic() - started > share_sec and (variant in rounds or variant not in VARIANTS[:NUM_ALWAYS]):
                continue
            run = one_pass(
                models[variant.precision, variant.layout], clips[variant.layout], variant.precision, variant.passes
            )
            rounds.setdefault(variant, []).append(elapsed_sec(run, clock=time.process_time))
    return tuple(
        Cost(
            name,
            input_CTHW,
            macs,
            precision,
            {(v.passes, v.layout): _settled(sec) for v, sec in rounds.items() if v.precision == precision},
            2 * MATRIX_SIDE**3 / _settled(matrix_sec[precision]),
        )
        for precision in matrix_sec
    )


def make_model(name: str, task: Task, input_CTHW: tuple[int, ...]) -> VideoClassifier:
    """The model of seed 0, with as many steps as its clip has."""
    torch.manual_seed(0)
    options = fitting_options(name, task, num_frames=input_CTHW[1])
    return create_model(name, num_classes=NUM_CLASSES, in_channels=input_CTHW[0], task=task, options=options)


def one_pass(model: nn.Module, clip: Tensor, precision: Precision, passes: Pass) -> Callable[[], object]:
    """A forward pass in eval mode, or forward and backward in training mode, of one clip."""

    def forward() -> object:
        model.eval()
        with torch.no_grad(), autocast(clip.device, precision):
            return model(clip)

    def both() -> None:
        model.train()
        with autocast(clip.device, precision):
            answer = model(clip)
        logits = answer if isinstance(answer, Tensor) else answer[0]
        logits.float().sum().backward()
        model.zero_grad(set_to_none=True)

    return forward if passes == "forward" else both


def matrix_product(precision: Precision) -> Callable[[], object]:
    """The product of two large square matrices."""
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    left, right = (torch.randn(MATRIX_SIDE, MATRIX_SIDE).to(dtype) for _ in range(2))
    return lambda: left @ right


def compare_with_others(*, max_sec: float = 3.0) -> list[Comparison]:
    """Forward and backward of one small clip in fp32: ours with `avg` against the same network with its own head."""
    comparisons = []
    for library, shapes in (("torchvision", TORCHVISION), ("timm", TIMM)):
        for arch, input_CTHW in shapes.items():
            ours = make_model(f"{arch}.avg", "clip", input_CTHW)
            reference = theirs(library, arch)
            clip = torch.randn(1, *input_CTHW)
            their_clip = clip if find_model(f"{arch}.avg").input == "3d" else clip[0].transpose(0, 1).contiguous()
            passes: tuple[Pass, ...] = ("forward", "both")
            comparisons += [
                compare(
                    f"{arch}, {'forward' if one == 'forward' else 'and backward'}; {library}'s",
                    one_pass(ours, clip, "fp32", one),
                    one_pass(reference, their_clip, "fp32", one),
                    num_rounds=9,
                    max_sec=max_sec,
                    clock=time.process_time,
                )
                for one in passes
            ]
    return comparisons


def theirs(library: str, arch: str) -> nn.Module:
    """The same network, as its library builds it, with as many classes."""
    declare_missing_torchvision_ops()
    torch.manual_seed(0)
    if library == "timm":
        import timm

        made: nn.Module = timm.create_model(arch, num_classes=NUM_CLASSES)
        return made
    from torchvision.models import get_model

    model: nn.Module = get_model(arch, weights=None, num_classes=NUM_CLASSES)
    if arch == "vgg13":
        model.classifier = nn.Linear(512 * 7 * 7, NUM_CLASSES)  # ours goes without its fully connected layers
    return model


def _settled(seconds: list[float]) -> float:
    """The median, without the first where there are others: it includes what is prepared once."""
    return statistics.median(seconds[1:] or seconds)


def _exists(name: str) -> bool:
    backbone_name, _, pooling_name = name.partition(".")
    (spec,) = (spec for spec in BACKBONES if spec.name == backbone_name)
    return pooling_name in spec.poolings


if __name__ == "__main__":
    main()
