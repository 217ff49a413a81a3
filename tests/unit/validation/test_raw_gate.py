"""Each rule of the gate `raw` against tables that break it, and nothing else."""

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pandas as pd
import pytest

from kineflow.annotations import Event
from kineflow.annotations.timing import check_times
from kineflow.errors import AnnotationError, GateError, ParamsError
from kineflow.tables import EVENTS, FRAME_LABELS, NEAR_COPIES, VIDEOS, read_table, write_table
from kineflow.validation.catalogue import (
    MAX_QUARANTINED_FRACTION,
    MIN_CLIPS_PER_CLASS,
    MIN_FRAMES,
    catalogue,
    rule_names,
)
from kineflow.validation.gate import GateResult, open_gate, run_gate
from kineflow.validation.raw_facts import raw_facts
from kineflow.validation.raw_rules import raw_rules
from kineflow.validation.rules import with_severities
from tests.unit.validation.documented import documented_failure

Tables = dict[str, pd.DataFrame]
NA = float("nan")


def good_tables() -> Tables:
    """Eight videos of 2 s in four groups, two classes, and two behaviours in all frames."""
    ids = [f"v{i}.mp4" for i in range(8)]
    videos = pd.DataFrame(
        {
            "video_id": ids,
            "uri": ids,
            "sha256": [f"hash{i}" for i in range(8)],
            "num_bytes": 1000,
            "container": "mp4",
            "codec": "h264",
            "width": 64,
            "height": 48,
            "rotation_deg": 0,
            "fps_num": 10,
            "fps_den": 1,
            "variable_rate": False,
            "num_frames": 20,
            "num_corrupt_frames": 0,
            "duration_sec": 2.0,
            "group": [f"g{i // 2}" for i in range(8)],
            "official_role": None,
            "status": "ok",
            "reason": None,
        }
    )
    events = pd.DataFrame(
        [(name, "rest" if i % 2 else "groom", NA, NA, None, f"clips.csv:{i + 2}") for i, name in enumerate(ids)],
        columns=["video_id", "label", "start_sec", "stop_sec", "subject", "source"],
    )
    events.loc[0, ["start_sec", "stop_sec"]] = [0.5, 1.5]
    events.loc[0, "subject"] = "mouse 1"
    rows = [(name, frame, int(frame < 5), int(frame % 2 and frame > 5)) for name in ids for frame in range(20)]
    frame_labels = pd.DataFrame(rows, columns=["video_id", "frame", "groom", "rear"])
    frame_labels = frame_labels.astype({"groom": "Int8", "rear": "Int8"})
    near_copies = pd.DataFrame({name: [] for name, _ in NEAR_COPIES.columns})
    return {"videos": videos, "events": events, "frame_labels": frame_labels, "near_copies": near_copies}


def check(task: str, tables: Tables, folder: Path, **severities: str) -> GateResult:
    """The gate on tables that went through their files, as in the stage."""
    schemas = {"videos": VIDEOS, "events": EVENTS, "frame_labels": FRAME_LABELS, "near_copies": NEAR_COPIES}
    read: Tables = {}
    for name, schema in schemas.items():
        write_table(folder / f"{name}.parquet", schema, tables[name])
        read[name] = read_table(folder / f"{name}.parquet", schema)
    rules = raw_rules(
        task=task,
        min_frames=MIN_FRAMES,
        min_clips_per_class=MIN_CLIPS_PER_CLASS,
        max_quarantined_fraction=MAX_QUARANTINED_FRACTION,
    )
    rules = with_severities(rules, severities, known_names=rule_names())  # type: ignore[arg-type]
    facts = raw_facts(task, **read, fps=10.0, subjects=["mouse 1", "mouse 2"], exclusive=[["groom", "rear"]])
    return run_gate("raw", rules, facts, docs_dir=None)


def set_video(index: int, **values: object) -> Callable[[Tables], None]:
    def change(tables: Tables) -> None:
        for column, value in values.items():
            tables["videos"][column] = tables["videos"][column].astype("object")
            tables["videos"].loc[index, column] = value

    return change


def add_event(*row: object, subject: str | None = None) -> Callable[[Tables], None]:
    def change(tables: Tables) -> None:
        tables["events"].loc[len(tables["events"])] = [*row, subject, "clips.csv:99"]

    return change


def add_frame_label(*row: object) -> Callable[[Tables], None]:
    def change(tables: Tables) -> None:
        tables["frame_labels"].loc[len(tables["frame_labels"])] = list(row)

    return change


