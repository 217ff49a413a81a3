"""The gate between the tables and everything that costs time."""

from collections.abc import Sequence

from kineflow.data.event_clips import class_events
from kineflow.data.frame_labels import behaviours, exclusive_labels
from kineflow.errors import ParamsError
from kineflow.params import Params
from kineflow.stages import paths
from kineflow.stages.clip_rules import not_classes
from kineflow.stages.stage import StageReport
from kineflow.store import home
from kineflow.tables import EVENTS, FRAME_LABELS, NEAR_COPIES, VIDEOS, read_table
from kineflow.validation.catalogue import rule_names
from kineflow.validation.gate import open_gate, run_gate
from kineflow.validation.raw_facts import raw_facts
from kineflow.validation.raw_rules import raw_rules
from kineflow.validation.rules import with_severities

PARAMS: tuple[str, ...] = ("task", "frames.fps", "clips", "validation")


def run(params: Params, report: StageReport) -> None:
    """Write reports/gates/raw.json if the tables of `ingest` are fit to go on.

    Raises:
        GateError: a rule of severity `stop` is broken.
        DataError: classes exclude each other, and two behaviours hold in one frame.
        ParamsError: `validation.severity` names an unknown rule; `validation.exclusive`, `clips.classes` or
            `clips.negatives.within` a label that nothing has.
    """
    rules = raw_rules(
        task=params.task,
        min_frames=params.clips.min_frames,
        min_clips_per_class=params.validation.min_clips_per_class,
        max_quarantined_fraction=params.validation.max_quarantined_fraction,
        leave_out=params.clips.without_support == "leave_out",
    )
    rules = with_severities(rules, params.validation.severity, known_names=rule_names())
    videos = read_table(paths.VIDEOS, VIDEOS)
    events = read_table(paths.EVENTS, EVENTS)
    frame_labels = read_table(paths.FRAME_LABELS, FRAME_LABELS)
    if params.task == "frame" and params.labels == "exclusive":
        exclusive_labels(frame_labels)  # refuses two behaviours in one frame before anything costs time
    facts = raw_facts(
        params.task,
        videos,
        events,
        frame_labels,
        read_table(paths.NEAR_COPIES, NEAR_COPIES),
        fps=params.frames.fps,
        class_events=class_events(events, classes=params.clips.classes, not_classes=not_classes(params.clips)),
        point_events=params.clips.window_sec is not None,
        subjects=params.validation.subjects,
        exclusive=params.validation.exclusive,
    )
    known = {*events["label"], *behaviours(frame_labels)}
    _check_known(known, "validation.exclusive", [label for labels in params.validation.exclusive for label in labels])
    _check_known(known, "clips.classes", params.clips.classes or [])
    if params.clips.negatives is not None:
        _check_known(known, "clips.negatives.within", params.clips.negatives.within)
    report.items = len(videos)
    report.quarantined = int((videos["status"] != "ok").sum())
    result = run_gate("raw", rules, facts, docs_dir=home() / "data_docs")
    for line in result.summary():
        report.note(line)
    open_gate(result, paths.GATE_RAW)


def _check_known(known: set[str], key: str, labels: Sequence[str]) -> None:
    """A mistyped label would switch a rule off, or leave a class out, unseen."""
    unknown = sorted(set(labels) - known)
    if unknown:
        there = ", ".join(sorted(known)) or "no labels"
        raise ParamsError(f"{key}: nothing has the label {unknown[0]!r}; there are {there}")
