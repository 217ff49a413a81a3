"""Sizes and costs of the 3D systems against the theses' tables, counted without computing anything."""

import pytest
import torch

from kineflow.models.describe import ModelDescription, describe_model
from kineflow.models.registry import create_model
from kineflow.models.thesis_3d import ROWS_3D
from kineflow.models.thesis_rows import ThesisRow


def size_of(row: ThesisRow) -> ModelDescription:
    channels, num_frames, height_px, width_px = row.input_CTHW
    with torch.device("meta"):
        model = create_model(
            row.model, num_classes=row.num_classes, in_channels=channels, task="clip", options=row.options
        )
    return describe_model(model, num_frames=num_frames, height_px=height_px, width_px=width_px)


@pytest.mark.parametrize("row", [row for row in ROWS_3D if row.check == "yes"], ids=lambda row: row.system)
def test_parameters_and_macs_are_the_published_ones(row: ThesisRow) -> None:
    size = size_of(row)
    assert size.num_parameters / 1e6 == pytest.approx(row.params_M, rel=0.01)
    assert size.macs_as_published / 1e9 == pytest.approx(row.macs_G, rel=0.03)


@pytest.mark.parametrize("row", [row for row in ROWS_3D if row.check == "exempt"], ids=lambda row: row.system)
def test_systems_that_the_text_leaves_open_come_out_as_their_notes_say(row: ThesisRow) -> None:
    assert row.params_M is not None
    size = size_of(row)
    unused_head = 0.922 if "922,000" in row.note else 0  # (2048 + 256) x 400 + 400
    assert size.num_parameters / 1e6 + unused_head == pytest.approx(row.params_M, rel=0.01)
    assert size.macs_as_published / 1e9 == pytest.approx(row.macs_G, rel=0.03)


@pytest.mark.parametrize("row", [row for row in ROWS_3D if not row.check], ids=lambda row: row.system)
def test_systems_without_figures_are_built(row: ThesisRow) -> None:
    assert (row.params_M, row.macs_G) == (None, None)
    assert size_of(row).num_parameters > 1e6


@pytest.mark.parametrize("row", [row for row in ROWS_3D if not row.check], ids=lambda row: row.system)
def test_systems_without_figures_learn_from_one_step(row: ThesisRow) -> None:
    """One step of gradient descent on two generated clips, short and small, makes their loss less."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = create_model(row.model, num_classes=row.num_classes, in_channels=3, task="clip", options=row.options)
    clips_BCTHW, labels_B = torch.randn(2, 3, 16, 40, 40), torch.tensor([0, 1])
    optimiser = torch.optim.SGD(model.parameters(), lr=1e-3)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0  # the same function before and after the step
        if hasattr(module, "mask_prob"):
            module.mask_prob = 0.0
    before = torch.nn.functional.cross_entropy(model(clips_BCTHW).logits, labels_B)
    before.backward()
    optimiser.step()
    with torch.no_grad():
        after = torch.nn.functional.cross_entropy(model(clips_BCTHW).logits, labels_B)
    torch.set_num_threads(threads)
    assert after < before


def test_the_backbone_from_scratch_has_the_published_output() -> None:
    """Toering 2018, Table 3.1: 1024 channels, 13 frames of 30x30 from 13 of 240x240."""
    with torch.device("meta"):
        model = create_model("inflated_resnet50.avg", num_classes=51, in_channels=3, task="clip")
        assert model.backbone(torch.empty(1, 3, 13, 240, 240)).shape == (1, 1024, 13, 30, 30)


def test_the_branch_from_scratch_has_the_published_output() -> None:
    """Toering 2018, 3.3: 2048 channels of 4x8x8."""
    options = {"classification_branch": True}
    with torch.device("meta"):
        model = create_model("inflated_resnet50.avg", num_classes=51, in_channels=3, task="clip", options=options)
        assert model.backbone(torch.empty(1, 3, 13, 240, 240)).shape == (1, 2048, 4, 8, 8)


# Parameters with 400 classes, as published with each set of weights or in each paper, in millions.
ELSEWHERE = [
    ("r3d_18.avg", 33.371472, 1e-6),  # torchvision 0.28, weights' num_params, and the next six
    ("mc3_18.avg", 11.695440, 1e-6),
    ("r2plus1d_18.avg", 31.505325, 1e-6),
    ("s3d.avg", 8.320048, 1e-6),
    ("swin3d_t.avg", 28.158070, 1e-6),
    ("swin3d_s.avg", 49.816678, 1e-6),
    ("mvit_v2_s.avg", 34.537744, 1e-6),
    ("x3d_s.avg_fc", 3.76, 0.01),  # Feichtenhofer 2020, Table 4 (X3D-M, the same network)
    ("x3d_xs.avg_fc", 3.76, 0.01),
]


@pytest.mark.parametrize(("name", "params_M", "relative"), ELSEWHERE)
def test_parameters_are_those_published_with_the_weights(name: str, params_M: float, relative: float) -> None:
    with torch.device("meta"):
        model = create_model(name, num_classes=400, in_channels=3, task="clip")
    assert sum(parameter.numel() for parameter in model.parameters()) / 1e6 == pytest.approx(params_M, rel=relative)
