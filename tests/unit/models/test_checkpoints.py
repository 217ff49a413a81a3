"""Public checkpoints of 3D networks: names and shapes as their own code makes them, and the answers that must come out.

Names and shapes are facts of these files:
- 3D ResNets: https://github.com/kenshohara/3D-ResNets-PyTorch/blob/26632d5326ff13389855262188c47eaa8690a4e8/models/resnext.py
  and https://github.com/kenshohara/3D-ResNets-PyTorch/blob/2031c322dd31997aec7fa4c84a16951be7e7b751/models/resnet.py
- IG65M: https://github.com/moabitcoin/ig65m-pytorch/blob/56b7e9d52e20fd513e3176f749524c2b792efa92/ig65m/models.py
- I3D: https://github.com/piergiaj/pytorch-i3d/blob/b49fadf943fc9b6fdadb29c677443ea95fbda9b0/pytorch_i3d.py
- PySlowFast:
  https://github.com/facebookresearch/SlowFast/blob/673ded3ff9abe1455ab8165011e104326babad26/slowfast/models/stem_helper.py
  https://github.com/facebookresearch/SlowFast/blob/10a1bcb9d7a6b0d949dbd48f4dfea00dfdd89e59/slowfast/models/resnet_helper.py
  https://github.com/facebookresearch/SlowFast/blob/00eb2b4c2fbcd45f771ff755c81dbdbed52a315b/slowfast/models/video_model_builder.py
- pytorchvideo:
  https://github.com/facebookresearch/pytorchvideo/blob/124e1323b52231c3bf6d14b2957fbad9ca8313b9/pytorchvideo/models/slowfast.py
  https://github.com/facebookresearch/pytorchvideo/blob/124e1323b52231c3bf6d14b2957fbad9ca8313b9/pytorchvideo/models/x3d.py
  https://github.com/facebookresearch/fvcore/blob/242366fe5c3a649c089c5e266afaa31896cf325a/fvcore/nn/squeeze_excitation.py
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from kineflow.models.classifier import VideoClassifier
from kineflow.models.registry import create_model
from kineflow.models.weights import WeightsReport, inflate_kernel, load_weights

Shapes = dict[str, tuple[int, ...]]
NORM_PARTS = ("weight", "bias", "running_mean", "running_var")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def norm(name: str, channels: int) -> Shapes:
    return {**{f"{name}.{part}": (channels,) for part in NORM_PARTS}, f"{name}.num_batches_tracked": ()}


def resnext_101(num_classes: int) -> Shapes:
    shapes: Shapes = {"conv1.weight": (64, 3, 7, 7, 7), **norm("bn1", 64)}
    channels = 64
    for layer, (num_blocks, planes) in enumerate(((3, 128), (4, 256), (23, 512), (3, 1024)), start=1):
        for index in range(num_blocks):
            block = f"layer{layer}.{index}"
            shapes |= {f"{block}.conv1.weight": (planes, channels, 1, 1, 1), **norm(f"{block}.bn1", planes)}
            shapes |= {f"{block}.conv2.weight": (planes, planes // 32, 3, 3, 3), **norm(f"{block}.bn2", planes)}
            shapes |= {f"{block}.conv3.weight": (2 * planes, planes, 1, 1, 1), **norm(f"{block}.bn3", 2 * planes)}
            if index == 0:
                shapes |= {f"{block}.downsample.0.weight": (2 * planes, channels, 1, 1, 1)}
                shapes |= norm(f"{block}.downsample.1", 2 * planes)
            channels = 2 * planes
    return {**shapes, "fc.weight": (num_classes, 2048), "fc.bias": (num_classes,)}


def resnet_50(num_classes: int, *, temporal: int) -> Shapes:
    """3D of 3x3x3 where `temporal` is 3; torchvision's 2D names and shapes where it is 0."""
    time = (temporal,) if temporal else ()
    one, three = ((1,) * (2 + len(time))), (*time, 3, 3)
    stem = (64, 3, 7, 7, 7) if temporal else (64, 3, 7, 7)
    shapes: Shapes = {"conv1.weight": stem, **norm("bn1", 64)}
    channels = 64
    for layer, (num_blocks, planes) in enumerate(((3, 64), (4, 128), (6, 256), (3, 512)), start=1):
        for index in range(num_blocks):
            block = f"layer{layer}.{index}"
            shapes |= {f"{block}.conv1.weight": (planes, channels, *one), **norm(f"{block}.bn1", planes)}
            shapes |= {f"{block}.conv2.weight": (planes, planes, *three), **norm(f"{block}.bn2", planes)}
            shapes |= {f"{block}.conv3.weight": (4 * planes, planes, *one), **norm(f"{block}.bn3", 4 * planes)}
            if index == 0:
                shapes |= {f"{block}.downsample.0.weight": (4 * planes, channels, *one)}
                shapes |= norm(f"{block}.downsample.1", 4 * planes)
            channels = 4 * planes
    return {**shapes, "fc.weight": (num_classes, 2048), "fc.bias": (num_classes,)}


