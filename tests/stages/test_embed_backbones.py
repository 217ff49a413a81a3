"""Which backbones may embed frames one by one."""

import pytest

from kineflow.errors import ParamsError
from kineflow.stages.embed import check_sees_single_frames


@pytest.mark.parametrize("backbone", ["resnet18", "resnet50v2", "inception_resnet_v2", "resnet18_triple", "pixels"])
def test_backbones_that_see_single_frames_embed(backbone: str) -> None:
    check_sees_single_frames(backbone)


@pytest.mark.parametrize("backbone", ["tsm_resnet18", "tsm_resnet18_online", "embedding"])
def test_backbones_that_mix_frames_do_not(backbone: str) -> None:
    with pytest.raises(ParamsError, match=f"embed.backbone '{backbone}' does not see frames one by one"):
        check_sees_single_frames(backbone)


def test_a_misspelt_backbone_is_answered_with_the_nearest() -> None:
    with pytest.raises(ParamsError, match="there is no backbone 'resnet81'"):
        check_sees_single_frames("resnet81")
