"""`kineflow models`: the list, the models of a name, and the systems of the theses, for people and for programs.

Lines are laid out by hand: on a terminal headings are bold and a wide one shows sources too; elsewhere the text is the
same everywhere.
"""

import json
import shutil
import sys
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import typer

from kineflow.errors import ParamsError
from kineflow.models import index
from kineflow.models.index import BackboneEntry, ModelEntry

PLAIN_WIDTH = 80
WIDE = 100  # from here on lines have room for a source
KINDS = {"2d": "frame by frame", "3d": "on whole clips", "embedding": "cached by the embed stage"}
TASKS = ("clip", "frame")
Entry = TypeVar("Entry", BackboneEntry, ModelEntry)
LEGEND = (
    "MACs: multiply-accumulates of one such clip. Sees: frames of a clip that one time step of the backbone sees. A "
    "model is named backbone.pooling: `kineflow models resnet18.bert` describes it, `kineflow models bert` lists those "
    "of a part."
)
CLIP = "CxTxHxW: channels, frames, height, width"


@dataclass(frozen=True)
class Filters:
    """Which models to list: all of what is not None must hold.

    Args:
        task: `clip` or `frame`.
        input: `2d`, `3d` or `embedding`.
        max_params_M: parameters in millions.
        max_macs_G: multiply-accumulates of a clip in billions.
    """

    task: str | None = None
    input: str | None = None
    max_params_M: float | None = None
    max_macs_G: float | None = None

    def __post_init__(self) -> None:
        """Refuse a task or an input that there is none of.

        Raises:
            ParamsError: with the known ones.
        """
        for option, value, known in (("task", self.task, TASKS), ("input", self.input, KINDS)):
            if value is not None and value not in known:
                raise ParamsError(f"--{option} {value}: known are {', '.join(known)}")

    def let_through(self, entry: BackboneEntry | ModelEntry) -> bool:
        """Whether an entry is one of them."""
        return (
            self.task in (None, *entry.tasks)
            and self.input in (None, entry.input)
            and (self.max_params_M is None or entry.num_parameters <= self.max_params_M * 1e6)
            and (self.max_macs_G is None or entry.macs <= self.max_macs_G * 1e9)
        )


def print_parts(filters: Filters) -> None:
    """Print a line for each backbone, by what runs on what and goes with which poolings; then the poolings."""
    groups: dict[tuple[str, tuple[str, ...]], list[BackboneEntry]] = {}
    for entry in _some(index.list_backbones(), filters):
        groups.setdefault((entry.input, tuple(entry.poolings)), []).append(entry)
    columns = (("backbone", -21), ("clip CxTxHxW", 14), ("params M", 8), ("MACs G", 8), ("sees", 5), ("tasks", -11))
    for (kind, poolings), entries in groups.items():
        typer.secho(_wrapped(f"{KINDS[kind].capitalize()}, with {' '.join(poolings)}"), bold=True)
        _print_table(
            columns,
            [
                (
                    entry.name,
                    _size(entry.input_CTHW),
                    f"{entry.num_parameters / 1e6:.2f}",
                    f"{entry.macs / 1e9:.2f}",
                    _sees(entry.receptive_frames),
                    ", ".join(entry.tasks),
                )
                for entry in entries
            ],
            [entry.source for entry in entries],
        )
        print()
    poolings_listed = index.list_poolings()
    _print_table(
        (("pooling", -20), ("tasks on frames", -15), ("on clips", -11), ("leaves padding out", -18)),
        [
            (
                pooling.name,
                ", ".join(pooling.tasks["2d"]),
                ", ".join(pooling.tasks["3d"]),
                "yes" if pooling.padded else "no",
            )
            for pooling in poolings_listed
        ],
        [pooling.source for pooling in poolings_listed],
    )
    print()
    print(_wrapped(LEGEND))


def print_models(pattern: str, filters: Filters, *, as_json: bool, measure: bool) -> None:
    """Print the models that a pattern names, each counted at its backbone's stated clip with 51 classes.

    Raises:
        ParamsError: it names no model, or the filters let none of them through.
    """
    entries = _some(_named(pattern), filters)
    if measure:
        from kineflow.models.catalogue import measure_ms_per_clip

        for entry in entries:
            index.keep_measured({entry.name: round(measure_ms_per_clip(entry), 1)})
    speeds = index.measured_ms()
    if as_json:
        print("[\n" + ",\n".join(json.dumps(_as_json(entry, speeds.get(entry.name))) for entry in entries) + "\n]")
    elif len(entries) == 1:
        _print_one(entries[0], speeds.get(entries[0].name))
    else:
        _print_many(entries, speeds)


