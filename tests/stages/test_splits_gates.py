"""make_splits, validate_raw and validate_dataset as commands, on small tables and real stores."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import simplejpeg
import yaml

from kineflow.stages import paths
from kineflow.stages.stage import main
from kineflow.tables import CLIPS, EVENTS, FOLDS, FRAME_LABELS, NEAR_COPIES, VIDEOS, read_table, write_table
from kineflow.video.flow_store import FlowRule, writing_flow
from kineflow.video.frame_store import writing_frames

HEIGHT, WIDTH, FPS, NUM_FRAMES = 32, 48, 10.0, 20
ASSIGNMENTS_HEADER = "dataset,group,role\n"


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, repository: Path) -> "Bench":
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("KINEFLOW_HOME", raising=False)
    monkeypatch.setattr("kineflow.stages.stage.die_with_parent", lambda: None)  # this process is pytest's
    return Bench(yaml.safe_load((repository / "params" / "tiny.yaml").read_text()))


class Bench:
    """The current folder as a workspace: params, and tables and stores as `ingest` and the extraction leave them."""

    def __init__(self, params: dict[str, Any]) -> None:
        self.params = params
        self.add_groups(range(6))
        paths.ASSIGNMENTS.parent.mkdir(exist_ok=True)
        paths.ASSIGNMENTS.write_text(ASSIGNMENTS_HEADER)
        paths.FOLD_FILE.write_text("group,fold,role\n")

    def add_groups(self, numbers: range) -> None:
        """Groups g0, g1, ... of two videos of 2 s, one of each class."""
        self.groups = [f"g{i}" for i in numbers]
        ids = [f"{group}/{label}.mp4" for group in self.groups for label in ("groom", "rest")]
        self.videos = pd.DataFrame(
            {
                "video_id": ids,
                "uri": ids,
                "sha256": [f"hash of {video_id}" for video_id in ids],
                "num_bytes": 1000,
                "container": "mp4",
                "codec": "h264",
                "width": WIDTH,
                "height": HEIGHT,
                "rotation_deg": 0,
                "fps_num": 10,
                "fps_den": 1,
                "variable_rate": False,
                "num_frames": NUM_FRAMES,
                "num_corrupt_frames": 0,
                "duration_sec": NUM_FRAMES / FPS,
                "group": [video_id.split("/")[0] for video_id in ids],
                "official_role": None,
                "status": "ok",
                "reason": None,
            }
        )
        self.events = pd.DataFrame(
            {"video_id": ids, "label": [Path(video_id).stem for video_id in ids], "source": "clips.csv:2"}
        ).assign(start_sec=np.nan, stop_sec=np.nan, subject=None)
        rows = [
            (video_id, frame, int(("groom" in video_id) == (frame < 12))) for video_id in ids for frame in range(20)
        ]
        self.frame_labels = pd.DataFrame(rows, columns=["video_id", "frame", "rear"]).astype({"rear": "Int8"})

    def write_tables(self) -> None:
        Path("params.yaml").write_text(yaml.safe_dump(self.params))
        write_table(paths.VIDEOS, VIDEOS, self.videos)
        write_table(paths.EVENTS, EVENTS, self.events)
        write_table(paths.FRAME_LABELS, FRAME_LABELS, self.frame_labels)
        write_table(paths.NEAR_COPIES, NEAR_COPIES, pd.DataFrame({name: [] for name, _ in NEAR_COPIES.columns}))

    def write_stores(self) -> None:
        rule = FlowRule(method="dis_fast", bound_px=8.0)
        random = np.random.default_rng(0)
        for video_id in self.videos["video_id"]:
            frames, flow = (folder / f"{video_id}.zip" for folder in (paths.FRAMES, paths.FLOW))
            frames.parent.mkdir(parents=True, exist_ok=True)
            flow.parent.mkdir(parents=True, exist_ok=True)
            with writing_frames(frames, fps=FPS, height=HEIGHT, width=WIDTH, quality=90) as writer:
                for i in range(NUM_FRAMES):
                    image = random.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
                    writer.append(simplejpeg.encode_jpeg(image, quality=90), source_frame=i, timestamp_sec=i / FPS)
            with writing_flow(flow, rule=rule, fps=FPS, height=HEIGHT, width=WIDTH, jpeg_quality=None) as flow_writer:
                for _ in range(NUM_FRAMES - 1):
                    flow_writer.append(np.zeros((HEIGHT, WIDTH, 2), np.float32))
        for folder in (paths.FRAMES, paths.FLOW):
            rows = "".join(f"{video_id}\tkey\t20\n" for video_id in self.videos["video_id"])
            (folder / "index.tsv").write_text("video_id\tkey\tnum_frames\n" + rows)

    def use_task_frame(self) -> None:
        self.params["task"] = "frame"
        self.params["promotion"]["metric"] = "frame_macro_f1"
        self.params["clips"] |= {"window_sec": 0.8, "min_frames": 4}
        self.params["distill"]["enabled"] = False


def error_of(stage: str) -> str:
    report = json.loads((paths.STAGE_REPORTS / f"{stage}.json").read_text())
    assert report["exit_code"] != 0
    return str(report["error"])


@pytest.mark.parametrize("task", ["clip", "frame"])
def test_good_data_pass_both_gates_and_twice_gives_the_same_bytes(bench: Bench, task: str) -> None:
    if task == "frame":
        bench.use_task_frame()
    bench.write_tables()
    bench.write_stores()
    outs = (paths.GATE_RAW, paths.CLIPS, paths.FOLDS, paths.ASSIGNMENTS, paths.GATE_DATASET)
    written = []
    for _ in range(2):
        for stage in ("validate_raw", "make_splits", "validate_dataset"):
            assert main(stage) == 0, error_of(stage)
        written.append([path.read_bytes() for path in outs])
        bench.videos = bench.videos[::-1].reset_index(drop=True)  # the order of rows must not matter
        bench.events = bench.events[::-1].reset_index(drop=True)
        bench.write_tables()
    assert written[0] == written[1]
    clips, folds = read_table(paths.CLIPS, CLIPS), read_table(paths.FOLDS, FOLDS)
    assert len(clips) == (12 if task == "clip" else 12 * 3)  # 20 frames are windows of 8, 8 and 4
    roles = dict(line.split(",")[1:] for line in paths.ASSIGNMENTS.read_text().splitlines()[1:])
    test = {group for group, role in roles.items() if role == "test"}
    assert len(roles) == 6 and len(test) == 2  # a quarter of six, rounded up
    of_test = set(clips.loc[clips["group"].isin(test), "clip_id"])
    assert set(folds.loc[folds["fold"] == -1, "clip_id"]) == of_test
    validated = folds[folds["role"] == "val"]
    assert sorted(validated["clip_id"]) == sorted(set(clips["clip_id"]) - of_test)
    assert validated.groupby("fold").size().tolist() == [len(validated) // 2] * 2
    for gate in ("raw", "dataset"):
        assert Path(f".kineflow/data_docs/{gate}/index.html").is_file()


def test_the_balance_of_the_folds_is_told(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    bench.write_tables()
    assert main("make_splits") == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["fold", "0", "fold", "1", "test"] in lines
    assert (
        ["groom", "2", "2", "2"] in lines and ["clips", "4", "4", "4"] in lines and ["groups", "2", "2", "2"] in lines
    )


def test_test_groups_stay_while_groups_are_added(bench: Bench) -> None:
    bench.write_tables()
    assert main("make_splits") == 0
    before = paths.ASSIGNMENTS.read_text()
    bench.add_groups(range(1, 12))  # g0 is gone
    bench.params["seed"] = 7
    bench.write_tables()
    assert main("make_splits") == 0
    after = paths.ASSIGNMENTS.read_text()
    assert after.startswith(before)
    assert len(after.splitlines()) == 1 + 12
    folds, clips = read_table(paths.FOLDS, FOLDS), read_table(paths.CLIPS, CLIPS)
    groups_of_test = set(folds.loc[folds["role"] == "test"].merge(clips, on="clip_id")["group"])
    held_out = {line.split(",")[1] for line in after.splitlines() if line.endswith(",test")}
    assert groups_of_test == held_out - {"g0"}


@pytest.mark.parametrize("change", [{"test": "none"}, {"kind": "file", "test": "file"}])
def test_a_group_that_was_held_out_is_never_trained_on(bench: Bench, change: dict[str, str]) -> None:
    bench.write_tables()
    assert main("make_splits") == 0
    assert ",g0,test" in paths.ASSIGNMENTS.read_text()
    bench.params["splits"] |= change
    rows = "".join(f"g{group},{group % 2}\n" for group in range(6))
    paths.FOLD_FILE.write_text("group,fold\n" + rows)
    bench.write_tables()
    assert main("make_splits") == 3
    assert "group 'g0' would be trained on, but is test in" in error_of("make_splits")


def test_without_a_test_set_nothing_is_assigned(bench: Bench) -> None:
    bench.params["splits"] |= {"test": "none", "num_folds": 6}
    bench.write_tables()
    assert main("make_splits") == 0
    assert paths.ASSIGNMENTS.read_text() == ASSIGNMENTS_HEADER
    folds = read_table(paths.FOLDS, FOLDS)
    assert set(folds["role"]) == {"train", "val"} and set(folds["fold"]) == set(range(6))


def test_official_lists_are_honoured_and_their_crossings_reported(bench: Bench) -> None:
    bench.params["splits"] |= {"kind": "official", "test": "official"}
    bench.videos["official_role"] = "train"
    bench.videos.loc[:2, "official_role"] = "test"  # g0, and groom of g1
    bench.write_tables()
    bench.write_stores()
    assert main("make_splits") == 0
    folds = read_table(paths.FOLDS, FOLDS)
    assert sorted(folds.loc[folds["role"] == "test", "clip_id"]) == [
        "g0/groom.mp4#0-20",
        "g0/rest.mp4#0-20",
        "g1/groom.mp4#0-20",
    ]
    assert main("validate_dataset") == 0, error_of("validate_dataset")
    notes = json.loads((paths.STAGE_REPORTS / "validate_dataset.json").read_text())["notes"]
    (line,) = [note for note in notes if "test_group_held_out" in note]
    assert line.split()[1:3] == ["warn", "warned"] and line.endswith("group g1 (in test and in development)")


@pytest.mark.parametrize(
    ("key", "section", "change"),
    [
        ("validation.exclusive", "validation", {"exclusive": [["groom", "restt"]]}),
        ("clips.classes", "clips", {"classes": ["groom", "restt"]}),
        (
            "clips.negatives.within",
            "clips",
            {
                "from": "events",
                "window_sec": 0.5,
                "negatives": {
                    "label": "none",
                    "ratio": 1.0,
                    "within": ["restt"],
                    "min_distance_sec": 0.0,
                    "redraw": False,
                },
            },
        ),
    ],
)
def test_a_mistyped_label_is_refused(bench: Bench, key: str, section: str, change: dict[str, object]) -> None:
    bench.params[section] |= change
    bench.write_tables()
    assert main("validate_raw") == 2
    assert f"{key}: nothing has the label 'restt'; there are groom, rear, rest" in error_of("validate_raw")


def one_group_class(bench: Bench) -> None:
    bench.events.loc[bench.events["video_id"].str.startswith("g0/"), "label"] = "rear"


def too_many_folds(bench: Bench) -> None:
    bench.params["splits"]["num_folds"] = 5


def two_labels(bench: Bench) -> None:
    bench.events.loc[len(bench.events)] = ["g0/groom.mp4", "rest", "clips.csv:99", np.nan, np.nan, None]


def no_labels(bench: Bench) -> None:
    bench.events = bench.events[:0]


def unknown_rule(bench: Bench) -> None:
    bench.params["validation"]["severity"] = {"class_in_two_group": "warn"}


@pytest.mark.parametrize(
    ("stage", "change", "exit_code", "message"),
    [
        (
            "validate_raw",
            one_group_class,
            3,
            "gate raw: class_in_two_groups is broken by class rear (groups: 1): every class must be in at least two "
            "groups, one to train on and one to validate; record it in another group, drop the class, or make "
            "data.group_from finer",
        ),
        ("validate_raw", unknown_rule, 2, "validation.severity.class_in_two_group: unknown rule; known, nearest first"),
        ("make_splits", too_many_folds, 3, "splits.num_folds is 5, but there are only 4 groups"),
        ("make_splits", two_labels, 3, "g0/groom.mp4: has the labels groom, rest"),
        ("make_splits", no_labels, 3, "data/tables: no video has labels to make a clip of"),
    ],
    ids=["one-group-class", "unknown-rule", "too-many-folds", "two-labels", "no-labels"],
)
def test_bad_data_end_in_one_sentence_and_leave_nothing(
    bench: Bench, stage: str, change: Callable[[Bench], None], exit_code: int, message: str
) -> None:
    change(bench)
    bench.write_tables()
    assert main(stage) == exit_code
    assert error_of(stage).startswith(message)
    assert paths.ASSIGNMENTS.read_text() == ASSIGNMENTS_HEADER
    assert not paths.GATES.exists() and not paths.SPLITS.exists()


def test_a_leak_and_a_lost_frame_close_the_gate(bench: Bench) -> None:
    bench.write_tables()
    bench.write_stores()
    assert main("make_splits") == 0
    assert main("validate_dataset") == 0
    folds = read_table(paths.FOLDS, FOLDS)
    leaking = folds[folds["role"] == "val"].iloc[0]
    row = (folds["clip_id"] == leaking["clip_id"]) & (folds["fold"] == leaking["fold"])
    write_table(paths.FOLDS, FOLDS, folds.assign(role=folds["role"].mask(row, "train")))
    assert main("validate_dataset") == 3
    assert "clip_in_every_fold is broken by" in error_of("validate_dataset")
    assert "broken too: group_in_one_role" in error_of("validate_dataset")
    assert not paths.GATE_DATASET.exists()
    write_table(paths.FOLDS, FOLDS, folds)
    assert main("validate_dataset") == 0
    (paths.FRAMES / "g3/rest.mp4.zip").unlink()
    assert main("validate_dataset") == 3
    assert "frames_stored is broken by g3/rest.mp4 (unreadable: " in error_of("validate_dataset")


def test_a_mistyped_model_is_refused_before_anything_is_trained(bench: Bench) -> None:
    bench.params["streams"]["rgb"]["model"] = "r3d_mini.lstmm"
    bench.write_tables()
    bench.write_stores()
    assert main("validate_raw") == 0
    assert main("make_splits") == 0
    assert main("validate_dataset") == 2
    assert "there is no pooling 'lstmm'" in error_of("validate_dataset")


def test_flow_is_judged_only_where_it_is_enabled(bench: Bench) -> None:
    bench.write_tables()
    bench.write_stores()
    assert main("make_splits") == 0
    for file in [*paths.FLOW.rglob("*.zip"), paths.FLOW / "index.tsv"]:
        file.unlink()
    paths.write_disabled(paths.FLOW, "flow is off")
    assert main("validate_dataset") == 3
    assert error_of("validate_dataset").startswith("data/flow is disabled, but a stream or the baseline hof needs it")
    bench.params["streams"]["flow"]["enabled"] = False
    bench.params["evaluate"]["baselines"] = ["majority"]
    bench.params["distill"]["enabled"] = False
    bench.params["release"]["stream"] = "rgb"
    bench.write_tables()
    assert main("validate_dataset") == 0, error_of("validate_dataset")
    names = [rule["name"] for rule in json.loads(paths.GATE_DATASET.read_text())["rules"]]
    assert "frames_stored" in names and "flow_stored" not in names


def test_a_closed_gate_ends_its_command_with_exit_code_3_and_one_line(bench: Bench) -> None:
    one_group_class(bench)
    bench.write_tables()
    command = "import sys; from kineflow.stages.stage import main; sys.exit(main('validate_raw'))"
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 3
    assert done.stderr.splitlines()[-1].startswith("validate_raw: error: gate raw: class_in_two_groups is broken by")
    assert "Traceback" not in done.stderr
    assert "Data Docs: .kineflow/data_docs/raw/index.html" in done.stdout
