"""The blocks of every backbone: they hold each parameter once, in the order in which a clip passes them."""

from functools import partial

import pytest
import torch
from torch import nn

from kineflow.models.blocks import backbone_blocks
from kineflow.models.catalogue import stated_input
from kineflow.models.specs import BackboneSpec
from kineflow.models.zoo import BACKBONES


def build(spec: BackboneSpec) -> nn.Module:
    with torch.device("meta"):
        return spec.build(stated_input(spec)[0], spec.tasks[0], spec.options).eval()


@pytest.mark.parametrize("spec", BACKBONES, ids=lambda spec: spec.name)
def test_blocks_hold_every_parameter_once_in_the_order_of_the_computation(spec: BackboneSpec) -> None:
    backbone = build(spec)
    blocks = backbone_blocks(backbone)
    block_of = {}
    for index, block in enumerate(blocks):
        for name in block:
            for parameter in backbone.get_submodule(name).parameters():
                assert parameter not in block_of
                block_of[parameter] = index
    assert set(block_of) == set(backbone.parameters())
    seen: dict[str, list[int]] = {}  # along each path; SlowFast alone has several

    def note(path: str, index: int, *_: object) -> None:
        seen.setdefault(path, []).append(index)

    parallel = hasattr(getattr(backbone, "network", None), "parallel_blocks")
    for name, module in backbone.named_modules():
        for parameter in module.parameters(recurse=False):
            path = name.split(".")[1] if parallel else ""
            module.register_forward_pre_hook(partial(note, path, block_of[parameter]))
            break
    with torch.no_grad():
        backbone(torch.empty(1, *stated_input(spec), device="meta"))
    assert all(indices == sorted(indices) for indices in seen.values())
    assert {index for indices in seen.values() for index in indices} == set(range(len(blocks)))


def blocks_of(name: str) -> list[str]:
    spec = next(spec for spec in BACKBONES if spec.name == name)
    return ["+".join(block).replace("network.", "") for block in backbone_blocks(build(spec))]


def test_blocks_by_hand() -> None:
    stages = [f"layer{stage}.{block}" for stage in (1, 2, 3, 4) for block in (0, 1)]
    assert blocks_of("resnet18") == ["conv1+bn1", *stages]
    assert blocks_of("inception_v3")[-2:] == ["Mixed_7b", "Mixed_7c"]  # what the UCF-101 thesis trains, 4.3.2
    slowfast = blocks_of("slowfast_50_early")
    assert slowfast[0] == "slow.0+fast.0+laterals.0" and slowfast[3] == "slow.1.2+fast.1.2+laterals.1"
    assert slowfast[-1] == "reduce_slow+reduce_fast" and len(slowfast) == 1 + 16 + 1
    assert blocks_of("pixels") == blocks_of("embedding") == []
