"""What a gate found, as a few lines in a terminal: nothing where all rules hold."""

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kineflow.validation.gate import RuleResult

HEADER = ("rule", "severity", "verdict", "broken by", "the first")
VERDICTS = {"stop": "closed", "warn": "warned"}
OFFENDER_WIDTH = 72  # characters; the whole of it is in the verdict file, the error and the Data Docs
REMEDY_WIDTH = 108


def table_lines(broken: Sequence["RuleResult"]) -> list[str]:
    """A line for each broken rule, and under it what to do; no line where there is none.

    Args:
        broken: the results of broken rules, in the order to be shown.
    """
    if not broken:
        return []
    rows = [HEADER, *(_cells(result) for result in broken)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADER) - 1)]
    lines = [f"  {_joined(HEADER, widths)}"]
    for result, cells in zip(broken, rows[1:], strict=True):
        lines.append(f"  {_joined(cells, widths)}")
        lines += textwrap.wrap(
            result.rule.remedy, width=REMEDY_WIDTH, initial_indent="    -> ", subsequent_indent="       "
        )
    return lines


def _cells(result: "RuleResult") -> tuple[str, ...]:
    offender = textwrap.shorten(result.examples[0], width=OFFENDER_WIDTH, placeholder=" ...")
    counts = f"{result.num_broken} of {result.num_checked}"
    return result.rule.name, result.rule.severity, VERDICTS[result.rule.severity], counts, offender


def _joined(cells: Sequence[str], widths: Sequence[int]) -> str:
    *aligned, last = cells
    return "  ".join([*(f"{cell:<{width}}" for cell, width in zip(aligned, widths, strict=True)), last])
