"""The contrastive loss against a loop over its formula, and that it brings clips of one video together."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from kineflow.models.registry import create_model
from kineflow.training.self_supervision.contrastive import Projected, contrastive_loss, partner


def slow_loss(first: torch.Tensor, second: torch.Tensor, videos: list[int], temperature: float) -> float:
    both, of_video = [*first, *second], [*videos, *videos]
    total = 0.0
    for index, one in enumerate(both):
        place = (index + len(first)) % len(both)
        seen = [i for i in range(len(both)) if of_video[i] != of_video[index] or i == place]
        weights = [math.exp(float(one @ both[i]) / temperature) for i in seen]
        total -= math.log(math.exp(float(one @ both[place]) / temperature) / sum(weights))
    return total / len(both)


@pytest.mark.parametrize("temperature", [0.1, 0.5])
@pytest.mark.parametrize("videos", [[0, 1, 2, 3, 4], [0, 1, 0, 2, 1]])
def test_as_the_formula(temperature: float, videos: list[int]) -> None:
    generator = torch.Generator().manual_seed(0)
    first, second = (F.normalize(torch.randn(5, 7, generator=generator), dim=1) for _ in range(2))
    found = contrastive_loss(first, second, videos_B=torch.tensor(videos), temperature=temperature)
    assert found.item() == pytest.approx(slow_loss(first, second, videos, temperature), rel=1e-5)
    if len(set(videos)) == 5:
        assert found == contrastive_loss(first, second, temperature=temperature)


def test_the_partner_is_another_clip_of_the_same_video() -> None:
    videos = np.array([0, 1, 0, 2, 0])
    drawn = [[partner(place, videos, seed=3, epoch=epoch) for epoch in range(50)] for place in range(5)]
    assert [set(of_clip) for of_clip in drawn] == [{2, 4}, {1}, {0, 4}, {3}, {0, 2}]
    assert drawn == [[partner(place, videos, seed=3, epoch=epoch) for epoch in range(50)] for place in range(5)]


def test_views_of_one_clip_come_together_and_the_classifier_learns_from_it() -> None:
    torch.manual_seed(0)
    classifier = create_model("r3d_mini.avg", num_classes=2, in_channels=3, task="clip")
    model = Projected(classifier)
    before = {name: value.clone() for name, value in classifier.backbone.state_dict().items()}
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    clips = torch.randn(8, 3, 4, 12, 12)
    losses = []
    for _ in range(25):
        first, second = (model(clips + 0.2 * torch.randn_like(clips)).logits for _ in range(2))
        loss = contrastive_loss(first, second)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] > 1.0
    assert losses[-1] < 0.2
    assert any(not torch.equal(value, before[name]) for name, value in classifier.backbone.state_dict().items())


def test_task_frame_compares_the_mean_over_time() -> None:
    model = Projected(create_model("r3d_mini.lstm", num_classes=2, in_channels=3, task="frame")).eval()
    answer = model(torch.randn(2, 3, 5, 12, 12))
    assert answer.logits.shape == (2, 64)
    torch.testing.assert_close(answer.logits.norm(dim=1), torch.ones(2))
