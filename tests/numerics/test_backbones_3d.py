"""3D blocks against slow, plain references and hand-computed values; torchvision's own networks against ours."""

import itertools
import math
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from kineflow.models.backbones.bottleneck3d import Bottleneck3d, flat_middle
from kineflow.models.backbones.csn import build_csn
from kineflow.models.backbones.i3d import InceptionBlock3d, build_i3d
from kineflow.models.backbones.kinetics_resnet3d import build_reduction_block
from kineflow.models.backbones.mfnet import NUM_FIBERS, MultiFiberUnit, NormThenConv3d
from kineflow.models.backbones.nonlocal3d import NonLocal3d
from kineflow.models.backbones.p3d import ORDERS, Order, PseudoBlock3d, build_p3d_63
from kineflow.models.backbones.rep_flow import RepresentationFlow
from kineflow.models.backbones.same_padding import SameConv3d, SameMaxPool3d, same_padding
from kineflow.models.backbones.slowfast import LateralConnection, SlowFast
from kineflow.models.backbones.torchvision_video import num_middle_planes
from kineflow.models.backbones.x3d import InvertedBlock3d, SqueezeExcitation3d, squeezed_channels
from kineflow.models.pooling.average_fc import AverageFc
from kineflow.models.pooling.late_bert import LateBertPooling
from kineflow.models.registry import create_model
from kineflow.models.torchvision_compat import declare_missing_torchvision_ops

declare_missing_torchvision_ops()


@pytest.fixture(autouse=True)
def one_thread_and_a_seed() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


def lively(module: nn.Module) -> nn.Module:
    """In double precision and eval mode, with norms that do something."""
    for part in module.modules():
        if isinstance(part, nn.BatchNorm3d):
            for values, low, high in (
                (part.running_mean, -1.0, 1.0),
                (part.running_var, 0.5, 2.0),
                (part.weight.data, 0.5, 1.5),
                (part.bias.data, -1.0, 1.0),
            ):
                assert values is not None
                values.uniform_(low, high)
    return module.double().eval()