def set_labels(column: str, values: Callable[[pd.DataFrame], object]) -> Callable[[Tables], None]:
    def change(tables: Tables) -> None:
        tables["frame_labels"][column] = pd.array(values(tables["frame_labels"]), dtype="Int8")  # type: ignore[call-overload]

    return change


def add_near_copy(tables: Tables) -> None:
    pair = ("v0.mp4", "v7.mp4", -0.3, 0.95)
    tables["near_copies"] = pd.DataFrame([pair], columns=tables["near_copies"].columns)


def quarantine_all(tables: Tables) -> None:
    tables["videos"]["status"] = "quarantined"
    tables["videos"]["reason"] = "no frame decoded"


def quarantine_two(tables: Tables) -> None:
    for index in (4, 5):
        set_video(index, status="quarantined", reason="moov atom not found")(tables)


def keep_one_class(tables: Tables) -> None:
    tables["events"]["label"] = "rest"


def rare_class(tables: Tables) -> None:
    tables["events"].loc[0, "label"] = "rear"


def add_points(tables: Tables) -> None:
    for video in ("v0.mp4", "v7.mp4"):
        add_event(video, "strike", 1.0, NA)(tables)


def class_in_one_group(tables: Tables) -> None:
    tables["events"].loc[[0, 1], "label"] = "rear"


def no_behaviour(tables: Tables) -> None:
    tables["frame_labels"] = tables["frame_labels"][["video_id", "frame"]]


def forget_video(tables: Tables) -> None:
    tables["events"] = tables["events"][tables["events"]["video_id"] != "v3.mp4"]


BROKEN: list[tuple[str, str, Callable[[Tables], None], str]] = [
    ("some_video_ok", "clip", quarantine_all, "8 of 8 videos are quarantined, the first v0.mp4: no frame decoded"),
    ("few_videos_quarantined", "clip", quarantine_two, "2 of 8 videos are quarantined, the first v4.mp4: moov atom"),
    ("video_decodable", "clip", set_video(4, status="quarantined", reason="no frame"), r"v4.mp4 \(no frame\)"),
    ("video_undamaged", "clip", set_video(4, num_corrupt_frames=3), r"v4.mp4 \(3 of 20 frames\)"),
    ("video_has_frames", "clip", set_video(2, num_frames=0, fps_num=10), r"v2.mp4 \(frames: 0\)"),
    ("frame_rate_plausible", "clip", set_video(2, duration_sec=40.0), r"v2.mp4 \(frames per sec: 0.5\)"),
    ("frame_rate_plausible", "frame", set_video(2, num_frames=2000), r"v2.mp4 \(frames per sec: 1000\)"),
    ("video_long_enough", "clip", set_video(2, duration_sec=0.7), r"v2.mp4 \(extracted frames: 7\)"),
    ("video_large_enough", "clip", set_video(2, height=14), r"v2.mp4 \(smaller side px: 14\)"),
    ("video_small_enough", "clip", set_video(2, width=20000), r"v2.mp4 \(larger side px: 20000\)"),
    (
        "content_in_one_group",
        "clip",
        set_video(7, sha256="hash0"),
        r"v0.mp4 \(the same bytes as v7.mp4 in group g3\) and 1 more",
    ),
    ("content_once", "clip", set_video(1, sha256="hash0"), r"v0.mp4 \(the same bytes as v1.mp4\) and 1 more"),
    (
        "near_copies_in_one_group",
        "clip",
        add_near_copy,
        r"v0.mp4 \(like v7.mp4 in group g3 0.3 s later, similarity 0.95\)",
    ),
    ("video_annotated", "clip", forget_video, r"v3.mp4 \(labels: 0\)"),
    (
        "event_of_known_video",
        "clip",
        add_event("gone.mp4", "rest", 0.0, 1.0),
        r"event clips.csv:99 of gone.mp4 \(video: unknown\)",
    ),
    (
        "event_inside_video",
        "clip",
        add_event("v0.mp4", "rest", 0.5, 2.2),
        r"event clips.csv:99 of v0.mp4 \(rest 0.5 to 2.2 s in a video of 2 s\)",
    ),
    ("event_inside_video", "clip", add_event("v0.mp4", "rest", -0.1, 1.0), "rest -0.1 to 1 s"),
    ("event_inside_video", "frame", add_event("v0.mp4", "rest", 2.5, NA), "rest at 2.5 s in a video of 2 s"),
    ("event_starts_before_it_stops", "clip", add_event("v0.mp4", "rest", 1.0, 1.0), "rest 1 to 1 s"),
    ("event_starts_before_it_stops", "clip", add_event("v0.mp4", "rest", NA, 1.0), "v0.mp4"),
    (
        "subject_known",
        "clip",
        add_event("v0.mp4", "rest", 0.1, 0.4, subject="mouse 3"),
        r"event clips.csv:99 of v0.mp4 \(rest of subject mouse 3\)",
    ),
    (
        "exclusive_states_apart",
        "frame",
        add_event("v0.mp4", "rear", 1.2, 1.9, subject="mouse 1"),
        r"event clips.csv:99 of v0.mp4 \(rear 1.2 to 1.9 s with groom 0.5 to 1.5 s\)",
    ),
    ("several_classes", "clip", keep_one_class, r"the data set \(classes: 1\)"),
    ("label_makes_clips", "clip", add_points, r"label strike \(2 point events\)"),
    ("class_has_enough_events", "clip", rare_class, r"class rear \(events: 1\)"),
    ("class_in_two_groups", "clip", class_in_one_group, r"class rear \(groups: 1\)"),
    ("frame_labels_of_known_video", "frame", add_frame_label("gone.mp4", 0, 1, 0), "gone.mp4"),
    ("frame_labels_inside_video", "frame", add_frame_label("v0.mp4", 20, 1, 0), "frames 0 to 20 in a video of 20"),
    ("frame_labels_inside_video", "frame", add_frame_label("v0.mp4", -1, 1, 0), "frames -1 to 19"),
    ("frame_labelled_once", "frame", add_frame_label("v0.mp4", 7, 1, 0), r"v0.mp4 \(frames labelled twice: 1\)"),
    (
        "exclusive_behaviours_apart",
        "frame",
        set_labels("groom", lambda t: (t["frame"] < 10).astype(int)),
        r"v0.mp4 \(frames with two states: 2\) and 7 more",
    ),
    ("some_behaviour", "frame", no_behaviour, r"the data set \(classes: 0\)"),
    (
        "behaviour_shown",
        "frame",
        set_labels("rear", lambda t: [0] * len(t)),
        r"behaviour rear \(positive frames: 0\)",
    ),
    (
        "behaviour_absent_somewhere",
        "frame",
        set_labels("rear", lambda t: [1 if frame >= 5 else None for frame in t["frame"]]),
        r"behaviour rear \(negative frames: 0\)",
    ),
    (
        "behaviour_in_two_groups",
        "frame",
        set_labels("rear", lambda t: (t["video_id"].isin(["v2.mp4", "v3.mp4"]) & (t["frame"] >= 5)).astype(int)),
        r"behaviour rear \(groups: 1\)",
    ),
]
CONSEQUENCES = {  # rules that a violation breaks too
    "some_video_ok": {"few_videos_quarantined", "video_decodable", "several_classes", "label_makes_clips"},
    "few_videos_quarantined": {"video_decodable"},
    "video_has_frames": {"frame_rate_plausible"},
    "class_has_enough_events": {"class_in_two_groups"},
    "behaviour_shown": {"behaviour_in_two_groups"},
}


