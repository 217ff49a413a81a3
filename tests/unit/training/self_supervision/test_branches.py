"""The classifier with branches: its answer stays its own, its losses are as by hand, it learns the arrow of time."""

import math

import pytest
import torch

from kineflow.errors import ParamsError
from kineflow.models.orientation import orientation_channels
from kineflow.models.registry import create_model
from kineflow.training.model_config import ModelConfig
from kineflow.training.self_supervision.branches import ClassifierWithBranches, check_branches, layers_until
from kineflow.training.self_supervision.config import SelfSupervision
from kineflow.training.self_supervision.direction import DirectionBranch, direction_loss, reverse_time


def with_branches(**changes: float | str) -> ClassifierWithBranches:
    classifier = create_model("r3d_mini.avg", num_classes=3, in_channels=3, task="clip")
    values = {"direction_weight": 2.0, "tracking_weight": 25.0, "branch_after": "stages.0"} | changes
    config = SelfSupervision(patch_fraction=1 / 3, num_past=2, gap=2, pretrain_epochs=0, **values)  # type: ignore[arg-type]
    return ClassifierWithBranches(
        classifier, config, input_CTHW=(3, 8, 24, 24), reverse=lambda clips: reverse_time(clips, kind="image")
    )


def test_reversed_flow_changes_its_sign() -> None:
    clips = torch.arange(6.0).view(1, 2, 3, 1, 1)
    assert reverse_time(clips, kind="image").flatten().tolist() == [2, 1, 0, 5, 4, 3]
    assert reverse_time(clips, kind="flow").flatten().tolist() == [-2, -1, 0, -5, -4, -3]


def test_orientations_of_reversed_flow_are_reversed_orientations() -> None:
    flow = torch.randn(2, 2, 4, 6, 8, generator=torch.Generator().manual_seed(0))
    played_back = orientation_channels(reverse_time(flow, kind="flow"))
    torch.testing.assert_close(reverse_time(orientation_channels(flow), kind="orientation"), played_back)


def test_the_direction_loss_is_equation_3_4() -> None:
    loss = direction_loss(torch.tensor([2.0]), torch.tensor([-1.0]))
    expected = (-math.log(1 / (1 + math.exp(-2.0))) - math.log(1 - 1 / (1 + math.exp(1.0)))) / 2
    assert loss.item() == pytest.approx(expected, abs=1e-6)


def test_in_evaluation_it_is_the_classifier_and_its_statistics_are_of_the_clips() -> None:
    torch.manual_seed(0)
    model, clips = with_branches(), torch.randn(4, 3, 8, 24, 24)
    alone = create_model("r3d_mini.avg", num_classes=3, in_channels=3, task="clip")
    alone.load_state_dict(model.classifier.state_dict())
    assert alone.train()(clips).extra_losses is None
    assert set(model.train()(clips).extra_losses) == {"direction", "tracking"}
    for (name, kept), other in zip(alone.state_dict().items(), model.classifier.state_dict().values(), strict=True):
        if "running" in name:
            torch.testing.assert_close(other, kept)
    assert model.eval()(clips).extra_losses is None
    torch.testing.assert_close(model(clips).logits, alone.eval()(clips).logits)


def test_clips_played_either_way_are_one_batch_of_the_first_layers() -> None:
    model, clips = with_branches(tracking_weight=0.0), torch.randn(5, 3, 8, 24, 24)
    seen = list[torch.Tensor]()
    model._trunk[0].register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    model.train()(clips)
    both_ways = torch.cat([clips[[0, 2, 4]], clips[[1, 3]].flip(2)])
    assert [len(batch) for batch in seen] == [5, 5] and torch.equal(seen[0], clips) and torch.equal(seen[1], both_ways)
    with pytest.raises(ValueError, match="direction_weight is 0"):
        with_branches(direction_weight=0.0).direction_logits(clips)


def test_every_parameter_learns_and_a_weight_of_zero_leaves_its_branch_out() -> None:
    torch.manual_seed(0)
    model, clips = with_branches(), torch.randn(4, 3, 8, 24, 24)
    prediction = model(clips)
    assert prediction.extra_losses is not None
    (prediction.logits.square().sum() + sum(prediction.extra_losses.values())).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []
    assert with_branches(tracking_weight=0.0).tracking is None
    assert with_branches(direction_weight=0.0).direction is None


def test_refusals_say_what_to_choose() -> None:
    with pytest.raises(ParamsError, match=r"r3d_mini\.avg has no layer 'layer3'.*known are stem, stages"):
        with_branches(branch_after="layer3")
    with pytest.raises(ParamsError, match=r"4 steps after branch_after: stages\.1 for clips of 8 frames"):
        with_branches(branch_after="stages.1")
    with pytest.raises(ParamsError, match=r"no layer 'stages\.9'.*: known are stages\.0, stages\.1, stages\.2$"):
        with_branches(branch_after="stages.9")
    with pytest.raises(ParamsError, match=r"no layer 'stages\.0\.conv1'.*: end at stages\.0, which is no chain"):
        with_branches(branch_after="stages.0.conv1")
    with torch.device("meta"):
        in_parallel = create_model("slowfast_50.avg", num_classes=2, in_channels=3, task="clip")
    with pytest.raises(ParamsError, match="choose a chain of layers, such as r3d_tiny"):
        layers_until(in_parallel, "stem")
    by_frames = create_model("resnet10_tiny.avg", num_classes=2, in_channels=3, task="clip")
    with pytest.raises(ParamsError, match="does not read clips as a whole"):
        layers_until(by_frames, "stem")


@pytest.mark.parametrize("name", ["r3d_mini.avg", "resnet18.avg"])
def test_the_check_refuses_before_anything_is_computed(name: str) -> None:
    """On the meta device, whatever the size: of a model that cannot have branches, and of clips that are too short."""
    model = ModelConfig(name, "clip", 2, 3, 0.0, None, {})
    long_cycles = SelfSupervision(0.0, 25.0, 0.3, num_past=9, gap=2, branch_after="stages.0", pretrain_epochs=0)
    with pytest.raises(
        ParamsError, match=r"num_past: 9 steps of gap: 2 .* in 19 frames|does not read clips as a whole"
    ):
        check_branches(model, long_cycles, input_CTHW=(3, 8, 4096, 4096))
    if name == "r3d_mini.avg":
        check_branches(model, long_cycles, input_CTHW=(3, 19, 4096, 4096))


def test_the_branch_learns_the_arrow_of_time() -> None:
    """A dot that grows, or played backwards shrinks; what no single frame shows."""
    torch.manual_seed(0)
    layer = torch.nn.Sequential(torch.nn.Conv3d(1, 8, 3, padding=1), torch.nn.ReLU())
    branch = DirectionBranch(8)
    optimizer = torch.optim.Adam([*layer.parameters(), *branch.parameters()], lr=1e-2)
    for _ in range(60):
        sizes = 2 + torch.arange(8).view(1, 1, 8, 1, 1) * torch.rand(12, 1, 1, 1, 1)
        distance = (torch.arange(16).float() - 8).abs()
        clips = (distance.view(1, 1, 1, 16, 1) + distance.view(1, 1, 1, 1, 16) < sizes).float()
        backwards = reverse_time(clips, kind="image")
        forward_N, backward_N = branch(layer(clips)), branch(layer(backwards))
        loss = direction_loss(forward_N, backward_N)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        right = torch.cat([forward_N > 0, backward_N < 0]).float().mean().item()
    assert right > 0.9
