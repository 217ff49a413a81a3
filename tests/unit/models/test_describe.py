import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from kineflow.models.describe import describe_model
from kineflow.models.registry import create_model
from kineflow.models.specs import Task
from kineflow.models.torchvision_compat import declare_missing_torchvision_ops
from kineflow.models.zoo import BACKBONES


def test_macs_by_hand_on_a_linear_probe() -> None:
    model = create_model("embedding.none", num_classes=3, in_channels=7, task="frame")
    size = describe_model(model, num_frames=5, height_px=1, width_px=1)
    assert (size.num_parameters, size.num_trainable, size.feature_dim) == (7 * 3 + 3, 24, 7)
    assert size.macs_by_kind == {
        "convolution": 0,
        "linear": 5 * 7 * 3,
        "recurrent": 0,
        "attention": 0,
        "elementwise": 0,
    }
    assert size.input_CTHW == (7, 5, 1, 1)


def test_macs_by_hand_on_an_lstm() -> None:
    options = {"hidden_dim": 4, "num_layers": 2, "bidirectional": True}
    model = create_model("embedding.lstm", num_classes=3, in_channels=7, task="clip", options=options)
    size = describe_model(model, num_frames=5, height_px=1, width_px=1)
    first, second = 2 * 4 * 4 * (7 + 4), 2 * 4 * 4 * (8 + 4)  # directions x gates x hidden x (input + hidden)
    assert size.macs_by_kind["recurrent"] == 5 * (first + second)
    assert size.macs == 5 * (first + second) + 8 * 3


def test_macs_by_hand_on_a_small_3d_network() -> None:
    options = {"width": 2, "stem_stride_px": 2}
    model = create_model("r3d_mini.avg", num_classes=3, in_channels=1, task="clip", options=options)
    size = describe_model(model, num_frames=4, height_px=16, width_px=16)
    stem = 4 * 8 * 8 * 2 * (1 * 3 * 5 * 5)
    stage1 = 4 * 8 * 8 * 2 * (2 * 27) * 2
    stage2 = 2 * 4 * 4 * 4 * (2 * 27 + 4 * 27 + 2)
    stage3 = 1 * 2 * 2 * 8 * (4 * 27 + 8 * 27 + 4)
    assert size.macs_by_kind["convolution"] == stem + stage1 + stage2 + stage3
    norms = 2 * 256 * 2 * 3 + 2 * 32 * 4 * 3 + 2 * 4 * 8 * 3  # twice the elements of three norms a stage
    relus = 256 * 2 * 3 + 32 * 4 * 2 + 4 * 8 * 2
    averaged = 1 * 2 * 2 * 8  # over space
    assert size.macs_by_kind["elementwise"] == norms + relus + averaged
    assert size.macs_as_published == size.macs + norms + relus + averaged


@pytest.mark.parametrize(
    ("name", "task"),
    [
        ("resnet10_tiny.bert", "clip"),
        ("resnet18.bert", "frame"),
        ("r3d_mini.avg", "frame"),
        ("r3d_18.avg", "clip"),
        ("modified_resnet50_nl.avg", "clip"),
    ],
)
def test_macs_equal_half_of_torchs_own_flops(name: str, task: Task) -> None:
    model = create_model(name, num_classes=5, in_channels=2, task=task).eval()
    size = describe_model(model, num_frames=16, height_px=48, width_px=32)
    # Torch counts attention only where it is not one fused kernel.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, 2, 16, 48, 32))
    assert size.macs == counter.get_total_flops() / 2


# Billions of multiply-accumulates that torchvision 0.28 publishes with its weights (`_ops`), and at which clip: the
# sizes of its crops and of the clips that its reference scripts sample.
TORCHVISION = [
    ("resnet18.none", 1, 224, 1.814),
    ("resnet34.none", 1, 224, 3.664),
    ("resnet50.none", 1, 224, 4.089),
    ("resnet101.none", 1, 224, 7.801),
    ("vgg13.none", 1, 224, 11.308),
    ("inception_v3.none", 1, 299, 5.713),
    ("r3d_18.avg", 16, 112, 40.697),
    ("mc3_18.avg", 16, 112, 43.343),
    ("r2plus1d_18.avg", 16, 112, 40.519),
    ("s3d.avg", 16, 224, 17.979),
    ("swin3d_t.avg", 16, 224, 43.882),
    ("swin3d_s.avg", 16, 224, 82.841),
    ("swin3d_b.avg", 16, 224, 140.667),
    ("mvit_v2_s.avg", 16, 224, 64.224),
]


@pytest.mark.parametrize(("name", "num_frames", "side_px", "published_G"), TORCHVISION)
def test_macs_are_those_that_torchvision_publishes(
    name: str, num_frames: int, side_px: int, published_G: float
) -> None:
    with torch.device("meta"):
        model = create_model(name, num_classes=400, in_channels=3, task="clip")
    size = describe_model(model, num_frames=num_frames, height_px=side_px, width_px=side_px)
    # Ours has no fully connected layers behind vgg13: 124 of its 11,308 million.
    assert size.macs / 1e9 == pytest.approx(published_G, rel=0.012 if name.startswith("vgg") else 0.001)


def test_each_model_that_torchvision_has_too_is_compared() -> None:
    compared = {name.partition(".")[0] for name, *_ in TORCHVISION}
    declare_missing_torchvision_ops()
    from torchvision.models import get_model_weights, list_models

    ours = {spec.name for spec in BACKBONES} & set(list_models())
    assert compared == ours
    published = {name.partition(".")[0]: macs_G for name, _, _, macs_G in TORCHVISION}
    assert published == {name: next(iter(get_model_weights(name))).meta["_ops"] for name in ours}


def test_describing_leaves_the_model_as_it_was() -> None:
    model = create_model("resnet10_tiny.avg", num_classes=5, in_channels=3, task="clip").train()
    next(model.parameters()).requires_grad_(False)
    size = describe_model(model, num_frames=2, height_px=32, width_px=32)
    assert size.num_parameters - size.num_trainable == next(model.parameters()).numel()
    assert model.training
    assert {parameter.device.type for parameter in model.parameters()} == {"cpu"}
    assert not any(module._forward_hooks for module in model.modules())