@pytest.mark.parametrize("task", ["clip", "frame"])
def test_good_tables_pass(task: str, tmp_path: Path) -> None:
    result = check(task, good_tables(), tmp_path)
    assert result.warnings == result.failures == ()
    assert all(found.num_checked for found in result.results if task == "clip")
    assert result.summary() == [f"gate raw: all {len(result.results)} rules hold"]


FIRST_CASES = {name: change for name, _, change, _ in reversed(BROKEN)}


@pytest.mark.parametrize(("name", "task", "change", "example"), BROKEN, ids=[row[0] for row in BROKEN])
def test_a_broken_rule_names_what_breaks_it(
    name: str, task: str, change: Callable[[Tables], None], example: str, tmp_path: Path
) -> None:
    tables = good_tables()
    change(tables)
    result = check(task, tables, tmp_path)
    broken = {found.rule.name: found for found in (*result.failures, *result.warnings)}
    assert set(broken) == {name} | CONSEQUENCES.get(name, set())
    found = broken[name]
    with pytest.raises(AssertionError if found.rule.severity == "warn" else GateError, match=example) as error:
        open_gate(result, tmp_path / "raw.json")
        raise AssertionError(found.sentence)
    assert "\n" not in str(error.value)
    assert (tmp_path / "raw.json").exists() == (not result.failures)
    if change is FIRST_CASES[name]:
        assert found.sentence == documented_failure("raw", name)


def test_every_rule_is_broken_by_a_test() -> None:
    assert {row[0] for row in BROKEN} == {rule.name for rule in catalogue()["raw"]}


def test_an_event_may_reach_one_frame_out_of_its_video(tmp_path: Path) -> None:
    tables = good_tables()
    add_event("v0.mp4", "rest", 0.5, 2.09)(tables)
    assert check("clip", tables, tmp_path).failures == ()