def ig65m_r2plus1d_34(num_classes: int) -> Shapes:
    shapes: Shapes = {"stem.0.weight": (45, 3, 1, 7, 7), **norm("stem.1", 45)}
    shapes |= {"stem.3.weight": (64, 45, 3, 1, 1), **norm("stem.4", 64)}
    channels = 64
    for layer, (num_blocks, planes) in enumerate(((3, 64), (4, 128), (6, 256), (3, 512)), start=1):
        for index in range(num_blocks):
            block = f"layer{layer}.{index}"
            for conv, before in (("conv1", channels), ("conv2", planes)):
                middle = {64: 144, 128: 288, 256: 576, 512: 1152}[planes]
                if before != planes:
                    middle = {128: 230, 256: 460, 512: 921}[planes]
                shapes |= {
                    f"{block}.{conv}.0.0.weight": (middle, before, 1, 3, 3),
                    **norm(f"{block}.{conv}.0.1", middle),
                }
                shapes |= {f"{block}.{conv}.0.3.weight": (planes, middle, 3, 1, 1), **norm(f"{block}.{conv}.1", planes)}
            if index == 0 and layer > 1:
                shapes |= {f"{block}.downsample.0.weight": (planes, channels, 1, 1, 1)}
                shapes |= norm(f"{block}.downsample.1", planes)
            channels = planes
    return {**shapes, "fc.weight": (num_classes, 512), "fc.bias": (num_classes,)}


def i3d(num_classes: int, *, in_channels: int) -> Shapes:
    shapes: Shapes = {}

    def unit(name: str, after: int, before: int, kernel: int) -> None:
        shapes[f"{name}.conv3d.weight"] = (after, before, kernel, kernel, kernel)
        shapes.update(norm(f"{name}.bn", after))

    unit("Conv3d_1a_7x7", 64, in_channels, 7)
    unit("Conv3d_2b_1x1", 64, 64, 1)
    unit("Conv3d_2c_3x3", 192, 64, 3)
    channels = 192
    for name, widths in {
        "Mixed_3b": (64, 96, 128, 16, 32, 32),
        "Mixed_3c": (128, 128, 192, 32, 96, 64),
        "Mixed_4b": (192, 96, 208, 16, 48, 64),
        "Mixed_4c": (160, 112, 224, 24, 64, 64),
        "Mixed_4d": (128, 128, 256, 24, 64, 64),
        "Mixed_4e": (112, 144, 288, 32, 64, 64),
        "Mixed_4f": (256, 160, 320, 32, 128, 128),
        "Mixed_5b": (256, 160, 320, 32, 128, 128),
        "Mixed_5c": (384, 192, 384, 48, 128, 128),
    }.items():
        unit(f"{name}.b0", widths[0], channels, 1)
        unit(f"{name}.b1a", widths[1], channels, 1)
        unit(f"{name}.b1b", widths[2], widths[1], 3)
        unit(f"{name}.b2a", widths[3], channels, 1)
        unit(f"{name}.b2b", widths[4], widths[3], 3)
        unit(f"{name}.b3b", widths[5], channels, 1)
        channels = widths[0] + widths[2] + widths[4] + widths[5]
    shapes |= {"logits.conv3d.weight": (num_classes, 1024, 1, 1, 1), "logits.conv3d.bias": (num_classes,)}
    return shapes


