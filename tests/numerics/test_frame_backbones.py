"""2D backbones and temporal shift against torchvision, timm, published figures and hand-computed values."""

from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from kineflow.errors import ParamsError
from kineflow.models.backbones.fused_resnet import build_fused_resnet, build_reduced_resnet
from kineflow.models.backbones.resnet50v2 import build_resnet50v2
from kineflow.models.backbones.tsm import build_tsm_resnet, shift_channels
from kineflow.models.registry import create_model
from kineflow.models.specs import BackboneSpec
from kineflow.models.torchvision_compat import declare_missing_torchvision_ops
from kineflow.models.weights import load_weights
from kineflow.models.zoo import BACKBONES

declare_missing_torchvision_ops()


@pytest.fixture(autouse=True)
def one_thread() -> object:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def spread_norms(network: nn.Module) -> None:
    """Give batch norms statistics other than 0 and 1, so that a skipped one shows."""
    generator = torch.Generator().manual_seed(2)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.copy_(torch.randn(module.num_features, generator=generator) * 0.1)
            module.running_var.copy_(torch.rand(module.num_features, generator=generator) + 0.5)


@pytest.mark.parametrize(("arch", "side_px"), [("vgg13", 40), ("inception_v3", 80)])
def test_backbones_equal_torchvisions(arch: str, side_px: int, tmp_path: Path) -> None:
    import torchvision

    torch.manual_seed(0)
    arguments = {"aux_logits": False, "transform_input": True} if arch == "inception_v3" else {}
    theirs = torchvision.models.get_model(arch, weights=None, init_weights=False, **arguments).eval()
    spread_norms(theirs)
    torch.save(theirs.state_dict(), tmp_path / "theirs.pth")
    ours = create_model(f"{arch}.avg", num_classes=6, in_channels=3, task="clip").eval()
    report = load_weights(ours, str(tmp_path / "theirs.pth"))
    assert report.missing == ("head.classifier.weight", "head.classifier.bias")
    assert all(name.startswith(("fc.", "classifier.")) for name in report.unused)
    clips_BCTHW = torch.randn(1, 3, 2, side_px, side_px)
    frames_NCHW = clips_BCTHW[0].transpose(0, 1)
    if arch == "vgg13":
        theirs_end: nn.Module = theirs.features
    else:
        theirs.dropout = theirs.fc = nn.Identity()
        theirs_end = theirs
    with torch.no_grad():
        maps_DTHW = ours.backbone(clips_BCTHW)[0]
        expected = theirs_end(frames_NCHW)
        ours_end = maps_DTHW.transpose(0, 1) if arch == "vgg13" else maps_DTHW.mean(dim=(2, 3)).T
        torch.testing.assert_close(ours_end, expected, rtol=1e-4, atol=1e-5 * expected.abs().max().item())


def test_inception_resnet_v2_equals_timms(tmp_path: Path) -> None:
    import timm

    torch.manual_seed(0)
    theirs = timm.create_model("inception_resnet_v2", num_classes=0).eval()
    published = timm.models.get_pretrained_cfg("inception_resnet_v2.tf_in1k")
    assert published.mean == published.std == (0.5, 0.5, 0.5)
    spread_norms(theirs)
    torch.save(theirs.state_dict(), tmp_path / "theirs.pth")
    ours = create_model("inception_resnet_v2.avg", num_classes=6, in_channels=3, task="clip").eval()
    report = load_weights(ours, str(tmp_path / "theirs.pth"))
    assert report.missing == ("head.classifier.weight", "head.classifier.bias")
    clips_BCTHW = torch.randn(1, 3, 1, 80, 80)
    with torch.no_grad():
        imagenet_mean, imagenet_std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
        pixels_BHWC = clips_BCTHW[:, :, 0].permute(0, 2, 3, 1) * imagenet_std + imagenet_mean
        expected = theirs(((pixels_BHWC - 0.5) / 0.5).permute(0, 3, 1, 2))  # as its configuration says
        torch.testing.assert_close(
            ours(clips_BCTHW).features, expected, rtol=1e-4, atol=1e-5 * expected.abs().max().item()
        )


def test_inception_refuses_small_frames() -> None:
    model = create_model("inception_v3.avg", num_classes=6, in_channels=3, task="clip")
    with pytest.raises(ParamsError, match="at least 75x75 px, not 60x80"):
        model(torch.zeros(1, 3, 1, 60, 80))