def slow_conv(x_CTHW: Tensor, conv: nn.Conv3d) -> Tensor:
    """One window and one output channel at a time."""
    padding, stride, kernel = (tuple(values) for values in (conv.padding, conv.stride, conv.kernel_size))
    sizes = [(n + 2 * p - k) // s + 1 for n, p, k, s in zip(x_CTHW.shape[1:], padding, kernel, stride, strict=True)]
    padded = torch.zeros(len(x_CTHW), *(n + 2 * p for n, p in zip(x_CTHW.shape[1:], padding, strict=True))).double()
    inner = tuple(slice(p, p + n) for n, p in zip(x_CTHW.shape[1:], padding, strict=True))
    padded[(slice(None), *inner)] = x_CTHW
    answer = torch.zeros(conv.out_channels, *sizes).double()
    per_group_in, per_group_out = conv.in_channels // conv.groups, conv.out_channels // conv.groups
    for out in range(conv.out_channels):
        first = out // per_group_out * per_group_in
        for place in itertools.product(*(range(n) for n in sizes)):
            window = tuple(slice(i * s, i * s + k) for i, s, k in zip(place, stride, kernel, strict=True))
            seen = padded[(slice(first, first + per_group_in), *window)]
            answer[(out, *place)] = (seen * conv.weight[out]).sum()
    return answer if conv.bias is None else answer + conv.bias[:, None, None, None]


def slow_norm(x_CTHW: Tensor, norm: nn.BatchNorm3d) -> Tensor:
    assert norm.running_mean is not None and norm.running_var is not None
    channels = [
        (x - mean) / math.sqrt(var + norm.eps) * weight + bias
        for x, mean, var, weight, bias in zip(
            x_CTHW, norm.running_mean.tolist(), norm.running_var.tolist(), norm.weight, norm.bias, strict=True
        )
    ]
    return torch.stack(channels)


def relu(x: Tensor) -> Tensor:
    return torch.where(x > 0, x, torch.zeros_like(x))


def slow_shortcut(x_CTHW: Tensor, downsample: nn.Module) -> Tensor:
    if not isinstance(downsample, nn.Sequential):
        return x_CTHW
    conv, norm = downsample
    return slow_norm(slow_conv(x_CTHW, conv), norm)


def random_clip(channels: int, *size: int) -> Tensor:
    return torch.randn(2, channels, *size).double()


def assert_equals_slow(module: nn.Module, x_BCTHW: Tensor, slow: object) -> None:
    with torch.no_grad():
        answer = module(x_BCTHW)
        for clip in range(len(x_BCTHW)):
            torch.testing.assert_close(answer[clip], slow(x_BCTHW[clip]))  # type: ignore[operator]


def slow_middle(x_CTHW: Tensor, middle: nn.Module) -> Tensor:
    for conv in middle if isinstance(middle, nn.Sequential) else [middle]:
        x_CTHW = slow_conv(x_CTHW, conv)
    return x_CTHW


@pytest.mark.parametrize("depthwise_only", [False, True])
@pytest.mark.parametrize("stride_THW", [(1, 1, 1), (2, 2, 2)])
def test_a_channel_separated_bottleneck_equals_a_slow_one(
    depthwise_only: bool, stride_THW: tuple[int, int, int]
) -> None:
    depthwise = nn.Conv3d(4, 4, 3, stride=stride_THW, padding=1, groups=4, bias=False)
    middle = depthwise if depthwise_only else nn.Sequential(nn.Conv3d(4, 4, 1, bias=False), depthwise)
    block = lively(Bottleneck3d(3, 4, 5, middle=middle, stride_THW=stride_THW))

    def slow(x: Tensor) -> Tensor:
        y = relu(slow_norm(slow_conv(x, block.conv1), block.bn1))
        y = relu(slow_norm(slow_middle(y, block.conv2), block.bn2))
        return relu(slow_norm(slow_conv(y, block.conv3), block.bn3) + slow_shortcut(x, block.downsample))

    assert_equals_slow(block, random_clip(3, 3, 4, 3), slow)


def test_an_inflated_bottleneck_equals_a_slow_one() -> None:
    block = lively(Bottleneck3d(6, 4, 6, middle=flat_middle(4, (1, 1, 1), 0), temporal_first=3))

    def slow(x: Tensor) -> Tensor:
        y = relu(slow_norm(slow_conv(x, block.conv1), block.bn1))
        y = relu(slow_norm(slow_conv(y, block.conv2), block.bn2))
        return relu(slow_norm(slow_conv(y, block.conv3), block.bn3) + x)

    assert block.conv1.weight.shape == (4, 6, 3, 1, 1)
    assert block.conv2.weight.shape == (4, 4, 1, 3, 3)
    assert_equals_slow(block, random_clip(6, 3, 3, 3), slow)


@pytest.mark.parametrize(("kind", "kernels"), [("ir", 1), ("ip", 2)])
def test_separated_networks_mix_channels_in_pointwise_convolutions_alone(kind: str, kernels: int) -> None:
    with torch.device("meta"):
        network = build_csn(depth=50, in_channels=3, preserve_interactions=kind == "ip").network
    blocks = [module for module in network.modules() if isinstance(module, Bottleneck3d)]
    assert len(blocks) == 16
    for block in blocks:
        convs = [module for module in block.modules() if isinstance(module, nn.Conv3d)]
        wide = [conv for conv in convs if conv.kernel_size == (3, 3, 3)]
        assert [conv.groups for conv in wide] == [wide[0].in_channels]
        middle = [block.conv2] if kind == "ir" else list(block.conv2)
        assert len(middle) == kernels


@pytest.mark.parametrize(
    ("in_planes", "planes", "middle"),
    [(64, 64, 144), (64, 128, 230), (128, 128, 288), (256, 256, 576), (512, 512, 1152)],
)
def test_a_split_convolution_has_the_weights_of_the_whole_one(in_planes: int, planes: int, middle: int) -> None:
    """Tran et al. 2018, 3.5: floor(t d^2 N' N / (d^2 N' + t N)); the values in IG65M's published networks."""
    assert num_middle_planes(in_planes, planes) == middle
    whole = 27 * in_planes * planes
    assert 0 <= whole - middle * (9 * in_planes + 3 * planes) < 9 * in_planes + 3 * planes


def test_r2plus1d_34_splits_each_convolution_by_itself() -> None:
    with torch.device("meta"):
        model = create_model("r2plus1d_34.avg", num_classes=2, in_channels=3, task="clip")
    state = model.backbone.network.state_dict()
    assert state["layer2.0.conv1.0.0.weight"].shape == (230, 64, 1, 3, 3)
    assert state["layer2.0.conv2.0.0.weight"].shape == (288, 128, 1, 3, 3)
    assert state["layer4.0.conv2.0.3.weight"].shape == (512, 1152, 3, 1, 1)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("project", [False, True])
def test_pseudo_3d_blocks_equal_slow_ones(order: Order, project: bool) -> None:
    stride_THW = (1, 2, 2) if project else (1, 1, 1)
    block = lively(PseudoBlock3d(8, 2, order=order, stride_THW=stride_THW, project=project))

    def slow(x: Tensor) -> Tensor:
        y = relu(slow_norm(slow_conv(x, block.conv1), block.bn1))

        def spatial(z: Tensor) -> Tensor:
            return relu(slow_norm(slow_conv(z, block.conv2), block.bn2))

        def temporal(z: Tensor) -> Tensor:
            return relu(slow_norm(slow_conv(z, block.conv3), block.bn3))

        mixed = {"A": lambda: temporal(spatial(y)), "B": lambda: spatial(y) + temporal(y)}
        mixed["C"] = lambda: spatial(y) + temporal(spatial(y))
        z = slow_norm(slow_conv(mixed[order](), block.conv4), block.bn4)
        return relu(z + slow_shortcut(x, block.downsample))

    assert_equals_slow(block, random_clip(8, 3, 4, 4), slow)


def test_p3d_takes_the_three_orders_in_turn() -> None:
    """Qiu et al. 2017, 3.3: P3D-A, P3D-B, P3D-C, and again."""
    with torch.device("meta"):
        network = build_p3d_63(in_channels=3)
    orders = [module.order for module in network.modules() if isinstance(module, PseudoBlock3d)]
    assert "".join(orders) == "ABCABCABCABCA"


def slow_pre_activation(x: Tensor, layer: NormThenConv3d) -> Tensor:
    return slow_conv(relu(slow_norm(x, layer.bn)), layer.conv)


@pytest.mark.parametrize("first", [False, True])
def test_a_multi_fiber_unit_equals_a_slow_one(first: bool) -> None:
    in_channels = 16 if first else 32
    unit = lively(MultiFiberUnit(in_channels, 32, stride_THW=(2, 1, 1) if first else (1, 1, 1), first=first))

    def slow(x: Tensor) -> Tensor:
        mixed = x + slow_pre_activation(slow_pre_activation(x, unit.conv_i1), unit.conv_i2)
        y = slow_pre_activation(slow_pre_activation(mixed, unit.conv_m1), unit.conv_m2)
        return y + (slow_pre_activation(x, unit.conv_w1) if first else x)

    assert_equals_slow(unit, random_clip(in_channels, 2, 2, 3), slow)


def test_fibers_meet_in_the_multiplexer_alone() -> None:
    unit = lively(MultiFiberUnit(32, 32, first=False))
    nn.init.zeros_(unit.conv_i2.conv.weight)
    clip = random_clip(32, 1, 3, 3).requires_grad_()
    unit(clip)[:, :2].sum().backward()  # the two channels of the first of 16 fibers
    assert clip.grad is not None
    reached = clip.grad.abs().sum(dim=(0, 2, 3, 4)) > 0
    assert reached.tolist() == [True] * (32 // NUM_FIBERS) + [False] * (32 - 32 // NUM_FIBERS)


def test_a_non_local_block_equals_a_slow_one() -> None:
    block = lively(NonLocal3d(4))
    for convolution in (block.theta, block.phi, block.g, block.out):
        nn.init.normal_(convolution.weight)
        nn.init.normal_(convolution.bias)

    def slow(x: Tensor) -> Tensor:
        num_frames, height, width = x.shape[1:]
        places = list(itertools.product(range(num_frames), range(height // 2), range(width // 2)))
        pooled = torch.stack(
            [x[:, t, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].flatten(1).max(dim=1).values for t, i, j in places]
        )

        def project(layer: nn.Conv3d, vector: Tensor) -> Tensor:
            return layer.weight[:, :, 0, 0, 0] @ vector + layer.bias

        keys = [project(block.phi, vector) for vector in pooled]
        values = [project(block.g, vector) for vector in pooled]
        answer = torch.empty_like(x)
        for t, i, j in itertools.product(range(num_frames), range(height), range(width)):
            query = project(block.theta, x[:, t, i, j])
            scores = [math.exp(float(query @ key) / math.sqrt(2)) for key in keys]
            context = sum(score * value for score, value in zip(scores, values, strict=True)) / sum(scores)
            answer[:, t, i, j] = project(block.out, context)
        return x + slow_norm(answer, block.bn)

    assert_equals_slow(block, random_clip(4, 2, 4, 5), slow)


def test_lateral_connections_equal_slow_ones() -> None:
    lateral = lively(LateralConnection(3))
    slow_maps, fast_maps = random_clip(5, 2, 2, 3), random_clip(3, 8, 2, 3)
    with torch.no_grad():
        joined = lateral(slow_maps, fast_maps)
        for clip in range(2):
            torch.testing.assert_close(joined[clip, :5], slow_maps[clip])
            expected = relu(slow_norm(slow_conv(fast_maps[clip], lateral.conv), lateral.bn))
            torch.testing.assert_close(joined[clip, 5:], expected)


def test_slowfast_gives_each_pathway_its_frames_and_joins_their_means() -> None:
    network = SlowFast(in_channels=1, frame_stride=2, form="").eval()
    seen, made = {}, {}
    for name, pathway in (("slow", network.slow), ("fast", network.fast)):
        pathway[0].register_forward_pre_hook(lambda _, inputs, name=name: seen.update({name: inputs[0]}))
        pathway[-1].register_forward_hook(lambda _, inputs, answer, name=name: made.update({name: answer}))
    clip = torch.arange(64.0).view(1, 1, 64, 1, 1).expand(1, 1, 64, 32, 32) / 64
    with torch.no_grad():
        maps = network(clip)
    assert (seen["slow"][0, 0, :, 0, 0] * 64).tolist() == list(range(0, 64, 8))
    assert (seen["fast"][0, 0, :, 0, 0] * 64).tolist() == list(range(0, 64, 2))
    assert (made["slow"].shape[1:3], made["fast"].shape[1:3]) == ((2048, 8), (256, 32))
    expected = torch.cat([made[name].mean(dim=(2, 3, 4)) for name in ("slow", "fast")], dim=1)
    torch.testing.assert_close(maps.mean(dim=(2, 3, 4)), expected, rtol=1e-4, atol=1e-5)


def test_late_fusion_gives_every_bert_its_own_pathway_in_order() -> None:
    network = SlowFast(in_channels=1, frame_stride=1, form="late").eval()
    slow_maps = torch.randn(2, 512, 3, 1, 1)
    fast_maps = torch.randn(2, 256, 12, 1, 1)
    packed = network.join(slow_maps, fast_maps)
    pooling = LateBertPooling(
        feature_dim=1536, max_steps=3, num_heads=8, num_blocks=1, mask_prob=0.2, dropout=0.9
    ).eval()
    with torch.no_grad():
        pooled = pooling(packed[..., 0, 0].transpose(1, 2))
        slow_token = pooling.slow(slow_maps[..., 0, 0].transpose(1, 2))
        fast_token = pooling.fast(fast_maps[..., 0, 0].transpose(1, 2))
    torch.testing.assert_close(pooled, torch.cat((slow_token, fast_token), dim=1))
    assert pooling.fast.positions.shape == (13, 256)


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "expected"),
    [
        (224, 7, 2, (2, 3)),
        (15, 7, 2, (3, 3)),
        (112, 3, 2, (0, 1)),
        (7, 3, 2, (1, 1)),
        (14, 2, 2, (0, 0)),
        (5, 3, 1, (1, 1)),
        (1, 2, 2, (0, 1)),
    ],
)
def test_same_padding_by_hand(size: int, kernel: int, stride: int, expected: tuple[int, int]) -> None:
    """TensorFlow, `tf.nn.convolution`: ceil(size / stride) windows, the odd zero at the end."""
    assert same_padding(size, kernel=kernel, stride=stride) == expected


def test_same_padded_layers_by_hand() -> None:
    row = torch.tensor([1.0, 2.0, 3.0, 4.0]).view(1, 1, 1, 1, 4)
    conv = SameConv3d(1, 1, (1, 1, 3), (1, 1, 2))
    nn.init.ones_(conv.weight)
    assert conv(row).flatten().tolist() == [6.0, 7.0]  # 1+2+3, 3+4+0: no zero before the first
    assert SameMaxPool3d((1, 1, 3), (1, 1, 2))(row).flatten().tolist() == [3.0, 4.0]


def test_an_inception_block_equals_a_slow_one() -> None:
    block = lively(InceptionBlock3d(3, (2, 3, 2, 2, 3, 1)))

    def slow_unit(x: Tensor, unit: nn.Module) -> Tensor:
        return relu(slow_norm(slow_conv(x, unit.conv3d), unit.bn))

    def slow_pool(x: Tensor) -> Tensor:
        answer = torch.empty_like(x)
        for t, i, j in itertools.product(*(range(size) for size in x.shape[1:])):
            window = tuple(slice(max(at - 1, 0), at + 2) for at in (t, i, j))
            answer[:, t, i, j] = x[(slice(None), *window)].flatten(1).max(dim=1).values
        return answer

    def slow(x: Tensor) -> Tensor:
        branches = [
            slow_unit(x, block.b0),
            slow_unit(slow_unit(x, block.b1a), block.b1b),
            slow_unit(slow_unit(x, block.b2a), block.b2b),
            slow_unit(slow_pool(x), block.b3b),
        ]
        return torch.cat(branches)

    assert_equals_slow(block, random_clip(3, 2, 3, 3), slow)


def test_i3d_keeps_a_time_step_for_every_eight_frames_rounded_up() -> None:
    with torch.device("meta"):
        backbone = build_i3d(in_channels=3)
        for num_frames, steps in ((1, 1), (8, 1), (9, 2), (64, 8)):
            assert backbone(torch.empty(1, 3, num_frames, 224, 224)).shape == (1, 1024, steps, 7, 7)


def test_the_reduction_block_has_the_weights_of_the_published_one() -> None:
    """2048 to 256 to 256 in 32 groups to 512, and 2048 to 512: Kalfaoglu's public code, rgb_resneXt3D.py."""
    block = build_reduction_block(2048, cardinality=32)
    weights = 2048 * 256 + 256 * 8 * 27 + 256 * 512 + 2048 * 512
    norms = 2 * (256 + 256 + 512 + 512)
    assert sum(parameter.numel() for parameter in block.parameters()) == weights + norms


def slow_rep_flow(before: list[list[float]], after: list[list[float]], num_iterations: int) -> tuple[object, object]:
    """TV-L1 of one channel, pixel by pixel, as in Piergiovanni and Ryoo 2019, Algorithm 1, with its constants."""
    theta, weight, tau = 0.3, 0.15, 0.25
    height, width = len(before), len(before[0])
    pixels = list(itertools.product(range(height), range(width)))

    def at(image: dict[tuple[int, int], float], i: int, j: int) -> float:
        return image[min(max(i, 0), height - 1), min(max(j, 0), width - 1)]

    first = {(i, j): before[i][j] for i, j in pixels}
    second = {(i, j): after[i][j] for i, j in pixels}
    slope = {(i, j): (
        (at(second, i, j + 1) - at(second, i, j - 1)) / 2,
        (at(second, i + 1, j) - at(second, i - 1, j)) / 2,
    ) for i, j in pixels}  # fmt: skip
    flow = [dict.fromkeys(pixels, 0.0), dict.fromkeys(pixels, 0.0)]
    dual = [[dict.fromkeys(pixels, 0.0), dict.fromkeys(pixels, 0.0)] for _ in range(2)]
    for _ in range(num_iterations):
        stepped: list[dict[tuple[int, int], float]] = [{}, {}]
        for i, j in pixels:
            gx, gy = slope[i, j]
            squared = gx * gx + gy * gy
            residual = second[i, j] - first[i, j] + gx * flow[0][i, j] + gy * flow[1][i, j]
            if residual < -weight * theta * squared:
                along = -weight * theta
            elif residual > weight * theta * squared:
                along = weight * theta
            else:
                along = residual / squared if squared > 0 else 0.0
            for axis, gradient in enumerate((gx, gy)):
                p_x, p_y = dual[axis]
                here_x = p_x[i, j] if j < width - 1 else 0.0
                here_y = p_y[i, j] if i < height - 1 else 0.0
                divergence = here_x - (p_x[i, j - 1] if j else 0.0) + here_y - (p_y[i - 1, j] if i else 0.0)
                stepped[axis][i, j] = flow[axis][i, j] - along * gradient + theta * divergence
        flow = stepped
        for axis in range(2):
            moved: list[dict[tuple[int, int], float]] = [{}, {}]
            for i, j in pixels:
                du_x = at(flow[axis], i, j + 1) - flow[axis][i, j]
                du_y = at(flow[axis], i + 1, j) - flow[axis][i, j]
                shrink = 1 + tau / theta * math.hypot(du_x, du_y)
                moved[0][i, j] = (dual[axis][0][i, j] + tau / theta * du_x) / shrink
                moved[1][i, j] = (dual[axis][1][i, j] + tau / theta * du_y) / shrink
            dual[axis] = moved
    return tuple([[field[i, j] for j in range(width)] for i in range(height)] for field in flow)


@pytest.mark.parametrize("num_iterations", [1, 2, 10])
def test_representation_flow_equals_a_slow_one(num_iterations: int) -> None:
    layer = RepresentationFlow(3, flow_channels=2, num_iterations=num_iterations).double()
    before, after = (torch.rand(1, 2, 4, 5).double() * 8 for _ in range(2))
    after[..., 1:] = after[..., 1:] / 2 + before[..., :-1] / 2
    with torch.no_grad():
        flow = layer.compute_flow(before, after)
    for channel in range(2):
        along_x, along_y = slow_rep_flow(before[0, channel].tolist(), after[0, channel].tolist(), num_iterations)
        torch.testing.assert_close(flow[0, channel], torch.tensor(along_x).double(), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(flow[0, 2 + channel], torch.tensor(along_y).double(), rtol=1e-5, atol=1e-5)


def test_representation_flow_points_where_things_move() -> None:
    layer = RepresentationFlow(1, flow_channels=1, num_iterations=50)
    y, x = torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="ij")

    def blob(centre_x: float) -> Tensor:
        return 255 * torch.exp(-((x - centre_x) ** 2 + (y - 8) ** 2) / 18)[None, None]

    with torch.no_grad():
        right, left = layer.compute_flow(blob(7.5), blob(8.0)), layer.compute_flow(blob(8.0), blob(7.5))
    assert right[0, 0, 4:12, 4:12].mean() > 0.2
    assert left[0, 0, 4:12, 4:12].mean() < -0.2
    assert right[0, 1, 4:12, 4:12].mean().abs() < 0.02


def test_representation_flow_of_stillness_leaves_the_features() -> None:
    layer = RepresentationFlow(4, flow_channels=2).eval()
    still = torch.rand(2, 4, 1, 6, 6).expand(2, 4, 3, 6, 6)
    with torch.no_grad():
        torch.testing.assert_close(layer(still), still[:, :, :2])


@pytest.mark.parametrize(("channels", "squeezed"), [(54, 8), (108, 8), (216, 16), (432, 32)])
def test_squeezed_channels_are_those_of_the_published_networks(channels: int, squeezed: int) -> None:
    """A sixteenth is 3.375, 6.75, 13.5 and 27; 24 would lose more than a tenth of 27."""
    assert squeezed_channels(channels) == squeezed


@pytest.mark.parametrize("squeeze", [False, True])
def test_an_inverted_block_equals_a_slow_one(squeeze: bool) -> None:
    block = lively(InvertedBlock3d(2, 4, stride_px=2, squeeze=squeeze))

    def slow(x: Tensor) -> Tensor:
        y = relu(slow_norm(slow_conv(x, block.conv1), block.bn1))
        y = slow_norm(slow_conv(y, block.conv2), block.bn2)
        if isinstance(block.se, SqueezeExcitation3d):
            mean = torch.stack([channel.sum() / channel.numel() for channel in y])[:, None, None, None]
            excited = slow_conv(relu(slow_conv(mean, block.se.reduce)), block.se.expand)
            y = y / (1 + torch.exp(-excited))
        y = y / (1 + torch.exp(-y))
        return relu(slow_norm(slow_conv(y, block.conv3), block.bn3) + slow_shortcut(x, block.downsample))

    assert_equals_slow(block, random_clip(2, 3, 4, 4), slow)


def test_average_fc_by_hand() -> None:
    pooling = AverageFc(feature_dim=2, fc_dim=2)
    pooling.fc.weight.data = torch.tensor([[1.0, 1.0], [1.0, -1.0]])
    features_BTD = torch.tensor([[[1.0, 2.0], [3.0, 6.0]]])  # mean 2, 4
    assert pooling(features_BTD).tolist() == [[6.0, 0.0]]
    steps = AverageFc(feature_dim=2, fc_dim=2, every_step=True)
    steps.fc.weight.data = pooling.fc.weight.data
    assert steps(features_BTD).tolist() == [[[3.0, 0.0], [9.0, 0.0]]]


@pytest.mark.parametrize("arch", ["r3d_18", "mc3_18", "r2plus1d_18", "swin3d_t"])
def test_torchvisions_networks_equal_theirs(arch: str) -> None:
    import torchvision

    theirs = torchvision.models.get_model(arch, weights=None, num_classes=6).eval()
    ours = create_model(f"{arch}.avg", num_classes=6, in_channels=3, task="clip").eval()
    ours.backbone.network.load_state_dict(theirs.state_dict(), strict=False)
    ours.head.classifier.load_state_dict((theirs.head if arch == "swin3d_t" else theirs.fc).state_dict())
    clips = torch.randn(2, 3, 9, 40, 36)
    with torch.no_grad():
        torch.testing.assert_close(ours(clips).logits, theirs(clips), rtol=1e-4, atol=1e-5)


def test_torchvisions_s3d_equals_theirs_up_to_its_last_maps() -> None:
    import torchvision

    theirs = torchvision.models.video.s3d(weights=None).eval()
    ours = create_model("s3d.avg", num_classes=6, in_channels=3, task="clip").eval()
    ours.backbone.network.load_state_dict(theirs.state_dict(), strict=False)
    clips = torch.randn(2, 3, 16, 48, 40)
    with torch.no_grad():
        torch.testing.assert_close(ours.backbone(clips), theirs.features(clips))


def test_torchvisions_mvit_equals_theirs_in_every_token_of_the_image() -> None:
    import torchvision

    theirs = torchvision.models.video.mvit_v2_s(weights=None).eval()
    theirs.pos_encoding.temporal_size, theirs.pos_encoding.spatial_size = 3, (12, 10)  # it has relative ones alone
    tokens = []
    theirs.norm.register_forward_hook(lambda _, inputs, answer: tokens.append(answer[:, 1:]))
    ours = create_model("mvit_v2_s.avg", num_classes=6, in_channels=3, task="clip").eval()
    ours.backbone.network.load_state_dict(theirs.state_dict(), strict=False)
    clips = torch.randn(2, 3, 6, 48, 40)
    with torch.no_grad():
        theirs(clips)
        maps = ours.backbone(clips)
    assert maps.shape[2:] == (3, 2, 2)
    torch.testing.assert_close(maps.flatten(2).transpose(1, 2), tokens[0], rtol=1e-4, atol=1e-5)
