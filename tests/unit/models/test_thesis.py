"""Our models have the sizes and costs that the theses publish for theirs."""

import csv
import json
from itertools import pairwise
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from kineflow.models.registry import create_model
from kineflow.models.thesis import ROWS, as_json, as_page, compare
from kineflow.models.thesis_2d import ROWS_2D
from kineflow.models.thesis_rows import ThesisRow

TABLE = Path(__file__).resolve().parents[4] / "shared" / "reference" / "thesis_models.csv"
# Ways to train and to fuse: kineflow.distillation, kineflow.evaluation.
NO_MODELS = {"mars / mers distillation", "bert distillation", "two-stream and three-stream fusion"}


def row_id(row: ThesisRow) -> str:
    return f"{row.system} ({row.model})"


@pytest.mark.parametrize("row", [row for row in ROWS_2D if row.check == "yes"], ids=row_id)
def test_a_system_has_the_published_size_and_cost(row: ThesisRow) -> None:
    ours = compare(row)
    assert row.params_M is not None
    assert ours.params_M == pytest.approx(row.params_M, rel=0.01)
    if row.macs_G is not None:
        assert ours.macs_G == pytest.approx(row.macs_G, rel=0.03)
    assert ours.agrees


@pytest.mark.parametrize(
    ("system", "params_M"),
    [
        # What the arithmetic in the notes of our table of all systems gives.
        ("inception_v3 frames", 21.99),
        ("lstm on 50x50 pixels", 32.93),
        ("gru on 50x50 pixels", 24.72),
    ],
)
def test_an_exempt_system_is_the_one_that_fits(system: str, params_M: float) -> None:
    (row,) = (row for row in ROWS_2D if row.system == system)
    assert row.check == "exempt"
    assert compare(row).params_M == pytest.approx(params_M, abs=0.006)


def test_the_mouse_lstm_by_hand() -> None:
    (row,) = (row for row in ROWS_2D if row.system == "resnet50 embeddings + lstm per frame")
    sizes = [2048, 64, 32, 16]
    weights = sum(4 * b * (a + b + 2) for a, b in pairwise(sizes)) + 16 + 1
    assert compare(row).params_M == pytest.approx(weights / 1e6, abs=1e-9)


def test_the_mouse_tcn_by_hand() -> None:
    (row,) = (row for row in ROWS_2D if row.system == "resnet50 embeddings + tcn per frame")
    first = 3 * 2048 * 256 + 256
    others = 11 * (3 * 256 * 256 + 256)
    norms, shortcut, head = 12 * 2 * 256, 2048 * 256 + 256, 256 + 1
    assert compare(row).params_M == pytest.approx((first + others + norms + shortcut + head) / 1e6, abs=1e-9)


@pytest.mark.parametrize("row", [row for row in ROWS_2D if not row.check], ids=row_id)
def test_a_system_without_figures_learns_from_one_step(row: ThesisRow) -> None:
    """One step of gradient descent on two generated clips, short and small, makes their loss less."""
    assert (row.params_M, row.macs_G) == (None, None)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    side_px = 1 if row.input_CTHW[2] == 1 else 40
    options = dict(row.options) | ({"num_steps": 3} if row.model.endswith(".concat") else {})
    model = create_model(
        row.model, num_classes=row.num_classes, in_channels=row.input_CTHW[0], task=row.task, options=options
    )
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0  # the same function before and after the step
        if hasattr(module, "mask_prob"):
            module.mask_prob = 0.0
    clips_BCTHW = torch.randn(2, row.input_CTHW[0], 3, side_px, side_px)

    def loss() -> torch.Tensor:
        logits = model(clips_BCTHW).logits
        if row.task == "frame":  # one behaviour, in every frame of the first clip
            targets = torch.stack((torch.ones(3, 1), torch.zeros(3, 1)))
            return F.binary_cross_entropy_with_logits(logits, targets)
        return F.cross_entropy(logits, torch.tensor([0, 1]))

    before = loss()
    before.backward()
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    squared_norm = sum(gradient.square().sum().item() for gradient in gradients)
    torch.optim.SGD(model.parameters(), lr=1e-3 / squared_norm).step()  # by its slope the loss falls by 0.001
    with torch.no_grad():
        after = loss()
    torch.set_num_threads(threads)
    assert after < before


@pytest.mark.skipif(not TABLE.is_file(), reason="the table of the theses is not beside the repository")
def test_every_figure_is_the_tables_and_no_system_of_it_is_missing() -> None:
    with TABLE.open(newline="") as file:
        rows = {row["system"]: row for row in csv.DictReader(file)}
    for ours in ROWS:
        theirs = rows[ours.system]
        figures = [float(theirs[key]) if theirs[key] else None for key in ("params_M", "macs_G")]
        assert [ours.params_M, ours.macs_G] == figures, ours.system
        assert ours.check == theirs["check"], ours.system
        if ours.check:
            assert ours.num_classes == int(theirs["classes"]), ours.system
            size = "x".join(map(str, ours.input_CTHW))
            assert size == theirs["input_CTHW"].replace("xTx", "x16x"), ours.system  # any T: we take 16
            assert ours.per_frame == ("per frame" in theirs["notes"]) or not ours.macs_G, ours.system
    assert set(rows) - {row.system for row in ROWS} == NO_MODELS


def test_rows_are_named_once_for_each_model() -> None:
    keys = [(row.system, row.model) for row in ROWS]
    assert len(set(keys)) == len(keys)


def test_the_page_and_the_json_say_what_was_counted() -> None:
    row = ThesisRow("probe", "embedding.none", (7, 5, 1, 1), 3, 24e-6, 20e-9, "yes", note="made up", task="frame")
    ours = compare(row)
    assert (ours.params_M, ours.macs_G) == (24e-6, 105e-9)  # 7 x 3 + 3 weights; 5 frames of 7 x 3
    assert not ours.agrees
    assert ours.macs_error == pytest.approx(105 / 20 - 1)
    page = as_page([ours])
    assert "0 of 1 rows that must agree do." in page
    assert "| probe | `embedding.none` | 7x5x1x1 | 0.00 | 2.4e-05 (+0.0%) | 0.00 | 2e-08 (+425.0%) | **no** |" in page
    assert "- probe (`embedding.none`): made up." in page
    assert json.loads(json.dumps(as_json(ours)))["agrees"] is False