def test_resnet50v2_has_the_size_that_keras_publishes() -> None:
    """23,564,800 without the classes, the running means and variances among them; as Keras's summary counts."""
    network = build_resnet50v2(in_channels=3)
    statistics = [buffer for name, buffer in network.named_buffers() if not name.endswith("num_batches_tracked")]
    assert sum(tensor.numel() for tensor in (*network.parameters(), *statistics)) == 23_564_800


def test_resnet50v2_blocks_equal_timms_but_for_strides_and_biases() -> None:
    import timm

    torch.manual_seed(0)
    theirs = timm.create_model("resnetv2_50").eval().stages[0].blocks[:2]
    ours = build_resnet50v2(in_channels=3).eval().network.stages[0][:2]
    with torch.no_grad():
        for a, b in zip(ours, theirs, strict=True):
            for mine, other in (("preact_bn", "norm1"), ("bn1", "norm2"), ("bn2", "norm3")):
                norm, original = getattr(a, mine), getattr(b, other)
                norm.running_mean.normal_()
                norm.weight.uniform_(0.5, 1.5)
                for name in ("weight", "bias", "running_mean", "running_var"):
                    getattr(original, name).copy_(getattr(norm, name))
                original.eps = norm.eps
            for name in ("conv1", "conv2", "conv3"):
                getattr(b, name).weight.copy_(getattr(a, name).weight)
            a.conv3.bias.zero_()
            if a.projects:
                a.shortcut.bias.zero_()
                b.downsample.conv.weight.copy_(a.shortcut.weight)
        x_NCHW = torch.randn(2, 64, 7, 6)
        torch.testing.assert_close(ours(x_NCHW.clone()), theirs(x_NCHW.clone()), rtol=1e-4, atol=1e-4)


def test_resnet50v2_halves_the_image_at_the_end_of_a_stage() -> None:
    network = build_resnet50v2(in_channels=3).network
    strides = [[block.conv2.stride[0] for block in stage] for stage in network.stages]
    assert strides == [[1, 1, 2], [1, 1, 1, 2], [1] * 5 + [2], [1, 1, 1]]
    block = network.stages[0][2]
    x_NCHW = torch.arange(16.0).reshape(1, 1, 4, 4)
    assert block.shortcut(x_NCHW).flatten().tolist() == [0, 2, 8, 10]  # every second pixel, no maximum


@pytest.mark.parametrize(("num_stages", "layers"), [(2, (3, 4)), (3, (2, 3, 4)), (4, (1, 2, 3, 4))])
def test_fused_features_are_the_means_of_the_stages(num_stages: int, layers: tuple[int, ...]) -> None:
    from torchvision.models import resnet18
    from torchvision.models.feature_extraction import create_feature_extractor

    torch.manual_seed(0)
    theirs = resnet18(weights=None).eval()
    ours = build_fused_resnet("resnet18", in_channels=3, num_stages=num_stages).eval()
    ours.network.load_state_dict({k: v for k, v in theirs.state_dict().items() if not k.startswith("fc.")})
    clips_BCTHW = torch.randn(1, 3, 2, 40, 48)
    with torch.no_grad():
        stages = create_feature_extractor(theirs, [f"layer{layer}" for layer in layers])(clips_BCTHW[0].transpose(0, 1))
        expected_TD = torch.cat([stages[f"layer{layer}"].mean(dim=(2, 3)) for layer in layers], dim=1)
        maps_BDTHW = ours(clips_BCTHW)
    assert maps_BDTHW.shape == (1, ours.feature_dim, 2, 1, 1)
    torch.testing.assert_close(maps_BDTHW[0, :, :, 0, 0].T, expected_TD, rtol=1e-4, atol=1e-5)


def test_frmb_replaces_the_last_block_of_resnet101() -> None:
    reduced = build_reduced_resnet("resnet101", in_channels=3)
    last = reduced.network.layer4[-1]
    widths = [2048, 256, 256, 512]
    kernels = [1, 9, 1]
    convs = sum(a * b * k for (a, b), k in zip(pairwise(widths), kernels, strict=True)) + 2048 * 512
    norms = 2 * (256 + 256 + 512 + 512)
    assert sum(parameter.numel() for parameter in last.parameters()) == convs + norms
    replaced = 2048 * 512 + 9 * 512 * 512 + 512 * 2048 + 2 * (512 + 512 + 2048)
    whole = 44_549_160 - 2048 * 1000 - 1000  # torchvision's resnet101, without its classes
    assert sum(parameter.numel() for parameter in reduced.parameters()) == whole - replaced + convs + norms


