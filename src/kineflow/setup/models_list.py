"""`kineflow models`: the parts, the models of a name, and the systems of the theses, for people and for programs."""

import json
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table

from kineflow.models import catalogue, thesis
from kineflow.models.zoo import POOLINGS


def print_parts() -> None:
    """Print every backbone, counted at its stated clip, and every pooling with its options."""
    console = Console()
    table = _table(
        "backbone", "tasks", "clip CxTxHxW", "params M", "MACs G", "frames a step sees", "poolings", "source"
    )
    for entry in catalogue.list_backbones():
        spec = entry.spec
        table.add_row(
            spec.name,
            ", ".join(spec.tasks),
            _size(catalogue.stated_input(spec)),
            f"{entry.num_parameters / 1e6:.2f}",
            f"{entry.macs / 1e9:.2f}",
            "" if spec.receptive_frames is None else str(spec.receptive_frames),
            _poolings(spec.poolings),
            spec.source,
        )
    console.print(table)
    table = _table("pooling", "tasks behind frames", "padded", "options", "source")
    for pooling in POOLINGS:
        table.add_row(
            pooling.name,
            ", ".join(pooling.tasks["2d"]),
            "yes" if pooling.padded else "no",
            _options(pooling.options.items()),
            pooling.source,
        )
    console.print(table)
    console.print("A model is named backbone.pooling: `kineflow models NAME` describes those of a name.")


def print_models(pattern: str, *, as_json: bool, measure: bool) -> None:
    """Print the models that a pattern names, each counted at its backbone's stated clip with 51 classes.

    Raises:
        ParamsError: it names no model.
    """
    entries = catalogue.describe_models(pattern)
    speeds = [catalogue.measure_ms_per_clip(entry) if measure else None for entry in entries]
    if as_json:
        rows = [catalogue.as_json(entry) for entry in entries]
        for row, ms_per_clip in zip(rows, speeds, strict=True):
            if ms_per_clip is not None:
                row["ms_per_clip"] = round(ms_per_clip, 1)
        print(_json_lines(rows))
        return
    columns = ("model", "tasks", "clip CxTxHxW", "params M", "MACs G", "padded", "options", "source")
    table = _table(*columns[:5], *(("ms a clip",) if measure else ()), *columns[5:])
    for entry, ms_per_clip in zip(entries, speeds, strict=True):
        table.add_row(
            entry.name,
            ", ".join(entry.tasks),
            _size(entry.input_CTHW),
            f"{entry.num_parameters / 1e6:.2f}",
            f"{entry.macs / 1e9:.2f}",
            *(() if ms_per_clip is None else (f"{ms_per_clip:.1f}",)),
            "yes" if entry.padded else "no",
            _options(entry.options.items()),
            entry.source,
        )
    Console().print(table)


def print_thesis(*, as_json: bool) -> None:
    """Print the systems of the theses: the page docs/models.md, or a JSON list of one object a row."""
    comparisons = [thesis.compare(row) for row in thesis.ROWS]
    if as_json:
        print(_json_lines([thesis.as_json(comparison) for comparison in comparisons]))
    else:
        print(thesis.as_page(comparisons), end="")


def _table(*columns: str) -> Table:
    table = Table(box=None, header_style="bold")
    for index, column in enumerate(columns):
        table.add_column(column, no_wrap=index == 0, overflow="fold")
    return table


def _size(lengths: Sequence[int]) -> str:
    return "x".join(str(length) for length in lengths)


def _options(options: Iterable[tuple[str, object]]) -> str:
    return ", ".join(f"{name}={value}" for name, value in options)


def _poolings(names: Sequence[str]) -> str:
    others = [pooling.name for pooling in POOLINGS if pooling.name not in names]
    return ", ".join(names) if len(names) < len(others) else f"all but {', '.join(others)}" if others else "all"


def _json_lines(rows: Iterable[dict[str, object]]) -> str:
    return "[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]"
