"""Two-phase training, partial freezing and rates by layer: what changes, how fast, and what stays as it was."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from kineflow.data.dataset import collate
from kineflow.errors import ParamsError
from kineflow.models.classifier import VideoClassifier
from kineflow.models.registry import create_model
from kineflow.training.batches import epoch_batches
from kineflow.training.finetune import Finetune
from kineflow.training.inputs import model_input
from kineflow.training.loop import fit
from kineflow.training.recipe import Recipe, learning_rate, make_optimizer
from kineflow.training.state import EpochResult
from tests.unit.training.test_loop import CPU, CROSS_ENTROPY, PREPROCESSING, moving_left_or_right
from tests.unit.training.test_loop import recipe as plain_recipe

TWO_PHASES = Finetune(
    head_epochs=1,
    head_optimizer="adamw",
    head_lr=0.02,
    top_blocks=2,
    top_fraction=None,
    blocks_lr_factor=0.1,
    lr_decay_per_block=0.5,
)


def recipe(**changes) -> Recipe:
    values = {"epochs": 4, "optimizer": "sgd", "lr": 0.001, "finetune": TWO_PHASES}
    return plain_recipe(**(values | changes))


def model() -> VideoClassifier:
    """Of four blocks: stem, stages.0, stages.1, stages.2."""
    torch.manual_seed(3)
    return create_model("r3d_mini.avg", num_classes=2, in_channels=2, task="clip", dropout=0.2)


def changed(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> set[str]:
    """The parts of the model whose tensors differ, statistics of batch norm among them."""
    names = {name for name, value in before.items() if not torch.equal(value, after[name])}
    parts = [f"backbone.network.{part}" for part in ("stem", "stages.0", "stages.1", "stages.2")]
    return {next((part for part in parts if name.startswith(part + ".")), "head") for name in names}


def test_the_head_trains_alone_and_then_with_the_top_blocks() -> None:
    trained = model()
    before = {name: value.clone() for name, value in trained.state_dict().items()}
    states: list[dict[str, torch.Tensor]] = []

    def keep(result: EpochResult) -> None:
        states.append({name: value.clone() for name, value in trained.state_dict().items()})

    fit(trained, CROSS_ENTROPY, moving_left_or_right(8), None, recipe(), device=CPU, on_epoch=keep)
    assert changed(before, states[0]) == {"head"}
    assert changed(states[0], states[1]) == {"head", "backbone.network.stages.1", "backbone.network.stages.2"}
    assert changed(before, states[3]) == {"head", "backbone.network.stages.1", "backbone.network.stages.2"}


@pytest.mark.parametrize("ema_decay", [None, 0.9])
def test_frozen_blocks_keep_their_statistics_where_the_others_are_measured(ema_decay: float | None) -> None:
    before = {name: value.clone() for name, value in model().state_dict().items()}
    given = recipe(batch_norm="precise", ema_decay=ema_decay)
    fitted = fit(model(), CROSS_ENTROPY, moving_left_or_right(8), None, given, device=CPU)
    assert changed(before, fitted.state) == {"head", "backbone.network.stages.1", "backbone.network.stages.2"}


def test_same_weights_as_two_bare_pytorch_loops() -> None:
    train_set = moving_left_or_right(8)
    fitted = fit(model(), CROSS_ENTROPY, train_set, None, recipe(), device=CPU)

    bare = model()
    torch.manual_seed(3)
    network = bare.backbone.network
    head = list(bare.head.parameters())
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    adam = torch.optim.AdamW(_by_decay(head, lr=0.02), betas=(0.9, 0.99))
    _bare_epochs(bare, train_set, adam, [network], epochs=range(1), lr=0.02, factors=[1.0])
    for block in network.stages[1:]:
        block.requires_grad_(True)
    groups = [*_by_decay(head, lr=1), *_by_decay(network.stages[2].parameters(), lr=1)]
    groups += _by_decay(network.stages[1].parameters(), lr=1)
    sgd = torch.optim.SGD(groups, lr=1, momentum=0.9, nesterov=True)
    frozen = [network.stem, network.stages[0]]
    _bare_epochs(bare, train_set, sgd, frozen, epochs=range(1, 4), lr=0.001, factors=[1.0, 0.1, 0.05])
    for name, value in bare.state_dict().items():
        assert torch.equal(value, fitted.state[name]), name


def _by_decay(parameters, *, lr: float) -> list[dict]:
    parameters = list(parameters)
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": 0.01, "lr": lr},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0, "lr": lr},
    ]


def _bare_epochs(bare, train_set, optimizer, frozen, *, epochs: range, lr: float, factors: list[float]) -> None:
    step = 0
    for epoch in epochs:
        bare.train()
        for module in frozen:
            module.eval()
        for positions in epoch_batches([0] * 8, recipe(), epoch):
            samples = [train_set.sample(p, epoch=epoch) for p in positions]
            rate = learning_rate(step, num_steps=2 * len(epochs), recipe=recipe(lr=lr))
            for index, group in enumerate(optimizer.param_groups):
                group["lr"] = rate * factors[index // 2]
            optimizer.zero_grad()
            logits = bare(model_input(collate(samples), PREPROCESSING, CPU)).logits
            F.cross_entropy(logits, torch.tensor([s.target for s in samples])).backward()
            optimizer.step()
            step += 1


def test_all_blocks_at_one_rate_are_plain_training() -> None:
    whole = replace(TWO_PHASES, head_epochs=0, top_blocks=4, blocks_lr_factor=1.0, lr_decay_per_block=1.0)
    train_set = moving_left_or_right(8)
    tuned = fit(model(), CROSS_ENTROPY, train_set, None, recipe(finetune=whole), device=CPU)
    plain = fit(model(), CROSS_ENTROPY, train_set, None, recipe(finetune=None), device=CPU)
    assert all(torch.equal(value, plain.state[name]) for name, value in tuned.state.items())


@pytest.mark.parametrize("killed_after", [0, 1, 2])
def test_killed_and_resumed_in_either_phase_gives_the_same_weights(tmp_path, killed_after: int) -> None:
    chosen = recipe(ema_decay=0.9, select="best")
    data = moving_left_or_right(10), moving_left_or_right(6, augment=None)
    whole = fit(model(), CROSS_ENTROPY, *data, chosen, device=CPU)

    class KilledError(Exception):
        pass

    def kill(result: EpochResult) -> None:
        if result.epoch == killed_after:
            raise KilledError

    path = tmp_path / "state.pt"
    with pytest.raises(KilledError):
        fit(model(), CROSS_ENTROPY, *data, chosen, device=CPU, checkpoint=path, on_epoch=kill)
    resumed = fit(model(), CROSS_ENTROPY, *data, chosen, device=CPU, checkpoint=path)
    assert resumed.curves == whole.curves and resumed.best_epoch == whole.best_epoch
    assert all(torch.equal(value, resumed.state[name]) for name, value in whole.state.items())


def test_a_refit_of_fewer_epochs_than_the_heads_trains_the_head_alone() -> None:
    phases = recipe(epochs=2, finetune=replace(TWO_PHASES, head_epochs=3)).phases
    assert [(phase.first_epoch, phase.num_epochs, phase.head_only) for phase in phases] == [(0, 2, True)]


def rates(name: str, finetune: Finetune) -> dict[str, float]:
    """The rate of each block of a model that trains after the head's epochs."""
    with torch.device("meta"):
        network = create_model(name, num_classes=2, in_channels=3, task="clip")
    chosen = recipe(lr=1.0, finetune=finetune)
    optimizer = make_optimizer(network, chosen, epoch=finetune.head_epochs)
    rate_of = {p: group["lr"] for group in optimizer.param_groups for p in group["params"]}
    found: dict[str, float] = {}
    for parameter_name, parameter in network.named_parameters():
        if parameter in rate_of:
            found[_block_of(parameter_name)] = rate_of[parameter]
    return found


