"""Self-supervision as a job does it: before and beside the classification, resumed, and gone from what is kept."""

from copy import deepcopy
from dataclasses import replace

import pandas as pd
import pytest
import torch
import torch.nn.functional as F

from kineflow.data.views import Augment
from kineflow.models.registry import create_model
from kineflow.training.batches import epoch_batches
from kineflow.training.inputs import model_input
from kineflow.training.loop import fit
from kineflow.training.recompute import recompute_activations
from kineflow.training.self_supervision.branches import ClassifierWithBranches
from kineflow.training.self_supervision.config import SelfSupervision
from kineflow.training.self_supervision.contrastive import pretrain
from kineflow.training.self_supervision.direction import reverse_time
from tests.unit.training.test_loop import AUGMENT, CPU, CROSS_ENTROPY, PREPROCESSING, moving_left_or_right, recipe

BOTH = SelfSupervision(
    direction_weight=2.0,
    tracking_weight=25.0,
    patch_fraction=0.5,
    num_past=1,
    gap=2,
    branch_after="stages.0",
    pretrain_epochs=0,
)


def classifier() -> torch.nn.Module:
    torch.manual_seed(0)
    return create_model("r3d_mini.avg", num_classes=2, in_channels=2, task="clip")


def with_branches() -> ClassifierWithBranches:
    return ClassifierWithBranches(
        classifier(), BOTH, input_CTHW=(2, 4, 12, 12), reverse=lambda clips: reverse_time(clips, kind="flow")
    )


class StoppedError(Exception):
    """As a kill between two epochs."""


def stop_after_first(result) -> None:
    if result.epoch == 0:
        raise StoppedError


def test_killed_and_resumed_branches_end_with_the_same_weights(tmp_path) -> None:
    clips, given = moving_left_or_right(8), recipe(epochs=3, ema_decay=0.9)
    whole = fit(with_branches(), CROSS_ENTROPY, clips, clips, given, device=CPU)
    path = tmp_path / "state.pt"
    with pytest.raises(StoppedError):
        fit(
            with_branches(),
            CROSS_ENTROPY,
            clips,
            clips,
            given,
            device=CPU,
            checkpoint=path,
            on_epoch=stop_after_first,
        )
    resumed = fit(with_branches(), CROSS_ENTROPY, clips, clips, given, device=CPU, checkpoint=path)
    assert all(torch.equal(whole.state[name], resumed.state[name]) for name in whole.state)
    plain = fit(classifier(), CROSS_ENTROPY, clips, clips, given, device=CPU)
    assert whole.curves[0].train_loss != plain.curves[0].train_loss  # the branches' losses are in it


def test_each_loss_of_an_epoch_is_told_by_itself() -> None:
    clips, given = moving_left_or_right(8), recipe(epochs=1, batch_size=8)
    network = with_branches()
    batch = clips.batch(epoch_batches([item.target for item in clips.items], given, 0)[0], epoch=0)
    torch.manual_seed(given.seed)  # where the tracked patches are
    answer = deepcopy(network).train()(model_input(batch, PREPROCESSING, CPU))
    by_hand = {"labels": F.cross_entropy(answer.logits, torch.as_tensor(batch.targets)), **answer.extra_losses}
    (told,) = fit(network, CROSS_ENTROPY, clips, None, given, device=CPU).curves
    assert told.parts == pytest.approx({name: float(value.detach()) for name, value in by_hand.items()}, rel=1e-5)
    assert told.train_loss == pytest.approx(sum(told.parts.values()))
    values = told.to_json()
    assert values["train_loss_direction"] == told.parts["direction"] and "parts" not in values
    in_pieces = fit(with_branches(), CROSS_ENTROPY, clips, None, recipe(epochs=1), device=CPU).curves[0]
    assert set(in_pieces.parts) == set(told.parts)
    (plain,) = fit(classifier(), CROSS_ENTROPY, clips, None, given, device=CPU).curves
    assert set(plain.to_json()) == {"epoch", "lr", "train_loss", "val_loss", "val_metric", "num_pieces"}


def test_recomputed_activations_leave_the_statistics_to_the_clips() -> None:
    def statistics(*, recompute: bool) -> list[torch.Tensor]:
        model = with_branches()
        if recompute:
            recompute_activations(model.classifier)
        state = fit(model, CROSS_ENTROPY, moving_left_or_right(8), None, recipe(lr=1e-9), device=CPU).state
        return [value for name, value in state.items() if name.startswith("classifier.") and "running" in name]

    for plain, lean in zip(statistics(recompute=False), statistics(recompute=True), strict=True):
        torch.testing.assert_close(lean, plain)


def test_pretraining_changes_all_but_the_last_layer_and_is_done_once(tmp_path) -> None:
    clips, path, told = moving_left_or_right(8), tmp_path / "pretrain.pt", []

    def trained() -> dict[str, torch.Tensor]:
        network = classifier()
        how = {"labels": "exclusive", "epochs": 2, "device": CPU, "checkpoint": path, "on_epoch": told.append}
        assert len(pretrain(network, clips, recipe(epochs=9), **how)) == 2
        assert all(parameter.requires_grad for parameter in network.parameters())
        return network.state_dict()

    first, before = trained(), classifier().state_dict()
    assert [result.epoch for result in told] == [0, 1] and all(result.train_loss > 0 for result in told)
    changed = {name for name in first if not torch.equal(first[name], before[name])}
    assert {name for name in first if name.startswith("head.")}.isdisjoint(changed)
    assert {name for name in first if name.startswith("backbone.") and name.endswith("weight")} <= changed
    written = path.stat().st_mtime_ns
    again = trained()
    assert len(told) == 2
    assert all(torch.equal(first[name], again[name]) for name in first) and path.stat().st_mtime_ns == written
    assert len(pd.DataFrame(torch.load(path, weights_only=True)["curves"])) == 2


def test_pretraining_compares_clips_and_not_mixtures(tmp_path) -> None:
    def trained(augment: Augment) -> dict[str, torch.Tensor]:
        network, clips = classifier(), moving_left_or_right(8, augment=augment)
        path = tmp_path / f"{augment.mixup}.pt"
        pretrain(network, clips, recipe(), labels="exclusive", epochs=1, device=CPU, checkpoint=path)
        return network.state_dict()

    plain, mixed = trained(AUGMENT), trained(replace(AUGMENT, mixup=1.0, cutmix=1.0))
    assert all(torch.equal(plain[name], mixed[name]) for name in plain)
