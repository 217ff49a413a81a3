"""What a recipe can ask of the loop: each against a plain loop, a formula or another library."""

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import average_precision_score, f1_score

from kineflow.data.dataset import ClipDataset, collate
from kineflow.errors import ParamsError
from kineflow.models.classifier import Prediction
from kineflow.models.registry import create_model
from kineflow.training.batch_norm import batch_norms, measure_batch_norm
from kineflow.training.batches import epoch_batches, sampling_weights
from kineflow.training.inputs import model_input
from kineflow.training.loop import FitResult, fit
from kineflow.training.objectives import Classification, focal, masked_binary_cross_entropy, masked_cross_entropy
from kineflow.training.recipe import Recipe, is_stopped_early, learning_rate, make_optimizer, plateau_scale
from kineflow.training.recompute import recompute_activations
from kineflow.training.scoring import predict_probs
from kineflow.training.state import EpochResult
from kineflow.training.steps import Shard
from tests.unit.training.test_loop import (
    CPU,
    CROSS_ENTROPY,
    moving_left_or_right,
    moving_with_labels_of_some_frames,
    recipe,
)

NAN = math.nan


def model(seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    return create_model("r3d_mini.avg", num_classes=2, in_channels=2, task="clip")


def without_norms(network: torch.nn.Module | None = None) -> torch.nn.Module:
    """Of which a batch in two halves and a whole one mean the same."""
    network = network or model()
    for norm in batch_norms(network):
        norm.eval()
        norm.train = lambda mode=True, norm=norm: norm  # type: ignore[method-assign, misc, assignment]
    return network


def of_frames() -> torch.nn.Module:
    torch.manual_seed(0)
    given = {"num_classes": 2, "in_channels": 2, "task": "frame", "dropout": 0.0}
    return without_norms(create_model("resnet10_tiny.tcn", **given))


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor], tolerance: float) -> bool:
    return all(torch.allclose(one[name], other[name], atol=tolerance) for name in one)


def test_two_batches_of_a_step_are_one_of_twice_the_size_and_the_last_part_is_kept() -> None:
    clips = moving_left_or_right(10)  # batches of 2: two steps of two batches, and one of a single batch
    whole = fit(
        without_norms(), CROSS_ENTROPY, clips, None, recipe(batch_size=4, epochs=1, optimizer="sgd"), device=CPU
    )
    halves = fit(
        without_norms(),
        CROSS_ENTROPY,
        clips,
        None,
        recipe(batch_size=2, accumulation=2, epochs=1, optimizer="sgd"),
        device=CPU,
    )
    assert equal(whole.state, halves.state, 1e-6)
    assert whole.curves[0].lr == pytest.approx(halves.curves[0].lr)  # as many steps