def _block_of(parameter_name: str) -> str:
    parts = parameter_name.removeprefix("backbone.network.").split(".")
    return ".".join(parts[:2]) if parts[0].startswith(("layer", "stages")) else parts[0]


def test_rates_fall_from_block_to_block_by_hand() -> None:
    finetune = replace(TWO_PHASES, top_blocks=4)
    assert rates("resnet10_tiny.avg", finetune) == pytest.approx(
        {"head": 1.0, "stages.2": 0.1, "stages.1": 0.05, "stages.0": 0.025, "conv1": 0.0125, "bn1": 0.0125}
    )


def test_half_of_resnet18_are_its_last_two_stages() -> None:
    half = replace(TWO_PHASES, top_blocks=None, top_fraction=0.5, lr_decay_per_block=1.0)
    blocks = [f"layer{stage}.{block}" for stage in (3, 4) for block in (0, 1)]
    assert rates("resnet18.bert", half) == pytest.approx({"pooling": 1.0, "head": 1.0, **dict.fromkeys(blocks, 0.1)})


def test_the_thesis_trains_the_top_two_inception_modules() -> None:
    assert set(rates("inception_v3.avg", TWO_PHASES)) == {"head", "Mixed_7b", "Mixed_7c"}


def test_none_of_the_blocks_leaves_a_fixed_backbone() -> None:
    assert set(rates("resnet10_tiny.gru", replace(TWO_PHASES, top_blocks=0))) == {"pooling", "head"}


def test_groups_come_in_the_same_order_every_time() -> None:
    def shapes(seed: int) -> list[list[tuple[int, ...]]]:
        torch.manual_seed(seed)
        network = create_model("resnet10_tiny.bert", num_classes=2, in_channels=3, task="clip")
        groups = make_optimizer(network, recipe(), epoch=1).param_groups
        return [[tuple(parameter.shape) for parameter in group["params"]] for group in groups]

    assert shapes(0) == shapes(1)


def test_too_many_blocks_and_backbones_without_weights_are_refused() -> None:
    with pytest.raises(ParamsError, match=r"top_blocks: the backbone of resnet10_tiny.avg has 4 blocks, not 9"):
        rates("resnet10_tiny.avg", replace(TWO_PHASES, top_blocks=9))
    with pytest.raises(ParamsError, match=r"the backbone of pixels.gru has no weights .*write finetune: null"):
        rates("pixels.gru", TWO_PHASES)


def test_what_never_trains_is_not_unfrozen() -> None:
    network = model()
    fixed: nn.Parameter = network.backbone.network.stages[2].conv1.weight
    fixed.requires_grad_(False)
    before = fixed.detach().clone()
    fit(network, CROSS_ENTROPY, moving_left_or_right(8), None, recipe(epochs=2), device=CPU)
    assert not fixed.requires_grad and torch.equal(fixed, before)
