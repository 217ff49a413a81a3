"""Each 3D backbone sees as many frames as its spec says: by gradients, and by what poisoned frames leave untouched."""

import pytest
import torch

from kineflow.models.backbones.clip_network import ClipNetwork
from kineflow.models.specs import BackboneSpec
from kineflow.models.zoo import BACKBONES

LONG = 100  # a backbone that sees more frames takes longer than all others together
SPECS = [spec for spec in BACKBONES if spec.input == "3d"]
LIMITED = [
    pytest.param(spec, spec.receptive_frames, id=spec.name, marks=[pytest.mark.soak] if frames > LONG else [])
    for spec in SPECS
    if (frames := spec.receptive_frames) is not None
]
UNLIMITED = [spec for spec in SPECS if spec.receptive_frames is None]


def build(spec: BackboneSpec) -> ClipNetwork:
    torch.manual_seed(0)
    backbone = spec.build(1, spec.tasks[0], spec.options).eval()
    assert isinstance(backbone, ClipNetwork)
    return backbone


@pytest.mark.parametrize(("spec", "receptive_frames"), LIMITED)
def test_a_step_sees_so_many_frames_and_no_others(spec: BackboneSpec, receptive_frames: int) -> None:
    # What comes through the outer taps of 33 depthwise convolutions is too faint for fewer digits.
    dtype = torch.float64 if "csn" in spec.name else torch.float32
    backbone = build(spec).to(dtype)
    side_px = max(17, backbone.min_side_px)
    stride = backbone.temporal_stride
    num_frames = -(-(receptive_frames + 4 * stride + backbone.min_frames) // stride) * stride
    clip = torch.rand((1, 1, num_frames, side_px, side_px), dtype=dtype, requires_grad=True)
    maps = backbone(clip)
    step = maps.shape[2] // 2
    seen = maps[:, :, step]
    (slope,) = torch.autograd.grad((seen * torch.randn_like(seen)).sum(), clip)
    frames = slope.abs().amax(dim=(0, 1, 3, 4)).nonzero().flatten()
    first, last = int(frames[0]), int(frames[-1])
    assert last - first + 1 == receptive_frames
    if spec.name.startswith("swin3d"):
        return  # its attention adds -100 to what a shifted window must not see, which does not hide what is no number
    poisoned = torch.full_like(clip.detach(), float("nan"))
    poisoned[:, :, first : last + 1] = clip.detach()[:, :, first : last + 1]
    with torch.no_grad():
        torch.testing.assert_close(backbone(poisoned)[:, :, step], seen, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("spec", UNLIMITED, ids=lambda spec: spec.name)
def test_a_step_sees_the_whole_clip(spec: BackboneSpec) -> None:
    backbone = build(spec)
    clip = torch.rand(1, 1, 200, 33, 33)
    other = clip.clone()
    other[:, :, 0] += 100
    with torch.no_grad():
        assert not torch.equal(backbone(clip)[:, :, -1], backbone(other)[:, :, -1])


def test_every_backbone_states_its_clip() -> None:
    for spec in BACKBONES:
        assert min(spec.stated_THW) >= 1, spec.name
        assert spec.receptive_frames is None or spec.receptive_frames >= 1, spec.name
