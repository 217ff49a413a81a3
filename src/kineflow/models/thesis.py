"""The systems of five theses: their published sizes and costs beside ours.

`kineflow models --thesis` prints the page; docs/models.md is that page.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch

from kineflow.models.describe import describe_model
from kineflow.models.registry import create_model
from kineflow.models.thesis_2d import ROWS_2D
from kineflow.models.thesis_3d import ROWS_3D
from kineflow.models.thesis_rows import ThesisRow

ROWS: tuple[ThesisRow, ...] = (*ROWS_2D, *ROWS_3D)
MAX_PARAMS_ERROR = 0.01
MAX_MACS_ERROR = 0.03


@dataclass(frozen=True)
class ThesisComparison:
    """A row beside our count of the same system.

    Attributes:
        row: as published.
        params_M: ours, in millions.
        macs_G: ours, in billions, counted as published and for the same unit, a clip or a frame.
    """

    row: ThesisRow
    params_M: float
    macs_G: float

    @property
    def params_error(self) -> float | None:
        """Ours over published, less 1; None where nothing is published."""
        return None if self.row.params_M is None else self.params_M / self.row.params_M - 1

    @property
    def macs_error(self) -> float | None:
        """Ours over published, less 1; None where nothing is published."""
        return None if self.row.macs_G is None else self.macs_G / self.row.macs_G - 1

    @property
    def agrees(self) -> bool:
        """Parameters within 1% and multiply-accumulates within 3%, where published."""
        return abs(self.params_error or 0) <= MAX_PARAMS_ERROR and abs(self.macs_error or 0) <= MAX_MACS_ERROR


def compare(row: ThesisRow) -> ThesisComparison:
    """Build a row's model and count it; nothing is computed."""
    in_channels, num_frames, height_px, width_px = row.input_CTHW
    with torch.device("meta"):
        model = create_model(
            row.model, num_classes=row.num_classes, in_channels=in_channels, task=row.task, options=row.options
        )
    size = describe_model(model, num_frames=num_frames, height_px=height_px, width_px=width_px)
    return ThesisComparison(
        row=row,
        params_M=size.num_parameters / 1e6,
        macs_G=size.macs_as_published / (num_frames if row.per_frame else 1) / 1e9,
    )


def as_json(comparison: ThesisComparison) -> dict[str, object]:
    """Return one JSON object of a row: ours as `params_M` and `macs_G`, the thesis's as `published_*`."""
    row = comparison.row
    return {
        "system": row.system,
        "model": row.model,
        "options": dict(row.options),
        "task": row.task,
        "classes": row.num_classes,
        "input_CTHW": list(row.input_CTHW),
        "params_M": round(comparison.params_M, 3),
        "macs_G": round(comparison.macs_G, 3),
        "macs_per": "frame" if row.per_frame else "clip",
        "published_params_M": row.params_M,
        "published_macs_G": row.macs_G,
        "check": row.check,
        "agrees": comparison.agrees,
        "note": row.note,
    }


def as_page(comparisons: Iterable[ThesisComparison]) -> str:
    """Return the page docs/models.md, in Markdown."""
    comparisons = list(comparisons)
    checked = [comparison for comparison in comparisons if comparison.row.check == "yes"]
    missed = [comparison for comparison in checked if not comparison.agrees]
    lines = [
        "# The systems of the theses",
        "",
        "Written by `kineflow models --thesis`; do not edit.",
        "",
        "Parameters in millions and multiply-accumulates in billions, as published and as counted here. Multiply-",
        "accumulates are those of one clip, or of one frame where the input says so. They count convolutions, linear",
        "and recurrent layers, 2 an element of batch norm, 1 of ReLU and of what is pooled, and no attention products.",
        "A row agrees where its parameters are within 1% and its multiply-accumulates within 3%.",
        "",
        f"{len(checked) - len(missed)} of {len(checked)} rows that must agree do.",
        "",
        "| system | model | input | params_M | published | macs_G | published | agrees |",
        "|---|---|---|---:|---:|---:|---:|---|",
        *(_page_row(comparison) for comparison in comparisons),
        "",
        "## Options and notes",
        "",
        *_page_notes(comparisons),
    ]
    return "\n".join(lines) + "\n"


def _page_row(comparison: ThesisComparison) -> str:
    row = comparison.row
    size = "x".join(str(length) for length in row.input_CTHW) + (", per frame" if row.per_frame else "")
    verdict = {"yes": "yes" if comparison.agrees else "**no**", "exempt": "exempt", "": ""}[row.check]
    cells = (
        row.system,
        f"`{row.model}`",
        size,
        f"{comparison.params_M:.2f}",
        _published(row.params_M, comparison.params_error),
        f"{comparison.macs_G:.2f}",
        _published(row.macs_G, comparison.macs_error),
        verdict,
    )
    return f"| {' | '.join(cells)} |"


def _published(value: float | None, error: float | None) -> str:
    return "" if value is None or error is None else f"{value:g} ({error:+.1%})"


def _page_notes(comparisons: Iterable[ThesisComparison]) -> list[str]:
    notes = []
    for comparison in comparisons:
        row = comparison.row
        options = ", ".join(f"`{key}={value}`" for key, value in row.options.items())
        parts = [part for part in (options, row.note) if part]
        if parts:
            notes.append(f"- {row.system} (`{row.model}`): {'; '.join(parts)}.")
    return notes