def print_thesis(*, as_json: bool) -> None:
    """Print the systems of the theses: the page docs/models.md, or a JSON list of one object a row."""
    from kineflow.models import thesis

    comparisons = [thesis.compare(row) for row in thesis.ROWS]
    if as_json:
        print("[\n" + ",\n".join(json.dumps(thesis.as_json(comparison)) for comparison in comparisons) + "\n]")
    else:
        print(thesis.as_page(comparisons), end="")


def _named(pattern: str) -> list[ModelEntry]:
    if pattern:
        return index.find_entries(pattern)
    if not index.is_counted():
        print("counting every model, once for this version of the code: about half a minute", file=sys.stderr)
    return index.list_entries()


def _some(entries: Iterable[Entry], filters: Filters) -> list[Entry]:
    found = [entry for entry in entries if filters.let_through(entry)]
    if not found:
        raise ParamsError("no model is like that: ask for another task or input, or allow more parameters or MACs")
    return found


def _print_one(entry: ModelEntry, ms_per_clip: float | None) -> None:
    measured = f"`kineflow models {entry.name} --measure`" if ms_per_clip is None else f"{ms_per_clip:.1f} ms"
    facts = {
        "tasks": ", ".join(entry.tasks),
        "reads": f"clips of {_size(entry.input_CTHW)} ({CLIP}), {KINDS[entry.input]}; counted at that size",
        "parameters": f"{entry.num_parameters / 1e6:.2f} M, with 51 classes",
        "MACs": f"{entry.macs / 1e9:.2f} G",
        "forward here": measured,
        "sees": {None: "the whole clip in each time step", 1: "one frame in each time step"}.get(
            entry.receptive_frames, f"{entry.receptive_frames} frames in each time step"
        ),
        "padding": "left out, where it is told the clips' lengths" if entry.padded else "counts as frames",
        "exports": "by torch.export, for any number of clips" if entry.exports else "no",
        "options": ", ".join(f"{key}={value}" for key, value in entry.options.items()) or "none",
        "source": entry.source,
    }
    typer.secho(entry.name, bold=True)
    for name, fact in facts.items():
        print(_wrapped(f"  {name:<14}{fact}", indent=16))


def _print_many(entries: Sequence[ModelEntry], speeds: dict[str, float]) -> None:
    with_speeds = any(entry.name in speeds for entry in entries)
    longest = max(len(entry.name) for entry in entries)
    columns = [("model", -longest), ("tasks", -11), ("params M", 8), ("MACs G", 8)]
    columns += [("ms a clip", 9)] if with_speeds else []
    rows = [
        (
            entry.name,
            ", ".join(entry.tasks),
            f"{entry.num_parameters / 1e6:.2f}",
            f"{entry.macs / 1e9:.2f}",
            *([f"{speeds[entry.name]:.1f}" if entry.name in speeds else ""] if with_speeds else []),
        )
        for entry in entries
    ]
    _print_table(columns, rows, [entry.source for entry in entries])


def _print_table(columns: Sequence[tuple[str, int]], rows: Sequence[Sequence[str]], sources: Sequence[str]) -> None:
    """Print a heading and rows; a column is named and has a width, negative where it is aligned to the left.

    A line that has room for half of its source at least shows as much of that as fits.
    """
    used = sum(abs(width) + 2 for _, width in columns)
    room = _width() - used
    if room >= WIDE - PLAIN_WIDTH:
        columns = [*columns, ("source", -room)]
        rows = [
            (*row, textwrap.shorten(source, room, placeholder=" …")) for row, source in zip(rows, sources, strict=True)
        ]
    widths = [width for _, width in columns]
    typer.secho(_line([name for name, _ in columns], widths), dim=True)
    for row in rows:
        print(_line(row, widths))


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    aligned = (
        cell.ljust(-width) if width < 0 else cell.rjust(width) for cell, width in zip(cells, widths, strict=True)
    )
    return "  ".join(aligned).rstrip()


def _as_json(entry: ModelEntry, ms_per_clip: float | None) -> dict[str, object]:
    return {
        "model": entry.name,
        "tasks": entry.tasks,
        "input": entry.input,
        "input_CTHW": entry.input_CTHW,
        "params_M": round(entry.num_parameters / 1e6, 4),
        "macs_G": round(entry.macs / 1e9, 4),
        "receptive_frames": entry.receptive_frames,
        "padded": entry.padded,
        "exports": entry.exports,
        "options": entry.options,
        "source": entry.source,
        **({} if ms_per_clip is None else {"ms_per_clip": ms_per_clip}),
    }


def _sees(receptive_frames: int | None) -> str:
    return "all" if receptive_frames is None else str(receptive_frames)


def _size(lengths: Sequence[int]) -> str:
    return "x".join(str(length) for length in lengths)


def _wrapped(text: str, *, indent: int = 0) -> str:
    return textwrap.fill(text, _width(), subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False)


def _width() -> int:
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else PLAIN_WIDTH
