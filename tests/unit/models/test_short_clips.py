"""3D convolutions of clips, or of a last stage's maps, that have no more time steps than the kernel."""

import pytest
import torch
import torch.nn.functional as F

from kineflow.models.backbones.cpu_convolutions import SoundConv3d
from kineflow.models.registry import create_model
from kineflow.training.precision import autocast
from kineflow.training.recipe import Precision
from tests.unit.models.poison import fill_freed_memory_with_infinity

SHORT = {  # channels in and out, groups, kernel, stride, steps of the clip: of stems and of grouped blocks
    "one frame, rgb": (3, 16, 1, (3, 5, 5), (1, 2, 2), 1),
    "one frame, flow": (2, 16, 1, (3, 5, 5), (1, 2, 2), 1),
    "one frame, groups": (48, 48, 16, (3, 3, 3), (1, 1, 1), 1),
    "five frames, I3D": (3, 16, 1, (7, 7, 7), (2, 2, 2), 5),
    "seven frames, I3D": (2, 16, 1, (7, 7, 7), (2, 2, 2), 7),
    "five steps, wide": (64, 64, 1, (7, 7, 7), (2, 2, 2), 5),
    "longer than the kernel": (3, 16, 1, (3, 5, 5), (1, 2, 2), 4),
}


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


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", SHORT)
def test_values_and_gradients_are_those_of_float64(name: str, precision: Precision) -> None:
    channels_in, channels_out, groups, kernel, stride, num_steps = SHORT[name]
    torch.manual_seed(0)
    padding = tuple(side // 2 for side in kernel)
    exact = torch.nn.Conv3d(channels_in, channels_out, kernel, stride, padding, groups=groups).double()
    sound = SoundConv3d(channels_in, channels_out, kernel, stride, padding, groups=groups)
    sound.load_state_dict(exact.state_dict())
    x_BCTHW = torch.randn(2, channels_in, num_steps, 12, 14)
    expected = exact(x_BCTHW.double())  # which oneDNN does not compute
    with autocast(torch.device("cpu"), precision):
        made = sound(x_BCTHW)
    toward = torch.randn(expected.shape)
    (expected * toward).sum().backward()
    (made.float() * toward).sum().backward()
    share = 1e-5 if precision == "fp32" else 0.02
    for ours, theirs in ((made.detach(), expected.detach()), (sound.weight.grad, exact.weight.grad)):
        torch.testing.assert_close(ours.double(), theirs, atol=share * float(theirs.abs().max()), rtol=0)