def slowfast_blocks() -> Iterator[tuple[int, int, int, int, int, int, int]]:
    """Stage 1..4, pathway, block, channels before, inner, after, frames of the first convolution."""
    for pathway, width in ((0, 64), (1, 8)):
        before = width
        for stage, num_blocks in enumerate((3, 4, 6, 3), start=1):
            inner = width * 2 ** (stage - 1)
            frames = 3 if pathway == 1 or stage > 2 else 1
            for index in range(num_blocks):
                joined = before + before // 4 if pathway == 0 and index == 0 else before
                yield stage, pathway, index, joined, inner, 4 * inner, frames
                before = 4 * inner


def pyslowfast(num_classes: int) -> Shapes:
    shapes: Shapes = {}
    for pathway, (width, frames) in enumerate(((64, 1), (8, 5))):
        stem = f"s1.pathway{pathway}_stem"
        shapes |= {f"{stem}.conv.weight": (width, 3, frames, 7, 7), **norm(f"{stem}.bn", width)}
    for stage, fast in ((1, 8), (2, 32), (3, 64), (4, 128)):
        shapes |= {f"s{stage}_fuse.conv_f2s.weight": (2 * fast, fast, 7, 1, 1), **norm(f"s{stage}_fuse.bn", 2 * fast)}
    for stage, pathway, index, before, inner, after, frames in slowfast_blocks():
        block = f"s{stage + 1}.pathway{pathway}_res{index}"
        if index == 0:
            shapes |= {f"{block}.branch1.weight": (after, before, 1, 1, 1), **norm(f"{block}.branch1_bn", after)}
        block += ".branch2"
        shapes |= {f"{block}.a.weight": (inner, before, frames, 1, 1), **norm(f"{block}.a_bn", inner)}
        shapes |= {f"{block}.b.weight": (inner, inner, 1, 3, 3), **norm(f"{block}.b_bn", inner)}
        shapes |= {f"{block}.c.weight": (after, inner, 1, 1, 1), **norm(f"{block}.c_bn", after)}
    return {**shapes, "head.projection.weight": (num_classes, 2304), "head.projection.bias": (num_classes,)}


def pytorchvideo_slowfast(num_classes: int) -> Shapes:
    shapes: Shapes = {}
    for pathway, (width, frames) in enumerate(((64, 1), (8, 5))):
        stem = f"blocks.0.multipathway_blocks.{pathway}"
        shapes |= {f"{stem}.conv.weight": (width, 3, frames, 7, 7), **norm(f"{stem}.norm", width)}
    for stage, fast in enumerate((8, 32, 64, 128)):
        fusion = f"blocks.{stage}.multipathway_fusion"
        shapes |= {f"{fusion}.conv_fast_to_slow.weight": (2 * fast, fast, 7, 1, 1), **norm(f"{fusion}.norm", 2 * fast)}
    for stage, pathway, index, before, inner, after, frames in slowfast_blocks():
        block = f"blocks.{stage}.multipathway_blocks.{pathway}.res_blocks.{index}"
        if index == 0:
            shapes |= {f"{block}.branch1_conv.weight": (after, before, 1, 1, 1), **norm(f"{block}.branch1_norm", after)}
        block += ".branch2"
        shapes |= {f"{block}.conv_a.weight": (inner, before, frames, 1, 1), **norm(f"{block}.norm_a", inner)}
        shapes |= {f"{block}.conv_b.weight": (inner, inner, 1, 3, 3), **norm(f"{block}.norm_b", inner)}
        shapes |= {f"{block}.conv_c.weight": (after, inner, 1, 1, 1), **norm(f"{block}.norm_c", after)}
    return {**shapes, "blocks.6.proj.weight": (num_classes, 2304), "blocks.6.proj.bias": (num_classes,)}


