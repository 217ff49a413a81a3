"""Concatenation, non-local, recurrent, convolutional and plain attention poolings against slow, plain references."""

import math
from typing import Literal, TypeVar

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kineflow.models.pooling.bert import BertPooling
from kineflow.models.pooling.concat import ConcatPooling
from kineflow.models.pooling.conv_gru import ConvGruPooling
from kineflow.models.pooling.nonlocal_maps import NonLocalBlock
from kineflow.models.pooling.recurrent import Cell, RecurrentPooling
from kineflow.models.pooling.tcn import EncoderDecoderPooling, TcnPooling
from kineflow.models.pooling.transformer import TransformerPooling, sinusoidal_positions

M = TypeVar("M", bound=nn.Module)


def random(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(3)).double()


def seeded(module: M) -> M:
    """Give every parameter and statistic of norms a value of its own, and return the module for evaluation."""
    generator = torch.Generator().manual_seed(8)
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.is_floating_point():
            tensor.data.copy_(torch.rand(tensor.shape, generator=generator) * 0.8 + 0.1)
            tensor.data.mul_(torch.randint(0, 2, tensor.shape, generator=generator) * 2 - 1)
    for module_ in module.modules():
        if isinstance(module_, nn.BatchNorm1d):
            module_.running_var.abs_()
    return module.double().eval()


