"""Run benchmarks and print their ratios: `python -m benchmarks [NAME...] [--out FOLDER]`."""

import argparse
import importlib
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.accuracy import ErrorComparison
from benchmarks.bars import judged
from benchmarks.machine import facts
from benchmarks.timing import Comparison

if TYPE_CHECKING:
    from benchmarks.zoo import Cost

    Row = Comparison | ErrorComparison | Cost

NAMES = (
    "decode", "containers", "flow", "flow_accuracy", "loading", "train_step", "ray_training", "zoo", "dvc_add", "scale",
    "overhead",
)  # fmt: skip
PAGE_WIDTH = 150  # columns, where the output is kept
HEADER = ("", "times as good", "bar", "ours", "reference", "rounds")  # where rows bring none of their own


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the named benchmarks, all of them by default; 2 where a name is unknown."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"some of {', '.join(NAMES)}; default: all")
    parser.add_argument("--out", type=Path, help="folder for a dated result in Markdown, for example docs/benchmarks")
    parser.add_argument("--budget-sec", type=float, help="how long zoo may take (default: 600)")
    given = parser.parse_args(arguments)
    unknown = [name for name in given.names if name not in NAMES]
    if unknown:
        parser.error(f"unknown benchmark {unknown[0]!r}; known: {', '.join(NAMES)}")
    found: dict[str, Sequence[Row]] = {}
    for name in given.names or NAMES:
        budget = {"budget_sec": given.budget_sec} if name == "zoo" and given.budget_sec is not None else {}
        found[name] = importlib.import_module(f"benchmarks.{name}").main(**budget)
    machine = facts()
    print_table(found, machine)
    if given.out is not None:
        path = given.out / f"{datetime.now(UTC):%Y-%m-%d}{'' if not given.names else '-' + '-'.join(given.names)}.md"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(markdown(found, machine, given.names))
        print(f"{path}: written")
    return 0


def print_table(found: Mapping[str, Sequence["Row"]], machine: Mapping[str, str]) -> None:
    """Print every ratio, and what it was measured on."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=PAGE_WIDTH)
    for name, rows in found.items():
        for header, group in groupby(rows, _header):
            table = Table(*header, title=name, title_justify="left")
            for row in group:
                table.add_row(*row_cells(row))
            console.print(table)
    for name, value in machine.items():
        console.print(f"{name:<13} {value}", soft_wrap=True, markup=False)


def row_cells(row: "Row") -> tuple[str, ...]:
    """What the table shows of a row: its cells, with its bar behind the ratio where it may have one."""
    if not isinstance(row, Comparison | ErrorComparison):
        return row.cells
    name, ratio, *others = row.cells
    return name, ratio, judged(row.name, row.ratio), *others


def markdown(found: Mapping[str, Sequence["Row"]], machine: Mapping[str, str], names: Sequence[str]) -> str:
    """The same as a page that can be kept."""
    lines = ["# Benchmarks", "", f"`{' '.join(['python -m benchmarks', *names])}`", ""]
    lines += [f"- {name}: {value}" for name, value in machine.items()]
    for name, rows in found.items():
        lines += ["", f"## {name}"]
        for header, group in groupby(rows, _header):
            lines += ["", f"| {' | '.join(header)} |", "|---|" + "---:|" * (len(header) - 1)]
            lines += [f"| {' | '.join(row_cells(row))} |" for row in group]
    return "\n".join([*lines, ""])


def _header(row: "Row") -> tuple[str, ...]:
    return getattr(row, "header", HEADER)


if __name__ == "__main__":
    sys.exit(main())