def pytorchvideo_x3d(num_classes: int) -> Shapes:
    shapes: Shapes = {"blocks.0.conv.conv_t.weight": (24, 3, 1, 3, 3), "blocks.0.conv.conv_xy.weight": (24, 1, 5, 1, 1)}
    shapes |= norm("blocks.0.norm", 24)
    before = 24
    for stage, (num_blocks, after) in enumerate(((3, 24), (5, 48), (11, 96), (7, 192)), start=1):
        inner = after * 9 // 4
        squeezed = {54: 8, 108: 8, 216: 16, 432: 32}[inner]
        for index in range(num_blocks):
            block = f"blocks.{stage}.res_blocks.{index}"
            if index == 0:
                shapes[f"{block}.branch1_conv.weight"] = (after, before, 1, 1, 1)
            if before != after:
                shapes |= norm(f"{block}.branch1_norm", after)
            block += ".branch2"
            shapes |= {f"{block}.conv_a.weight": (inner, before, 1, 1, 1), **norm(f"{block}.norm_a", inner)}
            shapes |= {f"{block}.conv_b.weight": (inner, 1, 3, 3, 3), **norm(f"{block}.norm_b.0", inner)}
            if index % 2 == 0:
                excitation = f"{block}.norm_b.1.block"
                shapes |= {f"{excitation}.0.weight": (squeezed, inner, 1, 1, 1), f"{excitation}.0.bias": (squeezed,)}
                shapes |= {f"{excitation}.2.weight": (inner, squeezed, 1, 1, 1), f"{excitation}.2.bias": (inner,)}
            shapes |= {f"{block}.conv_c.weight": (after, inner, 1, 1, 1), **norm(f"{block}.norm_c", after)}
            before = after
    shapes |= {"blocks.5.pool.pre_conv.weight": (432, 192, 1, 1, 1), **norm("blocks.5.pool.pre_norm", 432)}
    shapes |= {"blocks.5.pool.post_conv.weight": (2048, 432, 1, 1, 1)}
    return {**shapes, "blocks.5.proj.weight": (num_classes, 2048), "blocks.5.proj.bias": (num_classes,)}


def drawn(shapes: Shapes) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    tensors = {}
    for name, shape in shapes.items():
        if name.endswith("num_batches_tracked"):
            tensors[name] = torch.tensor(7)
        elif name.endswith("running_var"):
            tensors[name] = torch.rand(shape, generator=generator) + 0.5
        else:
            tensors[name] = torch.randn(shape, generator=generator) * 0.05
    return tensors


def loaded(
    tmp_path: Path, name: str, found: dict[str, Tensor], *, in_channels: int = 3, num_classes: int = 4, **wrapper: str
) -> tuple[VideoClassifier, WeightsReport]:
    path = tmp_path / f"public{wrapper.get('suffix', '.pth')}"
    found = {wrapper.get("prefix", "") + key: tensor for key, tensor in found.items()}
    torch.save({wrapper["container"]: found} if "container" in wrapper else found, path)
    model = create_model(name, num_classes=num_classes, in_channels=in_channels, task="clip")
    report = load_weights(model, str(path))
    path.unlink()  # some have a quarter of a gigabyte
    return model, report


FAMILIES = [
    ("resnext101_3d.avg", resnext_101(4), {"prefix": "module.", "container": "state_dict"}, "layer3.22.conv2.weight"),
    ("resnet50_3d.avg", resnet_50(4, temporal=3), {"container": "state_dict"}, "layer4.2.conv2.weight"),
    ("r2plus1d_34.avg", ig65m_r2plus1d_34(4), {}, "layer4.0.conv2.0.3.weight"),
    ("i3d.avg", i3d(4, in_channels=3), {"suffix": ".pt"}, "Mixed_5c.b1b.conv3d.weight"),
    ("slowfast_50.avg", pyslowfast(4), {"container": "model_state", "suffix": ".pyth"}, ""),
    ("slowfast_50.avg", pytorchvideo_slowfast(4), {"container": "model_state", "suffix": ".pyth"}, ""),
    ("x3d_s.avg_fc", pytorchvideo_x3d(4), {"container": "model_state", "suffix": ".pyth"}, ""),
]


@pytest.mark.parametrize(("name", "shapes", "wrapper", "same"), FAMILIES)
def test_a_public_checkpoint_fills_the_whole_model(
    tmp_path: Path, name: str, shapes: Shapes, wrapper: dict[str, str], same: str
) -> None:
    found = drawn(shapes)
    model, report = loaded(tmp_path, name, found, **wrapper)
    assert (report.missing, report.dropped, report.unused) == ((), (), ())
    assert len(report.matched) == len(shapes)
    if same:
        assert torch.equal(model.state_dict()[f"backbone.network.{same}"], found[same])


