"""Tracking: affinities by hand, a patch that is there is found, the loss goes down where something moves."""

import pytest
import torch
import torch.nn.functional as F

from kineflow.training.self_supervision.tracking import TrackingBranch, TrackingRule, affinity


def test_affinity_is_a_softmax_over_the_places_of_the_frame() -> None:
    patch, frame = torch.randn(1, 4, 1, 2), torch.randn(1, 4, 2, 3)
    found = affinity(patch, frame)
    assert found.shape == (1, 2, 2, 3)
    for place in range(2):
        products = torch.tensor(
            [[sum(patch[0, d, 0, place] * frame[0, d, y, x] for d in range(4)) for x in range(3)] for y in range(2)]
        )
        expected = (products * 2.0).flatten().softmax(0).view(2, 3) * 6  # the root of 4 features; 6 places
        torch.testing.assert_close(found[0, place], expected)


def texture(num_clips: int, num_frames: int, size: int) -> torch.Tensor:
    """Smooth random images that drift to the right by one pixel a frame."""
    wide = F.interpolate(torch.randn(num_clips, 8, size // 4, size // 2), (size, 2 * size), mode="bicubic")
    return torch.stack([wide[..., size - t : 2 * size - t] for t in range(num_frames)], dim=2)


def test_the_cycle_is_learnt_where_the_picture_drifts() -> None:
    torch.manual_seed(0)
    rule = TrackingRule(patch_fraction=1 / 3, num_past=2, gap=2)
    branch = TrackingBranch(rule, maps_HW=(12, 12))
    optimizer = torch.optim.Adam(branch.parameters(), lr=2e-3)
    losses = []
    for _ in range(60):
        clips = texture(16, 5, 12)
        loss = branch(clips, clips, lambda clips_BCTHW: clips_BCTHW)  # the picture's own channels are the features
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    first, last = sum(losses[:10]) / 10, sum(losses[-10:]) / 10
    assert last < first - 0.1, (first, last)


def test_the_thesis_numbers() -> None:
    rule = TrackingRule(patch_fraction=80 / 240, num_past=3, gap=4)
    assert rule.min_frames == 13
    branch = TrackingBranch(rule, maps_HW=(30, 30))
    assert branch.patch_HW == (10, 10)
    patch = branch._cut(torch.zeros(2, 3, 13, 240, 240))
    assert patch.shape == (2, 3, 1, 80, 80)


def test_the_loss_is_that_of_equation_3_3(monkeypatch: pytest.MonkeyPatch) -> None:
    gap, num_past = 2, 3
    branch = TrackingBranch(TrackingRule(0.5, num_past, gap), maps_HW=(4, 4))
    generator = torch.Generator().manual_seed(0)
    frames_TD = F.normalize(torch.randn(7, 5, generator=generator), dim=1)  # one feature vector a frame
    start_D = F.normalize(torch.randn(5, generator=generator), dim=0)

    def find(patch: torch.Tensor, frame: torch.Tensor) -> torch.Tensor:
        return F.normalize(patch + frame.mean(dim=(2, 3), keepdim=True), dim=1)

    monkeypatch.setattr(branch, "_find", find)
    maps_BDTHW = frames_TD.T[None, :, :, None, None].expand(1, 5, 7, 4, 4)
    patch_BDTHW = start_D[None, :, None, None, None].expand(1, 5, 1, 2, 2)
    loss = branch(torch.zeros(1, 3, 7, 8, 8), maps_BDTHW, lambda _: patch_BDTHW)

    def found(patch_D: torch.Tensor, steps_back: int) -> torch.Tensor:
        return F.normalize(patch_D + frames_TD[6 - gap * steps_back], dim=0)

    expected = 0.0
    for num_steps in range(1, num_past + 1):
        patch_D = start_D
        for steps_back in (*range(1, num_steps + 1), *range(num_steps - 1, -1, -1)):  # into the past, and back
            patch_D = found(patch_D, steps_back)
        leap_D = found(start_D, num_steps)
        distances = (start_D - patch_D).norm() + (start_D - found(leap_D, 0)).norm()
        expected += float(0.1 * distances - start_D @ leap_D)
    assert loss.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("num_past", [1, 3])
def test_gradients_reach_the_network_and_the_localiser(num_past: int) -> None:
    rule = TrackingRule(patch_fraction=0.5, num_past=num_past, gap=1)
    branch = TrackingBranch(rule, maps_HW=(6, 8))
    layer = torch.nn.Conv3d(2, 5, (1, 3, 3), padding=(0, 1, 1))
    clips = torch.randn(3, 2, 4, 6, 8)
    branch(clips, layer(clips), layer).backward()
    for parameter in (*layer.parameters(), *branch.parameters()):
        assert parameter.grad is not None
        assert torch.isfinite(parameter.grad).all()
        assert parameter.grad.abs().sum() > 0


def test_a_localiser_that_diverged_makes_the_loss_nan_and_no_crash() -> None:
    branch = TrackingBranch(TrackingRule(0.5, 2, 2), maps_HW=(6, 6))
    branch.localiser[-1].bias.data.fill_(float("nan"))
    clips = torch.randn(2, 4, 5, 6, 6, requires_grad=True)
    loss = branch(clips, clips, lambda clips_BCTHW: clips_BCTHW)
    loss.backward()
    assert loss.isnan()
