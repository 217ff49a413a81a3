"""Poolings against slow, plain references; torchvision's and timm's own models against ours."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from kineflow.models.pooling.average import AveragePooling
from kineflow.models.pooling.bert import BertPooling
from kineflow.models.pooling.recurrent import RecurrentPooling, Summary
from kineflow.models.registry import create_model
from kineflow.models.torchvision_compat import declare_missing_torchvision_ops
from kineflow.models.weights import load_weights

declare_missing_torchvision_ops()


def random_features(batch_size: int, num_steps: int, dim: int) -> Tensor:
    return torch.randn(batch_size, num_steps, dim, generator=torch.Generator().manual_seed(3)).double()


def test_average_pooling_by_hand() -> None:
    features_BTD = torch.tensor([[[1.0, 10.0], [2.0, 20.0], [6.0, 0.0]]])
    torch.testing.assert_close(AveragePooling(feature_dim=2)(features_BTD), torch.tensor([[3.0, 10.0]]))


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def slow_lstm_direction(steps_TD: list[list[float]], weights: dict[str, Tensor], end: str) -> list[list[float]]:
    """One layer in one direction, one number at a time (gates in torch's order: i, f, g, o)."""
    w_in, w_state = weights[f"weight_ih_{end}"].tolist(), weights[f"weight_hh_{end}"].tolist()
    bias = (weights[f"bias_ih_{end}"] + weights[f"bias_hh_{end}"]).tolist()
    size = len(bias) // 4
    hidden, cell = [0.0] * size, [0.0] * size
    states = []
    for step in steps_TD:
        gates = [
            sum(w * x for w, x in zip(w_in[row], step, strict=True))
            + sum(w * h for w, h in zip(w_state[row], hidden, strict=True))
            + bias[row]
            for row in range(4 * size)
        ]
        for unit in range(size):
            let_in, keep = sigmoid(gates[unit]), sigmoid(gates[size + unit])
            cell[unit] = keep * cell[unit] + let_in * math.tanh(gates[2 * size + unit])
        hidden = [sigmoid(gates[3 * size + unit]) * math.tanh(cell[unit]) for unit in range(size)]
        states.append(hidden)
    return states


def slow_lstm(features_TD: Tensor, pooling: RecurrentPooling) -> tuple[list[list[float]], list[float]]:
    """Every step's states of the top layer, and the states after the whole clip in each direction."""
    weights = dict(pooling.lstm.named_parameters())
    steps, last = features_TD.tolist(), []
    for layer in range(pooling.lstm.num_layers):
        forward = slow_lstm_direction(steps, weights, f"l{layer}")
        last = forward[-1]
        if pooling.lstm.bidirectional:
            backward = slow_lstm_direction(steps[::-1], weights, f"l{layer}_reverse")[::-1]
            last = forward[-1] + backward[0]
            steps = [a + b for a, b in zip(forward, backward, strict=True)]
        else:
            steps = forward
    return steps, last


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("num_layers", [1, 2])
def test_lstm_pooling_equals_a_slow_one(bidirectional: bool, num_layers: int) -> None:
    features_BTD = random_features(2, 5, 3)

    def pooled(*, summary: Summary = "last", every_step: bool = False) -> tuple[Tensor, RecurrentPooling]:
        torch.manual_seed(0)
        pooling = RecurrentPooling(
            cell="lstm",
            feature_dim=3,
            hidden_dims=[4] * num_layers,
            bidirectional=bidirectional,
            summary=summary,
            every_step=every_step,
        ).double()
        return pooling(features_BTD), pooling

    last_BD, pooling = pooled()
    mean_BD, _ = pooled(summary="mean")
    steps_BTD, _ = pooled(every_step=True)
    for clip in range(2):
        slow_steps, slow_last = slow_lstm(features_BTD[clip], pooling)
        slow_steps_TD = torch.tensor(slow_steps).double()
        torch.testing.assert_close(steps_BTD[clip], slow_steps_TD)
        torch.testing.assert_close(mean_BD[clip], slow_steps_TD.mean(dim=0))
        torch.testing.assert_close(last_BD[clip], torch.tensor(slow_last).double())


def slow_norm(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    centred = x - x.mean()
    return centred / (centred.square().mean() + 1e-5).sqrt() * weight + bias


def slow_block(tokens: list[Tensor], weights: dict[str, Tensor], *, heads: int, visible: list[bool]) -> list[Tensor]:
    """One transformer block, token by token and head by head; `visible` says which tokens may be attended to."""

    def layer(name: str, x: Tensor) -> Tensor:
        return weights[f"{name}.weight"] @ x + weights[f"{name}.bias"]

    normed = [slow_norm(x, weights["attention_norm.weight"], weights["attention_norm.bias"]) for x in tokens]
    queries, keys, values = ([layer(f"attention.{kind}", x) for x in normed] for kind in ("query", "key", "value"))
    size = len(tokens[0]) // heads
    attended = []
    for query in queries:
        parts = []
        for head in range(heads):
            part = slice(head * size, (head + 1) * size)
            scores = [
                math.exp(float(query[part] @ key[part]) / math.sqrt(size)) if seen else 0.0
                for key, seen in zip(keys, visible, strict=True)
            ]
            mixed = sum(score * value[part] for score, value in zip(scores, values, strict=True))
            parts.append(mixed / sum(scores))
        attended.append(layer("attention.project", torch.cat(parts)))
    answers = []
    for x, context in zip(tokens, attended, strict=True):
        middle = x + context
        normed_middle = slow_norm(middle, weights["feed_forward_norm.weight"], weights["feed_forward_norm.bias"])
        hidden = layer("feed_forward.0", normed_middle)
        activated = torch.tensor([0.5 * h * (1 + math.erf(h / math.sqrt(2))) for h in hidden.tolist()]).double()
        answers.append(middle + layer("feed_forward.3", activated))
    return answers


def slow_bert(features_TD: Tensor, pooling: BertPooling, *, heads: int, visible: list[bool]) -> list[Tensor]:
    tokens = [pooling.class_token, *features_TD]
    tokens = [token + pooling.positions[place] for place, token in enumerate(tokens)]
    for block in pooling.blocks:
        tokens = slow_block(tokens, dict(block.named_parameters()), heads=heads, visible=visible)
    return tokens


@pytest.mark.parametrize("num_blocks", [1, 2])
def test_bert_pooling_equals_a_slow_one(num_blocks: int) -> None:
    features_BTD = random_features(2, 4, 6)
    torch.manual_seed(0)
    pooling = BertPooling(feature_dim=6, num_heads=3, num_blocks=num_blocks, max_steps=5).double().eval()
    with torch.no_grad():
        clip_BD = pooling(features_BTD)
        pooling.every_step = True
        steps_BTD = pooling(features_BTD)
        for clip in range(2):
            slow = slow_bert(features_BTD[clip], pooling, heads=3, visible=[True] * 5)
            torch.testing.assert_close(clip_BD[clip], slow[0])
            torch.testing.assert_close(steps_BTD[clip], torch.stack(slow[1:]))


def test_bert_in_training_hides_the_masked_steps_and_only_those() -> None:
    features_BTD = random_features(1, 7, 6)
    torch.manual_seed(0)
    pooling = BertPooling(feature_dim=6, num_heads=2, mask_prob=0.5, dropout=0.0).double().train()
    torch.manual_seed(4)
    visible = [True, *(torch.rand(1, 7) >= 0.5)[0].tolist()]
    assert 1 < sum(visible) < 8
    torch.manual_seed(4)
    with torch.no_grad():
        pooled_D = pooling(features_BTD)[0]
        torch.testing.assert_close(pooled_D, slow_bert(features_BTD[0], pooling, heads=2, visible=visible)[0])


def test_bert_masks_one_step_in_five_and_never_the_class_token() -> None:
    pooling = BertPooling(feature_dim=8).train()
    torch.manual_seed(0)
    seen = []
    attention = pooling.blocks[0].attention
    attention.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[1]))
    pooling(torch.zeros(2000, 16, 8))
    (visible_BN,) = seen
    assert visible_BN[:, 0].all()
    hidden = 1 - visible_BN[:, 1:].double().mean().item()
    assert hidden == pytest.approx(0.2, abs=4 * math.sqrt(0.2 * 0.8 / 32000))


