"""Each rule of the gate `dataset` against stores and tables that break it, and nothing else."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from kineflow.data.splits import folds_table, label_counts
from kineflow.tables import CLIPS, FOLDS, NEAR_COPIES
from kineflow.validation.catalogue import MIN_CLIPS_PER_CLASS, MIN_FRAMES, catalogue
from kineflow.validation.dataset_rules import dataset_rules
from kineflow.validation.gate import GateResult, run_gate
from kineflow.validation.split_facts import (
    class_counts,
    class_size_facts,
    clip_facts,
    crossing_facts,
    fold_size_facts,
    support_facts,
)
from tests.unit.validation.documented import documented_failure

Tables = dict[str, pd.DataFrame]
VIDEO_IDS = [f"v{i}.mp4" for i in range(10)]
NUM_FRAMES = 20
FOLD_OF_GROUP = {"g0": 0, "g1": 1, "g2": 2, "g3": 0}


def good_tables() -> Tables:
    """Ten trimmed clips of two classes in five groups; g4 (v8, v9) is test, the others are in three folds."""
    groups = [f"g{i // 2}" for i in range(10)]
    clips = pd.DataFrame(
        {
            "clip_id": [f"{name}#0-20" for name in VIDEO_IDS],
            "video_id": VIDEO_IDS,
            "start_frame": 0,
            "stop_frame": NUM_FRAMES,
            "label": ["rest" if i % 2 else "groom" for i in range(10)],
            "group": groups,
            "origin": "trimmed",
        }
    )
    folds = folds_table(clips, test_clips={"v8.mp4#0-20", "v9.mp4#0-20"}, fold_of_group=FOLD_OF_GROUP)
    stores = pd.DataFrame(
        {
            "item": VIDEO_IDS,
            "frames": "stored",
            "frames_difference": 0.0,
            "frames_words": "20 frames, 20 expected",
            "brightest": 200.0,
            "largest_change": 90.0,
            "flow": "stored",
            "flows_difference": 0.0,
            "flows_words": "19 flows, 19 expected",
            "flow_mismatch": pd.Series([None] * 10, dtype="object"),
            "fraction_at_bound": 0.0,
            "pose": "stored",
            "pictures_difference": 0.0,
            "pictures_words": "20 pictures, 20 expected",
            "fraction_with_joints": 1.0,
        }
    )
    videos = pd.DataFrame({"video_id": VIDEO_IDS, "sha256": [f"hash{i}" for i in range(10)]})
    near_copies = pd.DataFrame([("v0.mp4", "v6.mp4", 0.5, 0.95)], columns=[name for name, _ in NEAR_COPIES.columns])
    return {"clips": clips, "folds": folds, "stores": stores, "videos": videos, "near_copies": near_copies}


def check(tables: Tables, *, official: bool = False, docs_dir: Path | None = None) -> GateResult:
    clips, folds = tables["clips"], tables["folds"]
    rules = dataset_rules(
        task="clip",
        min_frames=MIN_FRAMES,
        min_clips_per_class=MIN_CLIPS_PER_CLASS,
        official=official,
        with_flow=True,
        with_pose=True,
    )
    counts = class_counts("clip", clips, pd.DataFrame(), {})
    facts = {
        "stores": tables["stores"],
        "clips": clip_facts("clip", clips, folds, dict.fromkeys(VIDEO_IDS, NUM_FRAMES)),
        **crossing_facts(clips, folds, tables["videos"], tables["near_copies"]),
        "class_sizes": class_size_facts(counts),
        "support": support_facts(counts, folds),
        "fold_sizes": fold_size_facts(folds),
    }
    return run_gate("dataset", rules, facts, docs_dir=docs_dir)


def set_value(table: str, row: int, column: str, value: object) -> Callable[[Tables], None]:
    def change(tables: Tables) -> None:
        tables[table].loc[row, column] = value

    return change


def set_count(kind: str, stored: int, expected: int) -> Callable[[Tables], None]:
    def change(tables: Tables) -> None:
        words = f"{stored} {kind}, {expected} expected"
        tables["stores"].loc[3, [f"{kind}_difference", f"{kind}_words"]] = [float(stored - expected), words]

    return change


def set_role(clip_id: str, fold: int, role: str) -> Callable[[Tables], None]:
    def change(tables: Tables) -> None:
        folds = tables["folds"]
        folds.loc[(folds["clip_id"] == clip_id) & (folds["fold"] == fold), "role"] = role

    return change


def add_role(clip_id: str, fold: int, role: str) -> Callable[[Tables], None]:
    def change(tables: Tables) -> None:
        tables["folds"].loc[len(tables["folds"])] = [clip_id, role, fold]

    return change


def forget_roles(clip_id: str) -> Callable[[Tables], None]:
    def change(tables: Tables) -> None:
        tables["folds"] = tables["folds"][tables["folds"]["clip_id"] != clip_id]

    return change


def second_half_validates(tables: Tables) -> None:
    """v0 is cut in two clips, and one of them changes fold."""
    clips = tables["clips"]
    clips.loc[0, ["clip_id", "stop_frame"]] = ["v0.mp4#0-10", 10]
    clips.loc[10] = ["v0.mp4#10-20", "v0.mp4", 10, 20, "groom", "g1", "trimmed"]
    tables["folds"] = folds_table(clips, test_clips={"v8.mp4#0-20", "v9.mp4#0-20"}, fold_of_group=FOLD_OF_GROUP)


def relabel(*clip_rows: int) -> Callable[[Tables], None]:
    def change(tables: Tables) -> None:
        tables["clips"].loc[list(clip_rows), "label"] = "rear"

    return change


def group_of_two_roles(tables: Tables) -> None:
    """v9 of g4 is in development, v8 of g4 in test."""
    forget_roles("v9.mp4#0-20")(tables)
    tables["folds"] = tables["folds"].reset_index(drop=True)
    for fold, role in ((0, "train"), (1, "val"), (2, "train")):
        add_role("v9.mp4#0-20", fold, role)(tables)


def small_fold(tables: Tables) -> None:
    """v5 goes to fold 0, and v4 alone is left in fold 2."""
    tables["clips"].loc[5, "group"] = "g0"
    tables["folds"] = folds_table(
        tables["clips"], test_clips={"v8.mp4#0-20", "v9.mp4#0-20"}, fold_of_group=FOLD_OF_GROUP
    )


NO_SUPPORT = {"class_in_training", "class_in_validation", "class_in_test"}

# rule, change, how the violation is told, and the rules that it breaks too
BROKEN: list[tuple[str, Callable[[Tables], None], str, set[str]]] = [
    ("frames_stored", set_value("stores", 3, "frames", "missing"), "v3.mp4 (missing)", set()),
    ("frame_count_expected", set_count("frames", 18, 20), "v3.mp4 (18 frames, 20", set()),
    ("frames_not_black", set_value("stores", 3, "brightest", 15.0), "v3.mp4 (brightest: 15)", set()),
    ("frames_not_stuck", set_value("stores", 3, "largest_change", 3.0), "v3.mp4 (largest change: 3)", set()),
    ("flow_stored", set_value("stores", 3, "flow", "unreadable: cut off"), "v3.mp4 (unreadable: cut off)", set()),
    ("flow_count_expected", set_count("flows", 20, 19), "v3.mp4 (20 flows, 19 expected)", set()),
    (
        "flow_of_these_frames",
        set_value("stores", 3, "flow_mismatch", "flow of 96x96 at 10 fps, frames of 96x96 at 20 fps"),
        "v3.mp4 (flow of 96x96 at 10 fps, frames of 96x96 at 20 fps)",
        set(),
    ),
    ("flow_inside_bound", set_value("stores", 3, "fraction_at_bound", 0.06), "v3.mp4 (fraction at bound: 0.06)", set()),
    ("pose_stored", set_value("stores", 3, "pose", "missing"), "v3.mp4 (missing)", set()),
    ("pose_count_expected", set_count("pictures", 18, 20), "v3.mp4 (18 pictures, 20 expected)", set()),
    ("pose_shows_joints", set_value("stores", 3, "fraction_with_joints", 0.2), "(fraction with joints: 0.2)", set()),
    ("clip_inside_video", set_value("clips", 3, "stop_frame", 21), "(frames 0 to 21 of a video of 20 frames)", set()),
    ("clip_inside_video", set_value("clips", 3, "start_frame", -1), "v3.mp4#0-20 (frames -1 to 20", set()),
    ("clip_long_enough", set_value("clips", 3, "start_frame", 13), "v3.mp4#0-20 (frames: 7)", set()),
    ("clip_labelled", set_value("clips", 3, "label", None), "v3.mp4#0-20 (label: missing)", {"class_in_validation"}),
    (
        "clip_in_every_fold",
        forget_roles("v3.mp4#0-20"),
        "v3.mp4#0-20 (in no fold of 3)",
        {"class_in_validation", "folds_balanced"},
    ),
    (
        "clip_in_every_fold",
        set_role("v3.mp4#0-20", 1, "train"),
        "v3.mp4#0-20 (validated in 0 folds)",
        {"group_in_one_role", "class_in_validation", "folds_balanced"},
    ),
    (
        "clip_in_every_fold",
        add_role("v8.mp4#0-20", 0, "train"),
        "v8.mp4#0-20 (in the folds -1, 0 of 3)",
        {"test_group_held_out", "test_content_held_out"},
    ),
    ("clip_in_every_fold", add_role("gone#0-20", 0, "train"), "gone#0-20 (not in the clips table)", set()),
    ("group_in_one_role", set_value("clips", 3, "group", "g0"), "group g0 (in train and val of fold 0)", set()),
    (
        "video_in_one_role",
        second_half_validates,
        "v0.mp4 (in train and val of fold 0)",
        {"content_in_one_role", "near_copies_in_one_role"},
    ),
    (
        "content_in_one_role",
        set_value("videos", 3, "sha256", "hash0"),
        "v0.mp4 = v3.mp4 (in train and val of fold 0)",
        set(),
    ),
    ("test_group_held_out", group_of_two_roles, "group g4 (in test and in development)", {"class_in_test"}),
    (
        "test_content_held_out",
        set_value("videos", 9, "sha256", "hash0"),
        "v0.mp4 = v9.mp4 (in test and in development)",
        set(),
    ),
    (
        "near_copies_in_one_role",
        set_value("near_copies", 0, "other_id", "v2.mp4"),
        "v0.mp4 ~ v2.mp4 (in train and val of fold 0)",
        set(),
    ),
    (
        "near_copies_held_out",
        set_value("near_copies", 0, "other_id", "v8.mp4"),
        "v0.mp4 ~ v8.mp4 (in test and in development)",
        set(),
    ),
    ("folds_balanced", small_fold, "fold 2 (clips: 1, and 2.67 on average)", {"class_in_validation"}),
    ("class_has_enough_clips", relabel(8), "class rear (clips: 1)", NO_SUPPORT),
    (
        "class_in_training",
        relabel(0, 6),
        "class rear in train of fold 0 (shown 0 times)",
        {"class_in_validation", "class_in_test"},
    ),
    ("class_in_validation", relabel(0, 2), "class rear in val of fold 2 (shown 0 times)", {"class_in_test"}),
    ("class_in_test", relabel(0, 2, 5), "class rear in test (shown 0 times)", {"class_in_validation"}),
]


FIRST_CASES = {name: change for name, change, *_ in reversed(BROKEN)}


@pytest.mark.parametrize(("name", "change", "example", "also"), BROKEN, ids=[row[0] for row in BROKEN])
def test_a_broken_rule_names_what_breaks_it(
    name: str, change: Callable[[Tables], None], example: str, also: set[str]
) -> None:
    tables = good_tables()
    change(tables)
    result = check(tables)
    broken = {found.rule.name: found for found in (*result.failures, *result.warnings)}
    assert set(broken) == {name} | also
    assert any(example in line for line in (broken[name].sentence, *broken[name].examples))
    if change is FIRST_CASES[name]:
        assert broken[name].sentence == documented_failure("dataset", name)


def test_good_tables_pass() -> None:
    result = check(good_tables())
    assert result.warnings == result.failures == ()
    assert all(found.num_checked for found in result.results)


def test_every_rule_is_broken_by_a_test() -> None:
    assert {row[0] for row in BROKEN} == {rule.name for rule in catalogue()["dataset"]}


def test_groups_that_official_lists_split_are_only_reported() -> None:
    tables = good_tables()
    group_of_two_roles(tables)
    result = check(tables, official=True)
    assert result.failures == ()
    assert [found.rule.name for found in result.warnings if found.rule.name == "test_group_held_out"]


def test_null_means_that_a_rule_does_not_apply() -> None:
    """A video of one frame has no change to judge."""
    tables = good_tables()
    tables["stores"].loc[0, "largest_change"] = np.nan
    result = check(tables)
    assert result.warnings == ()
    checked = {found.rule.name: found.num_checked for found in result.results}
    assert (checked["frames_not_stuck"], checked["frames_not_black"], checked["group_in_one_role"]) == (9, 10, 5)


def test_support_is_counted_in_labelled_extracted_frames_on_task_frame() -> None:
    clips = pd.DataFrame(
        {
            "clip_id": ["a#0-2", "a#2-4", "b#0-2"],
            "video_id": ["a", "a", "b"],
            "start_frame": [0, 2, 0],
            "stop_frame": [2, 4, 2],
            "group": ["ga", "ga", "gb"],
        }
    )
    frame_labels = pd.DataFrame(
        {"video_id": ["a"] * 4 + ["b"] * 2, "frame": [0, 1, 2, 3, 0, 1], "rear": [1, 0, None, 1, 0, 1]}
    ).astype({"rear": "Int8"})
    # Every second source frame of a is extracted, then the last one twice.
    source_frames = {"a": np.array([0, 2, 3, 3]), "b": np.array([0, 1])}
    counts = class_counts("frame", clips, frame_labels, source_frames)
    assert counts["rear"].to_dict() == {"a#0-2": 1, "a#2-4": 2, "b#0-2": 1}
    folds = folds_table(clips, test_clips=set(), fold_of_group={"ga": 0, "gb": 1})
    support = support_facts(counts, folds)
    assert dict(zip(support["item"], support["count"], strict=True)) == {
        "class rear in train of fold 0": 1,
        "class rear in val of fold 0": 3,
        "class rear in train of fold 1": 3,
        "class rear in val of fold 1": 1,
    }
    assert list(support["val"].dropna()) == [3, 1]


def test_the_tables_are_those_of_the_stages() -> None:
    tables = good_tables()
    assert list(tables["clips"].columns) == [name for name, _ in CLIPS.columns]
    assert list(tables["folds"].columns) == [name for name, _ in FOLDS.columns]
    assert set(label_counts(tables["clips"]).columns) == {"groom", "rest"}


def test_data_docs_show_each_table_and_why_a_rule_is_broken(tmp_path: Path) -> None:
    tables = good_tables()
    set_value("stores", 3, "frames", "missing")(tables)
    result = check(tables, docs_dir=tmp_path)
    assert result.docs_index == tmp_path / "dataset" / "index.html" and result.docs_index.is_file()
    pages = [page.read_text() for page in (tmp_path / "dataset" / "validations").rglob("*.html")]
    assert len(pages) == len({found.rule.table for found in result.results})
    sentence = "frames_stored (stop): the frames of every video, and of no other, must be stored and readable"
    assert sum(sentence in page for page in pages) == 1
    index = result.docs_index.read_text()
    assert "Gate dataset: closed" in index and index.index("frames_stored") < index.index("frame_count_expected")
    assert "<li>v3.mp4 (missing)</li>" in index
    for target in re.findall(r'href="([^"]+)"', index):
        assert (tmp_path / "dataset" / target).is_file()
    first = sorted((tmp_path / "dataset").rglob("*.html"))
    for page in (*first, *(tmp_path / "dataset").rglob("*.css")):  # nothing is loaded from elsewhere
        assert not re.search(r"<(script|img|link)[^>]*https?://|url\(.?https?://", page.read_text())
    check(good_tables(), docs_dir=tmp_path)  # the site is made anew
    assert len(sorted((tmp_path / "dataset").rglob("*.html"))) == len(first)
