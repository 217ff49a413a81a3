"""Our models have the sizes and costs that the theses publish for theirs."""

import json
from itertools import pairwise

import pytest

from kineflow.models.thesis import ROWS, as_json, as_page, compare
from kineflow.models.thesis_2d import ROWS_2D
from kineflow.models.thesis_rows import ThesisRow


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