def test_shift_by_hand() -> None:
    """Three frames of one pixel with four channels; one channel forwards, one backwards."""
    x_BTCHW = torch.tensor([[11.0, 12, 13, 14], [21, 22, 23, 24], [31, 32, 33, 34]])[None, :, :, None, None]

    def shifted(*, before: Tensor | None = None, both_ways: bool) -> list[list[float]]:
        moved = shift_channels(x_BTCHW, num_channels=1, before_B1CHW=before, both_ways=both_ways)
        return moved[0, :, :, 0, 0].tolist()

    assert shifted(both_ways=True) == [[0, 22, 13, 14], [11, 32, 23, 24], [21, 0, 33, 34]]
    assert shifted(both_ways=False) == [[0, 12, 13, 14], [11, 22, 23, 24], [21, 32, 33, 34]]
    before = torch.full((1, 1, 1, 1, 1), 5.0)
    assert shifted(before=before, both_ways=False)[0] == [5, 12, 13, 14]


@pytest.mark.parametrize("place", ["residual", "in_place", "online"])
def test_a_shifted_block_equals_a_slow_one(place: str) -> None:
    torch.manual_seed(0)
    network = build_tsm_resnet("resnet18", in_channels=3, place=place).eval().network  # type: ignore[arg-type]
    block = network.layer1[0]
    frames_NCHW = torch.randn(2 * 3, 64, 5, 4).relu()
    block.shift.num_frames = 3
    x_BTCHW = frames_NCHW.unflatten(0, (2, 3))
    shifted = x_BTCHW.clone()
    for clip in range(2):
        for frame in range(3):
            shifted[clip, frame, :8] = x_BTCHW[clip, frame - 1, :8] if frame > 0 else 0
            if place != "online":
                shifted[clip, frame, 8:16] = x_BTCHW[clip, frame + 1, 8:16] if frame < 2 else 0
    read = shifted.flatten(0, 1)
    shortcut = read if place == "in_place" else frames_NCHW
    with torch.no_grad():
        plain = nn.functional.conv2d(read, block.conv1.weight, padding=1)
        residual = block.bn2(block.conv2(block.bn1(plain).relu()))
        torch.testing.assert_close(block(frames_NCHW.clone()), (residual + shortcut).relu(), rtol=1e-4, atol=1e-5)


def receptive_frames(spec: BackboneSpec, *, num_frames: int) -> int:
    torch.manual_seed(0)
    backbone = spec.build(2, "frame", spec.options).eval()
    clip = torch.randn(1, 2, num_frames, 32, 32, requires_grad=True)
    backbone(clip)[0, :, num_frames // 2].sum().backward()
    return int((clip.grad.abs().amax(dim=(0, 1, 3, 4)) > 0).sum())


@pytest.mark.parametrize(
    "name",
    [
        "tsm_resnet18",
        "tsm_resnet18_online",
        "tsm_resnet18_in_place",
        "resnet10_tiny",
        pytest.param("tsm_resnet50", marks=pytest.mark.soak),
        pytest.param("tsm_resnet50_online", marks=pytest.mark.soak),
    ],
)
def test_a_backbone_sees_as_many_frames_as_it_says(name: str) -> None:
    (spec,) = (spec for spec in BACKBONES if spec.name == name)
    assert receptive_frames(spec, num_frames=37 if "50" in name else 21) == spec.receptive_frames


def test_pixels_are_read_channel_by_channel_and_row_by_row() -> None:
    model = create_model("pixels.avg", num_classes=2, in_channels=3, task="clip", options={"side_px": 2})
    clips = torch.arange(24.0).reshape(1, 3, 2, 2, 2)  # channels of two frames of four pixels
    steps_TD = model.flatten(model.backbone(clips))[0].tolist()
    assert steps_TD == [[0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19], [4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23]]
    with pytest.raises(ParamsError, match="frames of 2x2 px, not 4x2: crop frames"):
        model(torch.zeros(1, 3, 1, 4, 2))