def test_concatenation_keeps_the_order_of_steps() -> None:
    features_BTD = torch.tensor([[[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]])
    pooling = ConcatPooling(feature_dim=2, num_steps=3)
    assert pooling(features_BTD).tolist() == [[1, 2, 3, 4, 5, 6]]
    assert pooling.feature_dim == 6


def test_concatenation_with_a_layer_by_hand() -> None:
    pooling = ConcatPooling(feature_dim=1, num_steps=2, fc_dim=2)
    linear = pooling.fc[0]
    linear.weight.data = torch.tensor([[1.0, 10.0], [-1.0, 0.0]])
    linear.bias.data = torch.tensor([0.5, 0.0])
    assert pooling(torch.tensor([[[2.0], [3.0]]])).tolist() == [[32.5, 0.0]]


def test_non_local_block_equals_a_slow_one() -> None:
    x_BCTHW = random(2, 3, 2, 2, 3)
    block = seeded(NonLocalBlock(channels=3, inner_channels=2))
    block.requires_grad_(False)
    answer = block(x_BCTHW)
    for clip in range(2):
        positions = [
            (x_BCTHW[clip, :, t, h, w], answer[clip, :, t, h, w]) for t in range(2) for h in range(2) for w in range(3)
        ]
        for x_C, answer_C in positions:
            query = block.theta.weight @ x_C + block.theta.bias
            scores = [math.exp(float(query @ (block.phi.weight @ other_C))) for other_C, _ in positions]
            values = [block.g.weight @ other_C + block.g.bias for other_C, _ in positions]
            mixed = sum(score * value for score, value in zip(scores, values, strict=True)) / sum(scores)
            torch.testing.assert_close(answer_C, x_C + block.out.weight @ mixed + block.out.bias)


def slow_gru(steps_TD: list[Tensor], weights: dict[str, Tensor], end: str) -> list[Tensor]:
    """One layer in one direction (gates in torch's order: r, z, n)."""
    w_in, w_state = weights[f"weight_ih_{end}"], weights[f"weight_hh_{end}"]
    b_in, b_state = weights[f"bias_ih_{end}"], weights[f"bias_hh_{end}"]
    size = len(b_in) // 3
    state, states = torch.zeros(size).double(), []
    for step_D in steps_TD:
        from_in, from_state = w_in @ step_D + b_in, w_state @ state + b_state
        reset = torch.sigmoid(from_in[:size] + from_state[:size])
        update = torch.sigmoid(from_in[size : 2 * size] + from_state[size : 2 * size])
        new = torch.tanh(from_in[2 * size :] + reset * from_state[2 * size :])
        state = (1 - update) * new + update * state
        states.append(state)
    return states


@pytest.mark.parametrize("bidirectional", [False, True])
def test_gru_with_batch_norm_equals_a_slow_one(bidirectional: bool) -> None:
    features_BTD = random(2, 4, 3)
    pooling = seeded(
        RecurrentPooling(
            cell="gru", feature_dim=3, hidden_dims=[5], bidirectional=bidirectional, batch_norm=True, every_step=True
        )
    )
    weights = dict(pooling.gru.named_parameters())
    norm = pooling.norm
    states_BTD = pooling(features_BTD)
    pooling.every_step = False
    clip_BD = pooling(features_BTD)
    for clip in range(2):
        steps = list(features_BTD[clip])
        states = slow_gru(steps, weights, "l0")
        last = states[-1]
        if bidirectional:
            backward = slow_gru(steps[::-1], weights, "l0_reverse")[::-1]
            states = [torch.cat(pair) for pair in zip(states, backward, strict=True)]
            last = torch.cat((last, backward[0]))

        def normed(x_D: Tensor) -> Tensor:
            return (x_D - norm.running_mean) / (norm.running_var + 1e-5).sqrt() * norm.weight + norm.bias

        torch.testing.assert_close(states_BTD[clip], torch.stack([normed(state) for state in states]))
        torch.testing.assert_close(clip_BD[clip], normed(last))


def test_batch_norm_sees_every_step_of_a_batch() -> None:
    features_BTD = random(3, 4, 2)
    pooling = RecurrentPooling(cell="gru", feature_dim=2, hidden_dims=[3], batch_norm=True, every_step=True).double()
    states_BTD = pooling(features_BTD)
    torch.testing.assert_close(states_BTD.mean(dim=(0, 1)), torch.zeros(3).double(), atol=1e-9, rtol=0)


@pytest.mark.parametrize("kind", ["gru", "tcn"])
def test_batch_norm_in_training_knows_nothing_of_padding(kind: str) -> None:
    """Two clips of two and five steps: the states of the real steps have mean 0, and any padding gives the same."""
    torch.manual_seed(0)
    if kind == "gru":
        pooling: nn.Module = RecurrentPooling(
            cell="gru", feature_dim=2, hidden_dims=[3], batch_norm=True, every_step=True
        )
    else:
        pooling = TcnPooling(feature_dim=2, num_filters=3, num_dilations=2, every_step=True)
    pooling = pooling.double().train()
    features_BTD, lengths_B = random(2, 5, 2), torch.tensor([2, 5])
    answers, running = [], []
    for padding in (0.0, 100.0):
        features_BTD[0, 2:] = padding
        states_BTD = pooling(features_BTD, lengths_B)
        answers.append(torch.cat((states_BTD[0, :2], states_BTD[1])))
        norms = [module for module in pooling.modules() if isinstance(module, nn.BatchNorm1d)]
        running.append(torch.cat([norm.running_mean for norm in norms]))
        for norm in norms:
            norm.reset_running_stats()
    torch.testing.assert_close(answers[0], answers[1])
    torch.testing.assert_close(running[0], running[1])
    if kind == "gru":
        torch.testing.assert_close(answers[0].mean(dim=0), torch.zeros(3).double(), atol=1e-9, rtol=0)
    else:
        (first, *_) = [module for module in pooling.modules() if isinstance(module, nn.BatchNorm1d)]
        conv = pooling.layers[0].blocks[0].convs[0].conv
        steps = [
            slow_temporal_conv(steps_TD, conv, dilation=1, first_tap=-2)
            for steps_TD in (features_BTD[0, :2], features_BTD[1])
        ]
        pooling(features_BTD, lengths_B)
        torch.testing.assert_close(first.running_mean, 0.1 * torch.cat(steps).mean(dim=0))


def test_halved_lstm_layers_run_one_after_the_other() -> None:
    features_BTD = random(2, 5, 3)
    pooling = RecurrentPooling(cell="lstm", feature_dim=3, hidden_dims=[8, 4, 2], dropout=0.5).double().eval()
    x_BTD = features_BTD
    for layer, size in zip((pooling.lstm, *pooling.narrower), (8, 4, 2), strict=True):
        assert layer.hidden_size == size
        x_BTD = layer(x_BTD)[0]
    torch.testing.assert_close(pooling(features_BTD), x_BTD[:, -1])
    assert pooling.feature_dim == 2


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("summary", ["last", "mean"])
def test_both_directions_leave_padding_out(cell: Cell, summary: Literal["last", "mean"]) -> None:
    features_BTD = random(3, 6, 3)
    pooling = (
        RecurrentPooling(cell=cell, feature_dim=3, hidden_dims=[4, 4], bidirectional=True, summary=summary)
        .double()
        .eval()
    )
    lengths_B = torch.tensor([2, 6, 4])
    padded_BD = pooling(features_BTD, lengths_B)
    for clip, length in enumerate(lengths_B.tolist()):
        torch.testing.assert_close(padded_BD[clip], pooling(features_BTD[clip : clip + 1, :length])[0])


def slow_conv(x_CHW: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """A 3x3 convolution with zeros around, one output at a time."""
    _, height, width = x_CHW.shape
    out = torch.zeros(len(bias), height, width).double()
    for channel in range(len(bias)):
        for row in range(height):
            for column in range(width):
                total = bias[channel].clone()
                for d_row in (-1, 0, 1):
                    for d_column in (-1, 0, 1):
                        y, x = row + d_row, column + d_column
                        if 0 <= y < height and 0 <= x < width:
                            total = total + weight[channel, :, d_row + 1, d_column + 1] @ x_CHW[:, y, x]
                out[channel, row, column] = total
    return out


def test_conv_gru_equals_a_slow_one() -> None:
    maps_BDTHW = random(1, 2, 3, 2, 3)
    pooling = seeded(ConvGruPooling(feature_dim=2, hidden_dim=3, every_step=True))
    gates, candidate = pooling.gates, pooling.candidate
    state = torch.zeros(3, 2, 3).double()
    with torch.no_grad():
        states_BTD = pooling(maps_BDTHW)
        for step in range(3):
            x = maps_BDTHW[0, :, step]
            both = slow_conv(torch.cat((x, state)), gates.weight, gates.bias).sigmoid()
            reset, update = both[:3], both[3:]
            new = slow_conv(torch.cat((x, reset * state)), candidate.weight, candidate.bias).tanh()
            state = (1 - update) * state + update * new
            torch.testing.assert_close(states_BTD[0, step], state.mean(dim=(1, 2)))


def slow_temporal_conv(x_TD: Tensor, conv: nn.Conv1d, *, dilation: int, first_tap: int) -> Tensor:
    """Tap k reads step t + first_tap + k dilation; what is not there is zero."""
    steps = []
    for t in range(len(x_TD)):
        total = conv.bias
        for tap in range(conv.kernel_size[0]):
            source = t + first_tap + tap * dilation
            if 0 <= source < len(x_TD):
                total = total + conv.weight[:, :, tap] @ x_TD[source]
        steps.append(total)
    return torch.stack(steps)


@pytest.mark.parametrize("causal", [True, False])
def test_tcn_equals_a_slow_one(causal: bool) -> None:
    features_BTD = random(1, 7, 2)
    pooling = seeded(
        TcnPooling(feature_dim=2, num_filters=3, num_layers=2, num_dilations=3, causal=causal, every_step=True)
    )
    x_TD = features_BTD[0]
    with torch.no_grad():
        states_TD = pooling(features_BTD)[0]
        for layer in pooling.layers:
            total_TD = torch.zeros(7, 3).double()
            for index, block in enumerate(layer.blocks):
                dilation = 2**index
                residual_TD = x_TD
                for conv, norm in zip(block.convs, block.norms, strict=True):
                    first_tap = -2 * dilation if causal else -dilation
                    residual_TD = slow_temporal_conv(residual_TD, conv.conv, dilation=dilation, first_tap=first_tap)
                    spread = (norm.running_var + 1e-5).sqrt()
                    residual_TD = ((residual_TD - norm.running_mean) / spread * norm.weight + norm.bias).clamp(min=0)
                shortcut_TD = x_TD
                if isinstance(block.shortcut, nn.Conv1d):
                    shortcut_TD = x_TD @ block.shortcut.weight[:, :, 0].T + block.shortcut.bias
                total_TD = total_TD + residual_TD
                if index < 2:
                    x_TD = (residual_TD + shortcut_TD).clamp(min=0)
            x_TD = total_TD
        torch.testing.assert_close(states_TD, x_TD)
        pooling.every_step = False
        torch.testing.assert_close(pooling(features_BTD)[0], x_TD[-1] if causal else x_TD.mean(dim=0))


def test_a_tcn_with_normed_weights_learns_the_size_of_a_filter_apart_from_its_direction() -> None:
    features_BTD = random(2, 7, 2)
    torch.manual_seed(0)
    normed = TcnPooling(feature_dim=2, num_filters=3, num_dilations=2, norm="weight", every_step=True).double()
    torch.manual_seed(0)
    plain = TcnPooling(feature_dim=2, num_filters=3, num_dilations=2, norm="none", every_step=True).double()
    torch.testing.assert_close(normed(features_BTD), plain(features_BTD), atol=1e-6, rtol=0)  # as it begins

    seeded(normed)
    for ours, theirs in zip(normed.layers[0].blocks, plain.layers[0].blocks, strict=True):
        theirs.shortcut.load_state_dict(ours.shortcut.state_dict())
        for mine, other in zip(ours.convs, theirs.convs, strict=True):
            size_D11, direction_DKT = (value.detach() for value in mine.conv.parametrizations.weight.parameters())
            assert size_D11.shape == (3, 1, 1)
            lengths = [math.sqrt(sum(float(v) ** 2 for v in filter_KT.flatten())) for filter_KT in direction_DKT]
            slow = [float(g) * v / length for g, v, length in zip(size_D11, direction_DKT, lengths, strict=True)]
            other.conv.weight.data = torch.stack(slow)
            other.conv.bias.data = mine.conv.bias.data
    torch.testing.assert_close(normed(features_BTD), plain.eval()(features_BTD))

    normed(features_BTD).square().sum().backward()
    plain(features_BTD).square().sum().backward()
    mine, other = normed.layers[0].blocks[0].convs[0].conv, plain.layers[0].blocks[0].convs[0].conv
    size_D11, direction_DKT = mine.parametrizations.weight.parameters()
    unit_DKT = direction_DKT.detach() / direction_DKT.detach().flatten(1).norm(dim=1)[:, None, None]
    gradient_DKT = other.weight.grad
    along_D11 = (gradient_DKT * unit_DKT).sum(dim=(1, 2), keepdim=True)
    torch.testing.assert_close(size_D11.grad, along_D11)  # Salimans and Kingma 2016, equation 3
    turned_DKT = size_D11 / direction_DKT.flatten(1).norm(dim=1)[:, None, None] * (gradient_DKT - along_D11 * unit_DKT)
    torch.testing.assert_close(direction_DKT.grad, turned_DKT.detach())


@pytest.mark.parametrize(("causal", "seen"), [(True, range(300 - 252, 301)), (False, range(300 - 126, 300 + 127))])
def test_tcn_sees_as_far_as_its_dilations_add_up(causal: bool, seen: range) -> None:
    """Two convolutions of three taps with each dilation 1 to 32 reach 2 x 2 x 63 steps, all back or half each way."""
    torch.manual_seed(0)
    pooling = TcnPooling(feature_dim=2, num_filters=8, causal=causal, norm="none", every_step=True).double()
    for block in pooling.layers[0].blocks:
        for conv in block.convs:
            nn.init.uniform_(conv.conv.weight, 0.1, 0.2)  # every tap counts, no unit is dead
    features_BTD = torch.rand(1, 600, 2).double().requires_grad_()
    pooling(features_BTD)[0, 300].sum().backward()
    touched = features_BTD.grad.abs().sum(dim=(0, 2)).nonzero().flatten().tolist()
    assert touched == list(seen)


def test_encoder_decoder_equals_a_slow_one() -> None:
    features_BTD = random(1, 6, 2)  # two levels: filled to eight steps
    pooling = seeded(EncoderDecoderPooling(feature_dim=2, num_filters=4, kernel_size=3, every_step=True))

    def activate(x_TD: Tensor, conv: nn.Module, *, real: int) -> Tensor:
        rectified = slow_temporal_conv(x_TD, conv.conv, dilation=1, first_tap=-1).clamp(min=0)
        for t in range(len(rectified)):
            rectified[t] = rectified[t] / (rectified[t].max() + 1e-5) if t < real else 0
        return rectified

    with torch.no_grad():
        x_TD = torch.cat((features_BTD[0], torch.zeros(2, 2).double()))
        for conv, real in zip(pooling.encoder, (6, 3), strict=True):
            active = activate(x_TD, conv, real=real)
            x_TD = torch.stack([torch.maximum(active[t], active[t + 1]) for t in range(0, len(active), 2)])
        for conv, real in zip(pooling.decoder, (3, 6), strict=True):
            doubled = torch.stack([x_TD[t // 2] for t in range(2 * len(x_TD))])
            doubled[real:] = 0
            x_TD = activate(doubled, conv, real=real)
        torch.testing.assert_close(pooling(features_BTD)[0], x_TD[:6])
    assert [conv.conv.out_channels for conv in (*pooling.encoder, *pooling.decoder)] == [4, 6, 6, 4]


def test_positions_by_hand() -> None:
    positions_TD = sinusoidal_positions(3, dim=4)
    expected = [[0, 1, 0, 1]] + [[math.sin(t), math.cos(t), math.sin(t / 100), math.cos(t / 100)] for t in (1, 2)]
    torch.testing.assert_close(positions_TD, torch.tensor(expected))


def test_transformer_equals_torchs_encoder() -> None:
    features_BTD = random(2, 5, 8)
    torch.manual_seed(0)
    pooling = TransformerPooling(feature_dim=8, num_heads=2, num_blocks=2, dropout=0.3, every_step=True).double().eval()
    x_BTD = features_BTD + sinusoidal_positions(5, dim=8).double()
    hidden_BT = torch.tensor([[False] * 5, [False] * 3 + [True] * 2])
    with torch.no_grad():
        for block in pooling.blocks:
            theirs = nn.TransformerEncoderLayer(
                8, 2, dim_feedforward=32, activation=F.gelu, norm_first=True, batch_first=True
            ).double()
            attention = block.attention
            parts = (attention.query, attention.key, attention.value)
            theirs.self_attn.in_proj_weight.copy_(torch.cat([part.weight for part in parts]))
            theirs.self_attn.in_proj_bias.copy_(torch.cat([part.bias for part in parts]))
            theirs.self_attn.out_proj.load_state_dict(attention.project.state_dict())
            theirs.linear1.load_state_dict(block.feed_forward[0].state_dict())
            theirs.linear2.load_state_dict(block.feed_forward[3].state_dict())
            theirs.norm1.load_state_dict(block.attention_norm.state_dict())
            theirs.norm2.load_state_dict(block.feed_forward_norm.state_dict())
            x_BTD = theirs.eval()(x_BTD, src_key_padding_mask=hidden_BT)
        expected_BTD = F.layer_norm(x_BTD, (8,), pooling.norm.weight, pooling.norm.bias)
        steps_BTD = pooling(features_BTD, torch.tensor([5, 3]))
        torch.testing.assert_close(steps_BTD[0], expected_BTD[0])
        torch.testing.assert_close(steps_BTD[1, :3], expected_BTD[1, :3])
        pooling.every_step = False
        clip_BD = pooling(features_BTD, torch.tensor([5, 3]))
        torch.testing.assert_close(clip_BD[1], expected_BTD[1, :3].mean(dim=0))


def test_bert_without_a_class_token_takes_the_mean_of_its_steps() -> None:
    features_BTD = random(2, 4, 6)
    pooling = BertPooling(feature_dim=6, num_heads=2, max_steps=4, summary="mean").double().eval()
    clip_BD = pooling(features_BTD)
    assert "class_token" not in dict(pooling.named_parameters())
    pooling.every_step = True
    torch.testing.assert_close(clip_BD, pooling(features_BTD).mean(dim=1))


def test_bert_without_a_class_token_never_hides_a_whole_clip() -> None:
    pooling = BertPooling(feature_dim=4, num_heads=1, summary="mean", mask_prob=0.9).train()
    torch.manual_seed(0)
    assert pooling(torch.randn(200, 1, 4)).isfinite().all()


@pytest.mark.parametrize(("normal_init", "std"), [(True, 0.02), (False, 1 / math.sqrt(3 * 256))])
def test_bert_draws_its_linear_layers_as_stated(normal_init: bool, std: float) -> None:
    torch.manual_seed(0)
    pooling = BertPooling(feature_dim=256, normal_init=normal_init)
    assert pooling.blocks[0].attention.query.weight.std().item() == pytest.approx(std, rel=0.05)
