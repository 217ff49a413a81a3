"""`kineflow init`: check a user's videos and annotations, and write params.yaml for them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from kineflow.annotations.guess import choose_format
from kineflow.annotations.locate import list_videos
from kineflow.errors import ParamsError
from kineflow.params import parse_params
from kineflow.setup.choices import choose, look_at_machine, reasons
from kineflow.setup.out_path import require_place
from kineflow.setup.presets import preset_text, write_params
from kineflow.setup.survey import Survey, data_name, survey
from kineflow.setup.yaml_text import Change, change_values

BASE_PRESET = "ut_interaction"  # real clips, little data, from scratch
MAX_SHOWN = 20


@dataclass(frozen=True)
class InitReport:
    """What `init_project` found and chose.

    Args:
        found: of the videos and annotations.
        choices: value and reason by key of params.yaml.
        written: the file, or None where problems must be solved first.
        format: that was read, and `format_reason`: why.
    """

    found: Survey
    choices: Mapping[str, tuple[object, str]]
    written: Path | None
    format: str
    format_reason: str


def init_project(
    videos: str,
    annotations: str,
    format: str | None,
    task: str,
    out: Path,
    group_from: str | None = None,
    *,
    force: bool = False,
) -> InitReport:
    """Check videos against annotations and write a complete params file.

    Args:
        videos: a folder or `s3://bucket/prefix`.
        annotations: a file or folder, as the format has it; anything for class folders.
        format: one of `kineflow.annotations.FORMATS`; guessed if None.
        task: `clip` or `frame`.
        out: usually `params.yaml`.
        group_from: rule for groups; chosen from what is found if None.
        force: replace params that the user changed.

    Returns:
        a report; nothing is written while `found.problems` is not empty.

    Raises:
        DataError: there are no videos or no annotation files.
        ParamsError: an unknown format or task, or `out` would be lost.
        ServiceError: S3 is out of reach.
    """
    if task not in ("clip", "frame"):
        raise ParamsError(f"task {task!r} is unknown; known: clip, frame")
    require_place(out)
    known, reason = choose_format(annotations, format, [info.key for info in list_videos(videos)])
    format = known.name
    found = survey(videos, annotations, known, task=task, group_from=group_from)
    if found.problems:
        return InitReport(found, {}, None, format, reason)
    changes = [*choose(found, look_at_machine(), task=task), _background(format)]
    text = _params_text(found, changes, videos=videos, annotations=annotations, format=format, task=task)
    parse_params(yaml.safe_load(text), where=str(out))
    write_params(out, text, force=force)
    return InitReport(found, reasons(changes), out, format, reason)


def print_init_report(report: InitReport) -> None:
    """Print what was found, what was chosen and why, and what is to be done next."""
    from rich.console import Console
    from rich.table import Column, Table
    from rich.text import Text

    # not the terminal's own wrapping: it breaks keys and file names in the middle
    console, found = Console(highlight=False, markup=False, soft_wrap=True), report.found
    console.print(f"annotations: {report.format} ({report.format_reason})")
    console.print(
        f"{found.num_videos} videos, {found.total_sec / 3600:.2f} hours, {found.width}x{found.height} at "
        f"{found.fps:g} fps in the median; {len(found.group_sizes)} groups ({found.group_rule}: {found.group_reason})"
    )
    labels = Table("label", found.unit, "groups")
    for label, amount in found.label_counts.items():
        labels.add_row(Text(label), f"{amount:.0f}", str(found.label_groups.get(label, 0)))
    console.print(labels, soft_wrap=False)
    for key, reason in list(found.quarantined.items())[:MAX_SHOWN]:
        console.print(f"cannot be decoded: {key}: {reason}")
    if found.unannotated:
        console.print(f"without annotation: {len(found.unannotated)} ({found.unannotated[0]}, ...)")
    for warning in found.warnings:
        console.print(f"note: {warning}")
    for problem in found.problems[:MAX_SHOWN]:
        console.print(f"problem: {problem}")
    if report.written is None:
        console.print(f"{len(found.problems)} problems: solve them and run init again; nothing was written")
        return
    keys = Column("params", min_width=max(map(len, report.choices)), no_wrap=True)
    choices = Table(keys, "value", Column("why", overflow="fold"))
    for key, (value, reason) in report.choices.items():
        choices.add_row(Text(key), Text(str(value)), Text(reason))
    console.print(choices, soft_wrap=False)
    console.print(f"{report.written} is written; `make retrain` runs it")


def _background(format: str) -> Change:
    if format in ("boris_csv", "boris_project", "frame_csv"):
        return Change("streams.rgb.subtract_background", True, "behaviour is filmed by a fixed camera; false if not")
    return Change("streams.rgb.subtract_background", False, "the camera may move; true if it never does")


def _params_text(found: Survey, changes: list[Change], *, videos: str, annotations: str, format: str, task: str) -> str:
    name = data_name(videos)
    own = [
        Change("task", task),
        Change("data.name", name),
        Change("data.source", videos),
        Change("data.annotations", annotations),
        Change("data.format", format),
        Change("data.group_from", found.group_rule, found.group_reason),
        Change("data.keep", "reference"),
        Change("sample", None),
        Change("embed.enabled", False),
        Change("register.model_name", f"kineflow-{name.replace('_', '-')}"),
        Change("promotion.metric", "video_top1_acc" if task == "clip" else "frame_macro_f1"),
    ]
    text = change_values(preset_text(BASE_PRESET), [*own, *changes], where=f"preset {BASE_PRESET}")
    lines = text.splitlines()
    while lines[0].startswith("#"):
        lines.pop(0)
    head = f"# Written by kineflow init; the comments say why. The recipe is that of {BASE_PRESET}."
    return "\n".join([head, *lines, ""])