def test_a_batch_that_memory_has_no_room_for_comes_in_pieces(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    clips, asked = moving_left_or_right(8), list[int]()
    short_of_memory = without_norms()
    forward = short_of_memory.forward

    def refuse_large(clips_BCTHW: torch.Tensor, *others: object) -> object:
        asked.append(len(clips_BCTHW))
        if len(clips_BCTHW) > 2:
            raise torch.OutOfMemoryError("no room")
        return forward(clips_BCTHW, *others)

    monkeypatch.setattr(short_of_memory, "forward", refuse_large)
    given = recipe(batch_size=8, epochs=2, optimizer="sgd")
    path = tmp_path / "state.pt"
    pieces = fit(short_of_memory, CROSS_ENTROPY, clips, None, given, device=CPU, checkpoint=path)
    assert asked == [8, 4, 2, 2, 2, 2, 2, 2, 2, 2]  # halved until it fits, and so from then on
    assert [epoch.num_pieces for epoch in pieces.curves] == [4, 4]
    fit(short_of_memory, CROSS_ENTROPY, clips, None, replace(given, epochs=3), device=CPU, checkpoint=path)
    assert asked[10:] == [2, 2, 2, 2]  # also where it goes on
    assert equal(pieces.state, fit(without_norms(), CROSS_ENTROPY, clips, None, given, device=CPU).state, 1e-6)

    def refuse_all(*inputs: object) -> object:
        raise torch.OutOfMemoryError("no room")

    monkeypatch.setattr(short_of_memory, "forward", refuse_all)
    with pytest.raises(ParamsError, match="no memory for a single clip; make the stream's clips smaller"):
        fit(short_of_memory, CROSS_ENTROPY, clips, None, given, device=CPU)
    with pytest.raises(ParamsError, match="no memory for 4 clips in each data-parallel worker"):
        fit(short_of_memory, CROSS_ENTROPY, clips, None, given, device=CPU, shard=Shard(0, world_size=2))


class Supervised(torch.nn.Module):
    """A model that minimises something of its features too, which takes no labels."""

    def __init__(self) -> None:
        super().__init__()
        self.model = of_frames()

    def forward(self, clips_BCTHW: torch.Tensor, num_frames_B: torch.Tensor | None = None) -> Prediction:
        prediction: Prediction = self.model(clips_BCTHW, num_frames_B)
        return prediction._replace(extra_losses={"features": (prediction.features - 1).square().mean()})


@pytest.mark.parametrize("make_model", [of_frames, Supervised])
def test_of_frames_with_gaps_every_label_and_clip_weighs_alike_however_a_step_is_cut(
    make_model: Callable[[], torch.nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clips have none to four labelled frames: pieces, batches of one step and processes have more or fewer labels."""
    clips, objective = moving_with_labels_of_some_frames(8), Classification("independent")
    given = recipe(batch_size=8, epochs=1, optimizer="sgd")

    def trained(network: torch.nn.Module, chosen: Recipe, shard: Shard | None = None) -> FitResult:
        return fit(network, objective, clips, None, chosen, device=CPU, shard=shard)

    whole = trained(make_model(), given)
    in_batches = trained(make_model(), replace(given, batch_size=2, accumulation=4))
    pieces = make_model()
    forward = pieces.forward

    def refuse_large(clips_BCTHW: torch.Tensor, *others: object) -> object:
        if len(clips_BCTHW) > 2:
            raise torch.OutOfMemoryError("no room")
        return forward(clips_BCTHW, *others)

    monkeypatch.setattr(pieces, "forward", refuse_large)
    for cut in (in_batches, trained(pieces, given)):
        assert equal(whole.state, cut.state, 1e-6)
        assert cut.curves[0].train_loss == pytest.approx(whole.curves[0].train_loss, rel=1e-5)

    monkeypatch.setattr(torch.distributed, "all_reduce", lambda total: None)
    first, second = (trained(make_model(), given, Shard(rank, world_size=2)) for rank in range(2))
    for name, _ in make_model().named_parameters():  # each by itself: in data-parallel training they are averaged
        torch.testing.assert_close((first.state[name] + second.state[name]) / 2, whole.state[name], atol=1e-6, rtol=0)
    both = first.curves[0].train_loss + second.curves[0].train_loss
    assert both == pytest.approx(whole.curves[0].train_loss, rel=1e-5)


def test_clips_without_any_label_still_teach_what_needs_none() -> None:
    clips = moving_with_labels_of_some_frames(8)
    unlabelled = replace(clips, items=[replace(item, target=np.full((4, 2), NAN, np.float32)) for item in clips.items])
    given = recipe(batch_size=4, epochs=1, optimizer="sgd", weight_decay=0.0)
    for network, learns in ((of_frames(), False), (Supervised(), True)):
        before = {name: value.clone() for name, value in network.named_parameters()}
        loss = fit(network, Classification("independent"), unlabelled, None, given, device=CPU).curves[0].train_loss
        moved = any(not torch.equal(value, before[name]) for name, value in network.named_parameters())
        assert (moved, loss > 0) == (learns, learns)


def test_every_step_is_told_of_also_after_a_resume(tmp_path) -> None:
    clips, path = moving_left_or_right(10), tmp_path / "state.pt"
    told: list[tuple[int, float]] = []

    class KilledError(Exception):
        pass

    def kill(epoch: int, share: float) -> None:
        told.append((epoch, share))
        if len(told) == 4:
            raise KilledError

    given = recipe(batch_size=2, accumulation=2, epochs=2, optimizer="sgd")  # five batches: two steps and a part
    with pytest.raises(KilledError):
        fit(model(), CROSS_ENTROPY, clips, None, given, device=CPU, checkpoint=path, on_step=kill)
    assert told == [(0, 0.4), (0, 0.8), (0, 1.0), (1, 0.4)]
    told.clear()

    def tell(epoch: int, share: float) -> None:
        told.append((epoch, share))

    fit(model(), CROSS_ENTROPY, clips, None, given, device=CPU, checkpoint=path, on_step=tell)
    assert told == [(1, 0.4), (1, 0.8), (1, 1.0)]


def test_weight_decay_leaves_norms_biases_and_the_sizes_of_normed_filters_as_they_are() -> None:
    network = create_model(
        "resnet10_tiny.tcn", num_classes=2, in_channels=2, task="clip", options={"norm": "weight", "num_layers": 1}
    )
    before = {name: value.detach().clone() for name, value in network.named_parameters()}
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    make_optimizer(network, recipe(optimizer="sgd", lr=0.1, momentum=0.0, weight_decay=0.5)).step()
    sizes = {name for name in before if name.endswith("parametrizations.weight.original0")}
    directions = {name for name in before if name.endswith("parametrizations.weight.original1")}
    vectors = {name for name, value in before.items() if value.ndim == 1}
    assert sizes and len(sizes) == len(directions) and vectors
    for name, value in network.named_parameters():
        share = 1.0 if name in sizes | vectors else 1 - 0.1 * 0.5
        torch.testing.assert_close(value.detach(), share * before[name], msg=name)


@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_sgd_has_the_momentum_that_it_is_given(momentum: float) -> None:
    ours, theirs = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
    theirs.load_state_dict(ours.state_dict())
    optimizer = make_optimizer(ours, recipe(optimizer="sgd", lr=0.1, momentum=momentum, weight_decay=0.0))
    velocity = {name: torch.zeros_like(value) for name, value in theirs.named_parameters()}
    for step in range(3):
        gradients = {name: torch.full_like(value, step + 1.0) for name, value in ours.named_parameters()}
        for name, value in ours.named_parameters():
            value.grad = gradients[name]
        optimizer.step()
        with torch.no_grad():
            for name, value in theirs.named_parameters():  # Nesterov's: a step ahead of the velocity
                velocity[name] = momentum * velocity[name] + gradients[name]
                value -= 0.1 * (gradients[name] + momentum * velocity[name])
    assert equal(dict(ours.named_parameters()), dict(theirs.named_parameters()), 1e-6)


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw", "swats"])
def test_every_optimizer_learns_and_goes_on_from_its_checkpoint(optimizer: str, tmp_path) -> None:
    clips = moving_left_or_right(12)
    given = recipe(optimizer=optimizer, epochs=4, lr=0.02)
    whole = fit(model(), CROSS_ENTROPY, clips, None, given, device=CPU)
    path = tmp_path / "state.pt"

    class KilledError(Exception):
        pass

    def kill(result) -> None:
        if result.epoch == 1:
            raise KilledError

    with pytest.raises(KilledError):
        fit(model(), CROSS_ENTROPY, clips, None, given, device=CPU, checkpoint=path, on_epoch=kill)
    resumed = fit(model(), CROSS_ENTROPY, clips, None, given, device=CPU, checkpoint=path)
    assert whole.curves[-1].train_loss < whole.curves[0].train_loss
    assert all(torch.equal(whole.state[name], resumed.state[name]) for name in whole.state)


def test_schedules_by_hand() -> None:
    line = recipe(schedule="linear", warmup_fraction=0.2, lr=1.0)
    assert [learning_rate(step, num_steps=10, recipe=line) for step in (0, 1, 2, 6, 9)] == [0.5, 1, 1, 0.5, 0.125]
    plateau = recipe(schedule="plateau", plateau_patience=2, plateau_factor=0.5, warmup_fraction=0.0)
    assert learning_rate(7, num_steps=10, recipe=plateau) == plateau.lr
    losses = [3.0, 2.0, NAN, 2.5, 2.0, 1.0, 1.0, 1.0, 1.0, 1.0]
    assert [plateau_scale(losses[:n], plateau) for n in range(11)] == [1, 1, 1, 1, 1, 0.5, 0.5, 0.5, 0.25, 0.25, 0.125]
    assert plateau_scale(losses, replace(plateau, schedule="cosine")) == 1


def test_training_ends_where_nothing_gets_better() -> None:
    patient = recipe(early_stop=2)
    stopped = [is_stopped_early([3.0, 2.0, NAN, 2.5, 2.0, 1.9][:n], patient) for n in range(7)]
    assert stopped == [False, False, False, False, False, True, False]
    assert not is_stopped_early([1.0] * 9, recipe())
    clips = moving_left_or_right(8)
    given = recipe(epochs=9, early_stop=1, lr=1e-9, watch="accuracy", select="best")
    assert len(fit(model(), CROSS_ENTROPY, clips, clips, given, device=CPU).curves) == 2


def test_the_epoch_of_the_highest_metric_is_kept_also_where_its_loss_is_not_the_lowest() -> None:
    """Macro-F1 of the second class alone, on clips that are mostly of the first."""
    clips, shown = moving_left_or_right(12), moving_left_or_right(9, augment=None)
    val_set = replace(shown, items=[*shown.items[:2], *shown.items[2::2]])  # one clip of class 1
    truth = [item.target for item in val_set.items]
    network, by_sklearn = model(), []

    def f1_of_second() -> float:
        given = {"labels": "exclusive", "batch_size": 4, "device": CPU, "precision": "fp32"}
        probs_NK = np.stack(predict_probs(network, val_set, **given))  # type: ignore[arg-type]
        return float(f1_score(truth, probs_NK.argmax(axis=1), labels=[1], average="macro", zero_division=0.0))

    def judge(result: EpochResult) -> None:
        by_sklearn.append(f1_of_second())

    given = recipe(epochs=9, lr=0.0003, select="best", watch="macro_f1", watch_classes=(1,), early_stop=4)
    fitted = fit(network, CROSS_ENTROPY, clips, val_set, given, device=CPU, on_epoch=judge)
    scores = [epoch.val_metric for epoch in fitted.curves]
    assert scores == pytest.approx(by_sklearn) and scores[0] < max(scores)
    assert fitted.best_epoch == int(np.argmax(scores)) + 1 and len(scores) == fitted.best_epoch + 4
    assert min(epoch.val_loss for epoch in fitted.curves) < fitted.curves[fitted.best_epoch - 1].val_loss
    network.load_state_dict(fitted.state)
    assert f1_of_second() == pytest.approx(max(scores))


def of_the_other_class(clips: ClipDataset) -> ClipDataset:
    """What is learned is judged as wrong."""
    return replace(clips, items=[replace(item, target=1 - item.target) for item in clips.items])


def test_the_rate_falls_where_nothing_gets_better_also_after_a_resume(tmp_path: Path) -> None:
    data = moving_left_or_right(8), of_the_other_class(moving_left_or_right(6, augment=None))
    given = recipe(schedule="plateau", plateau_patience=1, plateau_factor=0.5, warmup_fraction=0.0, epochs=6)
    whole = fit(model(), CROSS_ENTROPY, *data, given, device=CPU)
    losses = [epoch.val_loss for epoch in whole.curves]
    no_better = [any(loss >= before for before in losses[:epoch]) for epoch, loss in enumerate(losses)]
    assert [epoch.lr for epoch in whole.curves] == [0.01 * 0.5 ** sum(no_better[:epoch]) for epoch in range(6)]
    assert sum(no_better[:3]) > 0  # before it is stopped
    path = tmp_path / "state.pt"
    fit(model(), CROSS_ENTROPY, *data, replace(given, epochs=3), device=CPU, checkpoint=path)
    resumed = fit(model(), CROSS_ENTROPY, *data, given, device=CPU, checkpoint=path)
    assert resumed.curves == whole.curves and equal(resumed.state, whole.state, 0.0)


def test_validation_is_run_every_few_epochs_and_after_the_last() -> None:
    data = moving_left_or_right(8), moving_left_or_right(6, augment=None)
    fitted = fit(model(), CROSS_ENTROPY, *data, recipe(epochs=5, eval_every=2, select="best"), device=CPU)
    for scores in ([epoch.val_loss for epoch in fitted.curves], [epoch.val_metric for epoch in fitted.curves]):
        assert [math.isnan(score) for score in scores] == [True, False, True, False, False]
    judged = {epoch.epoch + 1: epoch.val_loss for epoch in fitted.curves if not math.isnan(epoch.val_loss)}
    assert fitted.best_epoch == min(judged, key=judged.__getitem__)


def test_averaged_weights_are_their_formula() -> None:
    """Of n steps min(decay, n / (n + 10)) of the average is kept, which is below the decay in the first ones."""
    network = model()
    states = [{name: value.clone() for name, value in network.state_dict().items()}]

    def keep(epoch: int, share: float) -> None:
        states.append({name: value.clone() for name, value in network.state_dict().items()})

    given = recipe(epochs=4, batch_size=4, ema_decay=0.3)
    fitted = fit(network, CROSS_ENTROPY, moving_left_or_right(8), None, given, device=CPU, on_step=keep)
    average, *later = states
    for step, state in enumerate(later, start=1):
        kept = step / (step + 10) if step < 5 else 0.3
        average = {name: kept * average[name] + (1 - kept) * value for name, value in state.items()}
    assert len(later) == 8
    counters = {name for name in states[0] if name.endswith("num_batches_tracked")}  # not averaged
    assert counters and all(fitted.state[name] == states[-1][name] for name in counters)
    for name in average.keys() - counters:
        torch.testing.assert_close(fitted.state[name], average[name], atol=1e-6, rtol=1e-5, msg=name)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_step_is_no_longer_than_the_norm_that_gradients_are_clipped_to(precision: str) -> None:
    clips, moved = moving_left_or_right(4), []
    given = recipe(epochs=1, optimizer="sgd", lr=0.5, momentum=0.0, weight_decay=0.0, warmup_fraction=0.0)
    for norm in (None, 0.01):
        network = model()
        before = torch.nn.utils.parameters_to_vector(network.parameters()).detach().clone()
        changes = {"grad_clip_norm": norm, "precision": precision, "schedule": "constant"}
        fit(network, CROSS_ENTROPY, clips, None, replace(given, **changes), device=CPU)  # type: ignore[arg-type]
        moved.append((torch.nn.utils.parameters_to_vector(network.parameters()) - before).norm().item())
    assert moved[0] > 10 * 0.5 * 0.01
    assert moved[1] == pytest.approx(0.5 * 0.01, rel=1e-3)


def test_every_process_goes_by_the_scores_of_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    of_first = [(0.5, 0.1), (0.4, 0.2), (0.6, 0.3), (0.7, 0.4), (0.8, 0.5)]  # no better after two epochs
    left = iter(of_first)
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda total: None)
    monkeypatch.setattr(torch.distributed, "broadcast", lambda scores, src: scores.copy_(torch.tensor(next(left))))
    clips, given = moving_left_or_right(8), recipe(epochs=5, early_stop=1, select="best")
    second = fit(model(), CROSS_ENTROPY, clips, clips, given, device=CPU, shard=Shard(rank=1, world_size=2))
    seen = [(epoch.val_loss, epoch.val_metric) for epoch in second.curves]
    np.testing.assert_allclose(seen, of_first[:3], rtol=1e-6)


def test_without_any_score_the_last_weights_are_kept() -> None:
    clips = moving_left_or_right(8)
    of_one_class = replace(clips, items=[item for item in clips.items if item.target == 0])
    given = recipe(select="best", watch="average_precision", watch_classes=(1,))
    fitted = fit(model(), CROSS_ENTROPY, clips, of_one_class, given, device=CPU)
    assert all(math.isnan(epoch.val_metric) for epoch in fitted.curves) and fitted.best_epoch == 3
    last = fit(model(), CROSS_ENTROPY, clips, None, recipe(), device=CPU)
    assert equal(fitted.state, last.state, 0.0)


def test_drawn_clips_show_every_class_alike() -> None:
    targets = [0] * 90 + [1] * 9 + [2]
    assert sampling_weights(targets, power=1.0)[[0, 90, 99]] == pytest.approx([1 / 270, 1 / 27, 1 / 3])
    by_root = sampling_weights(targets, power=0.5)
    assert by_root[99] / by_root[0] == pytest.approx(90**0.5)
    rare_frame = np.array([[1, 0], [1, 1]], np.float32)
    several = [rare_frame[:1], rare_frame, np.array([NAN, 0], np.float32)]
    assert sampling_weights(several, power=1.0) == pytest.approx([0.2, 0.4, 0.4])  # class 0 twice, 1 once, none once
    balanced = recipe(sampler="balanced", batch_size=100)
    drawn = epoch_batches(targets, balanced, 0)
    shown = np.bincount([targets[position % 100] for position in drawn[0]], minlength=3)
    assert len(drawn[0]) == 100 and shown.min() > 15
    times = shown[2]  # of the one clip of its class, each time another position
    assert {position for position in drawn[0] if position % 100 == 99} == {99 + 100 * time for time in range(times)}
    assert drawn == epoch_batches(targets, balanced, 0)
    assert drawn != epoch_batches(targets, balanced, 1)


def test_clips_drawn_by_the_root_show_classes_by_the_root_of_their_counts() -> None:
    targets = [0] * 90 + [1] * 9 + [2]
    given = recipe(sampler="square_root", batch_size=100)
    drawn = np.concatenate([np.concatenate(epoch_batches(targets, given, epoch)) for epoch in range(200)])
    assert len(drawn) == 200 * 100
    roots = np.sqrt([90, 9, 1])
    shares = np.bincount(np.array(targets)[drawn % 100], minlength=3) / len(drawn)
    np.testing.assert_allclose(shares, roots / roots.sum(), atol=0.015)  # four deviations of so many draws
    of_clip = np.bincount(drawn % 100, minlength=100) / len(drawn)
    np.testing.assert_allclose(of_clip[:90], shares[0] / 90, atol=0.004)  # alike within a class


def drawn_by(targets: list[int | np.ndarray | None], ratio: float, *, epoch: int = 0, **changes: int) -> Counter[int]:
    """How often an epoch draws each clip."""
    given = recipe(negative_ratio=ratio, batch_size=4, **changes)
    return Counter(position % len(targets) for batch in epoch_batches(targets, given, epoch) for position in batch)


def test_an_epoch_draws_so_many_negatives_for_each_positive() -> None:
    clips = [1] * 3 + [2] * 2 + [0] * 20  # five positives; class 0 is that of negatives
    two_each = drawn_by(clips, 2.0, negative_class=0)
    assert set(range(5)) <= set(two_each) and two_each.total() == 5 + 10 and set(two_each.values()) == {1}
    assert drawn_by(clips, 0.3, negative_class=0).total() == 5 + 2  # 1.5, to the even number
    assert drawn_by(clips, 0.01, negative_class=0).total() == 5 + 1
    many = drawn_by(clips, 9.0, negative_class=0)  # 45 of 20: each twice, and five of them once more
    assert sorted(many.values()) == [1] * 5 + [2] * 15 + [3] * 5 and all(many[clip] == 1 for clip in range(5))
    assert two_each == drawn_by(clips, 2.0, negative_class=0)
    epochs = [set(drawn_by(clips, 2.0, negative_class=0, epoch=epoch)) for epoch in range(8)]
    assert len(set(map(frozenset, epochs))) > 1 and set().union(*epochs) == set(range(25))


def test_negatives_of_frames_and_of_several_labels_are_what_shows_nothing() -> None:
    nothing, unlabelled = np.zeros((3, 2), np.float32), np.full((3, 2), NAN, np.float32)
    shown = np.array([[0, 0], [0, 1], [NAN, 0]], np.float32)
    windows = [shown] * 2 + [nothing] * 5 + [unlabelled]
    assert drawn_by(windows, 2.0).total() == 2 + 4 and {0, 1} <= set(drawn_by(windows, 2.0))
    assert drawn_by([target[0] + target[1] for target in windows[:-1]], 1.0).total() == 2 + 2
    background = np.array([[1, 0, 0]] * 3, np.float32)  # exclusive frames: the first class is the background
    both = np.array([[1, 0, 0], [0, 1, 0], [1, 0, 0]], np.float32)
    assert set(drawn_by([both, background, background], 1.0, negative_class=0)) > {0}
    assert drawn_by([both, background, background], 1.0, negative_class=0).total() == 2
    for clips in ([1, 2, 1], [0, 0, 0]):
        with pytest.raises(ParamsError, match=rf"of 3 training clips {clips.count(0)} are negatives.*write null"):
            drawn_by(list(clips), 1.0, negative_class=0)


def test_a_training_takes_as_many_steps_as_its_epochs_have_batches() -> None:
    clips = moving_left_or_right(12)  # six of each: with one negative of two positives, nine a epoch
    given = recipe(negative_ratio=0.5, negative_class=0, batch_size=3, epochs=2, warmup_fraction=0.0, lr=1.0)
    fitted = fit(model(), CROSS_ENTROPY, clips, None, replace(given, optimizer="sgd", lr=1e-3), device=CPU)
    assert fitted.curves[-1].lr == pytest.approx(learning_rate(5, num_steps=6, recipe=replace(given, lr=1e-3)))


def test_precise_statistics_are_those_of_all_training_clips() -> None:
    clips, network = moving_left_or_right(8, augment=None), model()
    measure_batch_norm(network, clips, recipe(batch_size=8), CPU)
    batch = collate([clips.sample(index, epoch=0) for index in range(8)])
    seen = network.get_submodule("backbone.network.stem.0")(model_input(batch, clips.preprocessing, CPU))
    norm = network.get_submodule("backbone.network.stem.1")
    torch.testing.assert_close(norm.running_mean, seen.mean(dim=(0, 2, 3, 4)), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(norm.running_var, seen.var(dim=(0, 2, 3, 4)), atol=1e-5, rtol=1e-3)
    assert norm.momentum == 0.1 and network.training


def test_precise_statistics_need_no_batch_of_one() -> None:
    network = create_model("r3d_mini.tcn", num_classes=2, in_channels=2, task="clip")  # one step is left of four frames
    measure_batch_norm(network, moving_left_or_right(5, augment=None), recipe(batch_size=4), CPU)
    assert all(norm.num_batches_tracked == 1 for norm in batch_norms(network))


def test_frozen_statistics_stay_as_they_were() -> None:
    clips, network = moving_left_or_right(8), model()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    state = fit(network, CROSS_ENTROPY, clips, None, recipe(batch_norm="frozen"), device=CPU).state
    same = {name for name in state if torch.equal(state[name], before[name])}
    assert {name for name in state if "running" in name or "tracked" in name} == same


def test_recomputed_activations_change_nothing() -> None:
    clips, lean = moving_left_or_right(8), model()
    recompute_activations(lean)
    plain = fit(model(), CROSS_ENTROPY, clips, None, recipe(epochs=2), device=CPU)
    found = fit(lean, CROSS_ENTROPY, clips, None, recipe(epochs=2), device=CPU)
    kept = [name for name in plain.state if not name.endswith("num_batches_tracked")]
    assert list(plain.state) == list(found.state)
    assert equal({name: plain.state[name] for name in kept}, found.state, 1e-5)


def test_compiled_blocks_learn_their_statistics_once() -> None:
    plain, lean = model(), model()
    recompute_activations(lean, is_compiled=True)
    clips = torch.randn(2, 2, 4, 12, 12, generator=torch.Generator().manual_seed(0))
    for network in (plain.train(), torch.compile(lean.train(), backend="aot_eager")):
        network(clips).logits.square().sum().backward()
    for (name, kept), found in zip(plain.named_buffers(), lean.buffers(), strict=True):
        torch.testing.assert_close(found, kept, msg=name)
    for one, other in zip(plain.parameters(), lean.parameters(), strict=True):
        torch.testing.assert_close(other.grad, one.grad)


def test_the_focal_loss_is_its_formula() -> None:
    logits = torch.tensor([[2.0, 0.0, -1.0], [0.0, 0.5, 0.0]])
    probs = logits.softmax(dim=1)[[0, 1], [0, 2]]
    by_hand = -((1 - probs) ** 2 * probs.log()).mean()
    one_hot = F.one_hot(torch.tensor([0, 2]), 3).float()
    torch.testing.assert_close(masked_cross_entropy(logits[None], one_hot[None], focal_gamma=2.0), by_hand)
    of_both = torch.where(one_hot == 1, logits.sigmoid(), 1 - logits.sigmoid())
    expected = -((1 - of_both) ** 2 * of_both.log()).mean()
    torch.testing.assert_close(masked_binary_cross_entropy(logits, one_hot, focal_gamma=2.0), expected)
    assert torch.equal(focal(probs, probs, 0.0), probs)
    certain = torch.tensor([[40.0, -40.0]], requires_grad=True)  # a probability of one in float32
    truth = torch.tensor([[1.0, 0.0]])
    for loss in (masked_cross_entropy, masked_binary_cross_entropy):
        (slope,) = torch.autograd.grad(loss(certain[None], truth[None], focal_gamma=0.5), certain)
        assert slope.abs().max() < 1e-6  # the root's own slope is infinite there
    # of two clips whose class has 3/4 and 1/4: (1/4)^2 ln(4/3) and (3/4)^2 ln 4, the second weighing 3
    batch = collate([moving_left_or_right(2).sample(index, epoch=0) for index in range(2)])
    of_clips = Prediction(torch.tensor([[math.log(3.0), 0.0]] * 2), torch.zeros(2, 1))
    focussed = Classification("exclusive", weights=np.array([1.0, 3.0]), focal_gamma=2.0)
    expected_of_clips = (math.log(4 / 3) / 16 + 3 * 9 / 16 * math.log(4)) / 2
    assert float(focussed(of_clips, batch, epoch=0).of_labels) == pytest.approx(expected_of_clips)


def test_fp16_scales_its_loss_and_learns() -> None:
    clips = moving_left_or_right(12)
    curves = fit(model(), CROSS_ENTROPY, clips, None, recipe(precision="fp16", epochs=6, lr=0.02), device=CPU).curves
    assert curves[-1].train_loss < curves[0].train_loss


def test_average_precision_is_sklearns() -> None:
    from kineflow.training.scoring import validation_scores

    clips = moving_left_or_right(6)
    probs_NK = np.random.default_rng(0).dirichlet([1, 1], size=6)
    truth = np.array([item.target for item in clips.items])
    expected = [average_precision_score(truth == k, probs_NK[:, k]) for k in range(2)]
    _, both = validation_scores(list(probs_NK), clips, labels="exclusive", metric="average_precision")
    _, second = validation_scores(list(probs_NK), clips, labels="exclusive", metric="average_precision", classes=[1])
    assert both == pytest.approx(np.mean(expected)) and second == pytest.approx(expected[1])
    _, tops = validation_scores(list(probs_NK), clips, labels="exclusive", metric="top1_top3")
    assert tops == pytest.approx((probs_NK.argmax(axis=1) == truth).mean() + 1.0)