def test_i3ds_first_layer_answers_imagenets_pixels_as_it_did_pixels_from_minus_1_to_1(tmp_path: Path) -> None:
    found = drawn(i3d(4, in_channels=3))
    model, _ = loaded(tmp_path, "i3d.avg", found, suffix=".pt")
    published = create_model("i3d.avg", num_classes=4, in_channels=3, task="clip")
    published.load_state_dict({f"backbone.network.{name}": tensor for name, tensor in found.items()}, strict=False)
    pixels_BTHWC = torch.rand(1, 12, 24, 24, 3)
    by_imagenet = (pixels_BTHWC - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor([0.229, 0.224, 0.225])
    answers = []
    for network, clips_BTHWC in ((model, by_imagenet), (published, 2 * pixels_BTHWC - 1)):
        first = network.eval().backbone.network.Conv3d_1a_7x7
        with torch.no_grad():
            answers.append(first(clips_BTHWC.permute(0, 4, 1, 2, 3))[..., 1:-2, 2:-2, 2:-2])  # without what is padded
    torch.testing.assert_close(*answers, rtol=1e-4, atol=1e-5)


def test_own_weights_and_those_of_flow_are_not_rescaled(tmp_path: Path) -> None:
    flow = drawn(i3d(4, in_channels=2))
    model, _ = loaded(tmp_path, "i3d.avg", flow, in_channels=2, suffix=".pt")
    kernel = "Conv3d_1a_7x7.conv3d.weight"
    assert torch.equal(model.state_dict()[f"backbone.network.{kernel}"], flow[kernel])
    ours = {f"backbone.network.{name}": tensor for name, tensor in drawn(i3d(4, in_channels=3)).items()}
    model, _ = loaded(tmp_path, "i3d.avg", ours, suffix=".pt")
    assert torch.equal(model.state_dict()[f"backbone.network.{kernel}"], ours[f"backbone.network.{kernel}"])


@pytest.mark.parametrize("style", ["pyslowfast", "pytorchvideo"])
def test_slowfasts_tensors_land_where_they_belong(tmp_path: Path, style: str) -> None:
    """Each pair of names stands for one tensor of the published network; s5's first is 512 of 1280, 3x1x1."""
    pairs = {
        "s1.pathway1_stem.conv.weight": ("blocks.0.multipathway_blocks.1.conv.weight", "fast.0.conv1.weight"),
        "s2_fuse.conv_f2s.weight": ("blocks.1.multipathway_fusion.conv_fast_to_slow.weight", "laterals.1.conv.weight"),
        "s5.pathway0_res0.branch2.a.weight": (
            "blocks.4.multipathway_blocks.0.res_blocks.0.branch2.conv_a.weight",
            "slow.4.0.conv1.weight",
        ),
        "s3.pathway0_res0.branch1_bn.running_mean": (
            "blocks.2.multipathway_blocks.0.res_blocks.0.branch1_norm.running_mean",
            "slow.2.0.downsample.1.running_mean",
        ),
        "s4.pathway1_res5.branch2.c_bn.running_var": (
            "blocks.3.multipathway_blocks.1.res_blocks.5.branch2.norm_c.running_var",
            "fast.3.5.bn3.running_var",
        ),
    }
    found = drawn(pyslowfast(400) if style == "pyslowfast" else pytorchvideo_slowfast(400))
    model, report = loaded(tmp_path, "slowfast_50.avg", found)
    state = model.state_dict()
    for one, (other, ours) in pairs.items():
        assert torch.equal(state[f"backbone.network.{ours}"], found[one if style == "pyslowfast" else other])
    assert state["backbone.network.slow.4.0.conv1.weight"].shape == (512, 1280, 3, 1, 1)
    assert [line.split(":")[0] for line in report.dropped] == ["head.classifier.weight", "head.classifier.bias"]
    assert set(report.missing) == {"head.classifier.weight", "head.classifier.bias"}


def test_a_bert_behind_a_public_backbone_is_new_and_the_old_head_unused(tmp_path: Path) -> None:
    _, report = loaded(tmp_path, "i3d.bert", drawn(i3d(4, in_channels=3)))
    assert report.unused == ("logits.conv3d.weight", "logits.conv3d.bias")
    assert {name.split(".")[0] for name in report.missing} == {"pooling", "head"}


def test_a_modified_block_keeps_what_the_public_one_has_at_its_place(tmp_path: Path) -> None:
    _, report = loaded(tmp_path, "resnext101_3d_frmb.avg", drawn(resnext_101(400)))
    new = {name for name in report.missing if name.startswith("backbone.")}
    assert {name.removeprefix("backbone.network.").rsplit(".", 1)[0].split(".")[1] for name in new} == {"2"}
    assert "backbone.network.layer4.2.downsample.0.weight" in new
    assert "backbone.network.layer4.1.conv3.weight" in report.matched
    assert "backbone.network.layer4.2.conv1.weight: (1024, 2048, 1, 1, 1) in the file" in " ".join(report.dropped)


def test_both_first_layers_of_slowfast_are_averaged_for_flow(tmp_path: Path) -> None:
    found = drawn(pyslowfast(4))
    model, report = loaded(tmp_path, "slowfast_50.avg", found, in_channels=2)
    assert set(report.adapted) == {"backbone.network.slow.0.conv1.weight", "backbone.network.fast.0.conv1.weight"}
    mean = found["s1.pathway1_stem.conv.weight"].mean(dim=1)
    for channel in range(2):
        torch.testing.assert_close(model.state_dict()["backbone.network.fast.0.conv1.weight"][:, channel], mean)


def test_inflation_by_hand() -> None:
    weight = torch.tensor([[[[3.0, 6.0]]]])
    assert inflate_kernel(weight, num_frames=3).tolist() == [[[[[1.0, 2.0]], [[1.0, 2.0]], [[1.0, 2.0]]]]]
    assert torch.equal(inflate_kernel(weight, num_frames=1)[:, :, 0], weight)


@pytest.mark.parametrize("name", ["inflated_resnet50.avg", "modified_resnet50.avg", "resnet50_3d.avg"])
def test_a_resnet_of_images_is_inflated(tmp_path: Path, name: str) -> None:
    found = drawn(resnet_50(1000, temporal=0))
    model, report = loaded(tmp_path, name, found)
    state = model.state_dict()
    convolutions = [key for key in report.matched if state[key].ndim == 5]
    assert set(report.inflated) == set(convolutions)
    assert {key for key in report.missing if key.startswith("backbone.")} == set()
    for key in convolutions:
        torch.testing.assert_close(state[key].sum(dim=2), found[key.removeprefix("backbone.network.")])
    assert f"{len(convolutions)} inflated from 2D" in str(report)


def test_an_inflated_network_answers_a_still_clip_as_the_2d_one_its_frame(tmp_path: Path) -> None:
    flat = create_model("resnet50.avg", num_classes=4, in_channels=3, task="clip").eval()
    path = tmp_path / "images.pt"
    torch.save(flat.backbone.network.state_dict(), path)
    model = create_model("inflated_resnet50.avg", num_classes=4, in_channels=3, task="clip").eval()
    load_weights(model, str(path))
    frame = torch.randn(1, 3, 1, 64, 64)
    stages = flat.backbone.network
    with torch.no_grad():
        deep = model.backbone(frame.expand(1, 3, 5, 64, 64))
        wanted = frame[:, :, 0]
        for name in ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2"):
            wanted = getattr(stages, name)(wanted)
        shallow = torch.nn.Sequential(*list(model.backbone.network.children())[:6])(frame.expand(1, 3, 5, 64, 64))
    assert deep.shape == (1, 1024, 5, 8, 8)
    for step in range(5):
        torch.testing.assert_close(shallow[:, :, step], wanted, rtol=1e-4, atol=1e-4)


def test_a_temporal_kernel_keeps_a_still_clips_answer_away_from_its_ends(tmp_path: Path) -> None:
    """Carreira and Zisserman 2017, 2.2: the boring-video fixed point."""
    weight = torch.randn(4, 3, 3, 3)
    frame = torch.randn(1, 3, 8, 8)
    expected = torch.nn.functional.conv2d(frame, weight, padding=1)
    still = frame[:, :, None].expand(1, 3, 7, 8, 8)
    answer = torch.nn.functional.conv3d(still, inflate_kernel(weight, num_frames=5), padding=(2, 1, 1))
    for step in (2, 3, 4):
        torch.testing.assert_close(answer[:, :, step], expected, rtol=1e-4, atol=1e-5)
