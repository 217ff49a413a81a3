"""Gradients of 3D networks under bf16, where the clips are so short that the last stage sees two time steps."""

import pytest
import torch
import torch.nn.functional as F

from kineflow.models.backbones.clip_network import SoundConv3d
from kineflow.models.registry import create_model


def fill_freed_memory_with_infinity() -> None:
    """What is read without having been written is then seen to be."""
    blocks = [torch.full((17 * 2**power,), float("inf")) for power in range(4, 18)]
    del blocks


@pytest.mark.parametrize(("name", "num_frames"), [("r3d_mini.avg", 8), ("r3d_18.avg", 16)])
def test_gradients_are_finite_and_the_same_each_time(name: str, num_frames: int) -> None:
    torch.manual_seed(0)
    model = create_model(name, num_classes=2, in_channels=3, task="clip", dropout=0.0)
    clips_BCTHW = torch.randn(2, 3, num_frames, 24, 24)
    labels_B = torch.tensor([0, 1])
    gradients = []
    for _ in range(4):
        fill_freed_memory_with_infinity()
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            logits_BK = model(clips_BCTHW).logits
        F.cross_entropy(logits_BK.float(), labels_B).backward()
        gradients.append({key: value.grad.clone() for key, value in model.named_parameters()})
    for key, value in gradients[0].items():
        assert torch.isfinite(value).all(), key
        assert all(torch.equal(value, later[key]) for later in gradients[1:]), key


@pytest.mark.parametrize("num_steps", [1, 2, 3, 4])
@pytest.mark.parametrize("stride", [1, 2])
def test_it_is_the_convolution_of_torch(num_steps: int, stride: int) -> None:
    torch.manual_seed(0)
    plain = torch.nn.Conv3d(4, 6, 3, stride=stride, padding=1)
    sound = SoundConv3d(4, 6, 3, stride=stride, padding=1)
    sound.load_state_dict(plain.state_dict())
    x_BCTHW = torch.randn(2, 4, num_steps, 5, 7)
    for convolution in (plain, sound):
        convolution(x_BCTHW).square().mean().backward()
    torch.testing.assert_close(sound(x_BCTHW), plain(x_BCTHW))
    torch.testing.assert_close(sound.weight.grad, plain.weight.grad)
    half = SoundConv3d(4, 6, 3, stride=stride, padding=1)
    half.load_state_dict(plain.state_dict())
    fill_freed_memory_with_infinity()
    with torch.autocast("cpu", torch.bfloat16):
        made = half(x_BCTHW)
    made.float().square().mean().backward()
    torch.testing.assert_close(half.weight.grad, plain.weight.grad, rtol=0.05, atol=0.02)