@pytest.mark.parametrize(
    ("start_sec", "stop_sec", "inside"),
    [(-0.0003, 1.0, True), (-0.0006, 1.0, False), (0.5, 2.1003, True), (0.5, 2.1006, False), (2.1003, None, True)],
)
def test_ingest_and_the_gate_have_one_rule_of_what_is_inside(
    start_sec: float, stop_sec: float | None, inside: bool, tmp_path: Path
) -> None:
    tables = good_tables()  # 2 s of 0.1 s a frame
    add_event("v0.mp4", "rest", start_sec, NA if stop_sec is None else stop_sec)(tables)
    broken = {found.rule.name for found in check("clip", tables, tmp_path).failures}
    assert broken == (set() if inside else {"event_inside_video"})
    event = Event("v0.mp4", "rest", start_sec, stop_sec, "", "clips.csv:99")
    with nullcontext() if inside else pytest.raises(AnnotationError, match=r"clips\.csv:99: rest (starts|is) at"):
        check_times([event], {"v0.mp4": 2.0}, {"v0.mp4": 0.1})


def test_events_of_quarantined_videos_are_not_judged(tmp_path: Path) -> None:
    tables = good_tables()
    set_video(0, status="quarantined", reason="no frame", duration_sec=None, num_frames=None, fps_num=None)(tables)
    add_event("v0.mp4", "rest", 0.5, 99.0)(tables)
    result = check("clip", tables, tmp_path)
    assert [found.rule.name for found in (*result.failures, *result.warnings)] == ["video_decodable"]


def test_point_events_make_clips_where_windows_are_set(tmp_path: Path) -> None:
    tables = good_tables()
    add_points(tables)
    facts = raw_facts("clip", **tables, fps=10.0, point_events=True)
    assert set(facts["labels"]["item"]) == {"label groom", "label rest", "label strike"}
    assert facts["labels"]["without_clip"].isna().all()
    of_groom = tables["events"][tables["events"]["label"] == "groom"]
    for video in of_groom["video_id"]:
        set_video(int(video[1]), status="quarantined")(tables)
    facts = raw_facts("clip", **tables, fps=10.0, point_events=True).pop("labels").set_index("item")["without_clip"]
    assert facts["label groom"] == "4 events of videos that cannot be decoded" and facts["label rest"] is None


def test_severities_come_from_params(tmp_path: Path) -> None:
    tables = good_tables()
    set_video(7, sha256="hash0")(tables)
    result = check("clip", tables, tmp_path, content_in_one_group="warn")
    assert not result.failures and [found.rule.name for found in result.warnings] == ["content_in_one_group"]
    tables = good_tables()
    forget_video(tables)
    assert [found.rule.name for found in check("clip", tables, tmp_path, video_annotated="stop").failures] == [
        "video_annotated"
    ]


def test_an_unknown_rule_is_answered_with_the_known_ones_nearest_first(tmp_path: Path) -> None:
    with pytest.raises(
        ParamsError, match=r"validation\.severity\.class_in_two_group: unknown rule; .*: class_in_two_groups, "
    ):
        check("clip", good_tables(), tmp_path, class_in_two_group="warn")


def test_what_ingest_refuses_cannot_be_made_a_warning(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match=r"validation\.severity\.event_inside_video: cannot be warn, since ingest"):
        check("clip", good_tables(), tmp_path, event_inside_video="warn")
    check("clip", good_tables(), tmp_path, event_inside_video="stop")


def test_the_verdict_is_the_same_bytes_whatever_the_order_of_rows(tmp_path: Path) -> None:
    tables = good_tables()
    set_video(1, sha256="hash0")(tables)
    first, second = tmp_path / "a.json", tmp_path / "b.json"
    open_gate(check("clip", tables, tmp_path), first)
    backwards = {name: table[::-1].reset_index(drop=True) for name, table in tables.items()}
    open_gate(check("clip", backwards, tmp_path), second)
    assert first.read_bytes() == second.read_bytes()
    assert b"the same bytes as v1.mp4" in first.read_bytes()


def test_a_closed_gate_removes_the_verdict_of_before(tmp_path: Path) -> None:
    verdict = tmp_path / "gates" / "raw.json"
    open_gate(check("clip", good_tables(), tmp_path), verdict)
    assert verdict.is_file()
    tables = good_tables()
    keep_one_class(tables)
    result = check("clip", tables, tmp_path)
    with pytest.raises(
        GateError, match="gate raw: several_classes is broken by the data set \\(classes: 1\\): there must be"
    ):
        open_gate(result, verdict)
    assert list(verdict.parent.iterdir()) == []