def test_bert_starts_from_the_stated_spread() -> None:
    torch.manual_seed(0)
    pooling = BertPooling(feature_dim=512)
    assert pooling.positions.std().item() == pytest.approx(0.02, rel=0.05)
    assert pooling.class_token.std().item() == pytest.approx(0.02, rel=0.15)


@pytest.fixture
def one_thread() -> object:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("one_thread")
def test_r3d_18_equals_torchvisions(tmp_path: Path) -> None:
    from torchvision.models.video import r3d_18

    torch.manual_seed(0)
    theirs = r3d_18(weights=None, num_classes=6).eval()
    torch.save(theirs.state_dict(), tmp_path / "theirs.pt")
    ours = create_model("r3d_18.avg", num_classes=6, in_channels=3, task="clip").eval()
    report = load_weights(ours, str(tmp_path / "theirs.pt"))
    assert (report.missing, report.unused) == ((), ())  # their `fc` is our head: as many classes, the same features
    clips = torch.randn(2, 3, 9, 40, 32)
    with torch.no_grad():
        torch.testing.assert_close(ours(clips).logits, theirs(clips), rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("arch", ["resnet18", "resnet50"])
@pytest.mark.parametrize("library", ["torchvision", "timm"])
def test_2d_features_equal_the_librarys(arch: str, library: str, tmp_path: Path) -> None:
    import timm
    import torchvision

    torch.manual_seed(0)
    if library == "timm":
        theirs = timm.create_model(arch, pretrained=False, num_classes=0).eval()
    else:
        theirs = torchvision.models.get_model(arch, weights=None).eval()
        theirs.fc = torch.nn.Identity()
    torch.save(theirs.state_dict(), tmp_path / "theirs.pth")
    ours = create_model(f"{arch}.avg", num_classes=6, in_channels=3, task="clip").eval()
    report = load_weights(ours, str(tmp_path / "theirs.pth"))
    assert report.missing == ("head.classifier.weight", "head.classifier.bias")
    assert report.unused == report.dropped == ()
    clips_BCTHW = torch.randn(2, 3, 3, 48, 40)
    with torch.no_grad():
        features_BTD = ours.flatten(ours.backbone(clips_BCTHW))
        for clip in range(2):
            for frame in range(3):
                expected_1D = theirs(clips_BCTHW[clip : clip + 1, :, frame])
                scale = expected_1D.abs().max().item()
                torch.testing.assert_close(features_BTD[clip, frame], expected_1D[0], rtol=1e-4, atol=1e-5 * scale)
        torch.testing.assert_close(ours(clips_BCTHW).features, features_BTD.sum(dim=1) / 3)
