"""The stage `evaluate` on small workspaces whose scores are worked out by hand."""

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import simplejpeg
import yaml

from kineflow import tables
from kineflow.errors import DataError, GateError
from kineflow.params import only, parse_params
from kineflow.stages import evaluate, paths
from kineflow.stages.stage import StageReport
from kineflow.video.flow_store import FlowRule, writing_flow
from kineflow.video.frame_store import writing_frames

FPS = 10.0
NUM_FRAMES = 13
HEIGHT, WIDTH = 24, 36
CLASSES = ("left", "right", "still")
GROUPS = ("g0", "g1", "g2")  # g0 and g1 are folds 0 and 1; g2 is test
FLOW_BY_CLASS = {"left": (-1.5, 0.0), "right": (1.5, 0.0), "still": (0.0, 0.0)}


@dataclass(frozen=True)
class Setup:
    """A workspace to be made."""

    task: str = "clip"
    labels: str = "exclusive"
    test: bool = True
    student: bool = False
    flow: bool = True
    release: str = "fusion"
    fusion: str = "equal"


def params_of(setup, repository):
    values = yaml.safe_load((repository / "params" / "sample.yaml").read_text())
    values["task"] = setup.task
    values["promotion"]["metric"] = "video_macro_f1" if setup.task == "clip" else "frame_macro_f1"
    values["clips"]["frame_labels"] = setup.labels
    values["clips"]["overlap"] = "keep" if (setup.task, setup.labels) == ("clip", "independent") else "separate"
    values["clips"]["window_sec"] = None if setup.task == "clip" else 0.5
    values["frames"]["fps"] = FPS
    values["streams"]["flow"]["enabled"] = setup.flow
    values["distill"]["enabled"] = setup.student
    values["release"]["stream"] = setup.release
    values["evaluate"]["fusion"] = setup.fusion
    values["data"]["name"] = "three <motions>"
    return only(parse_params(values, where="test"), evaluate.PARAMS)


def run(setup, repository):
    report = StageReport("evaluate")
    evaluate.run(params_of(setup, repository), report)
    return json.loads(paths.METRICS.read_text()), report


def write_videos(video_ids, motion_of):
    rng = np.random.default_rng(0)
    rule = FlowRule(method="dis_medium", bound_px=4.0)
    for video_id in video_ids:
        for folder in (paths.FRAMES, paths.FLOW):
            (folder / video_id).parent.mkdir(parents=True, exist_ok=True)
        path = paths.FRAMES / f"{video_id}.zip"
        with writing_frames(path, fps=FPS, height=HEIGHT, width=WIDTH, quality=90) as writer:
            for i in range(NUM_FRAMES):
                image = rng.integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
                writer.append(simplejpeg.encode_jpeg(image), source_frame=2 * i, timestamp_sec=i / FPS)
        with writing_flow(
            paths.FLOW / f"{video_id}.zip", rule=rule, fps=FPS, height=HEIGHT, width=WIDTH, jpeg_quality=None
        ) as w:
            for i in range(NUM_FRAMES - 1):
                w.append(np.full((HEIGHT, WIDTH, 2), motion_of(video_id, i), dtype=np.float32))


def videos_table(groups):
    fixed = {"uri": "u", "sha256": "0" * 64, "num_bytes": 1, "container": "mp4", "codec": "h264", "rotation_deg": 0}
    fixed |= {"fps_num": 20, "fps_den": 1, "variable_rate": False, "num_frames": 26, "duration_sec": 1.3}
    fixed |= {"num_corrupt_frames": 0}
    rows = [
        fixed | {"video_id": v, "group": g, "width": 320, "height": 240, "status": "ok", "reason": None}
        for v, g in groups.items()
    ]
    rows.append(rows[0] | {"video_id": "broken.mp4", "status": "quarantined", "reason": "no frame could be <decoded>"})
    return pd.DataFrame(rows).assign(official_role=None)


def write_splits(clips, *, test):
    fold_of = {"g0": 0, "g1": 1}
    rows = []
    for clip in clips.itertuples():
        if clip.group == "g2":
            rows += [(clip.clip_id, "test", -1)] if test else []
            continue
        rows += [(clip.clip_id, "val" if fold_of[clip.group] == fold else "train", fold) for fold in (0, 1)]
    tables.write_table(paths.CLIPS, tables.CLIPS, clips)
    tables.write_table(paths.FOLDS, tables.FOLDS, pd.DataFrame(rows, columns=["clip_id", "role", "fold"]))


def write_model(name, classes, oof, test):
    """`oof` and `test`: rows of (fold, clip_id, video_id, frame, logits...)."""
    out = paths.MODELS / name
    out.mkdir(parents=True, exist_ok=True)
    for file, rows in (("oof", oof), ("test", test)):
        table = pd.DataFrame(rows, columns=["fold", "clip_id", "video_id", "frame", *classes]).assign(model=name)
        table = table.astype({"frame": "Int64"} | dict.fromkeys(classes, "float32"))
        tables.write_table(out / f"{file}.parquet", tables.LOGITS, table)
    folds = [{"fold": fold, "best_epoch": 2, "seconds": 1.5, "val_loss": 0.4, "val_metric": 0.5} for fold in (0, 1)]
    summary = {"stream": name, "model": "r3d_mini.avg", "classes": list(classes), "num_params": 123456}
    begun = {"source": "registry:other/3", "sha256": "ab" * 32} if name == "flow" else None
    summary |= {"macs": 2.5e8, "precision": "fp32", "folds": folds, "weights": begun}
    (out / "summary.json").write_text(json.dumps(summary))
    curves = [(f, e, -9.0, 0.8 - 0.3 * e, 1.0 - 0.2 * e, 0.5) for f in (0, 1, -1) for e in (0, 1)]
    columns = ["fold", "epoch", "train_loss", "train_loss_labels", "val_loss", "val_metric"]
    frame = pd.DataFrame(curves, columns=columns)
    frame.loc[frame["fold"] < 0, "val_loss"] = math.nan
    frame.to_csv(out / "curves.csv", index=False)


def write_gates():
    paths.GATES.mkdir(parents=True)
    rule = {"name": "class-support", "severity": "warn", "checked": 3, "broken": 1, "examples": ["'still' has 4"]}
    for gate, path in (("raw", paths.GATE_RAW), ("dataset", paths.GATE_DATASET)):
        rules = [rule] if gate == "dataset" else []
        path.write_text(json.dumps({"gate": gate, "version": 1, "rules": rules}))


# Per group and class two clips; a stream is wrong on the clips named here and takes the class after the true one.
WRONG = {"rgb": {"g0_left_0", "g0_right_1", "g1_still_0", "g2_left_0"}, "flow": {"g0_left_0"}, "student": set()}
SURE = {"rgb": 2.0, "flow": 3.0, "student": 1.0}


def clip_workspace(setup):
    ids = [f"{group}_{label}_{i}" for group in GROUPS for label in CLASSES for i in (0, 1)]
    video_of = {clip_id: f"videos/{clip_id}.mp4" for clip_id in ids}
    clips = pd.DataFrame(
        {
            "clip_id": ids,
            "video_id": [video_of[clip_id] for clip_id in ids],
            "start_frame": 0,
            "stop_frame": NUM_FRAMES,
            "label": [clip_id.split("_")[1] for clip_id in ids],
            "group": [clip_id.split("_")[0] for clip_id in ids],
            "origin": "trimmed",
        }
    )
    groups = dict(zip(clips["video_id"], clips["group"], strict=True))
    tables.write_table(paths.VIDEOS, tables.VIDEOS, videos_table(groups))
    write_splits(clips, test=setup.test)
    write_videos(video_of.values(), lambda video_id, i: FLOW_BY_CLASS[video_id.split("_")[1]])
    write_gates()
    fold_of = {"g0": 0, "g1": 1, "g2": -1}
    for name in ("rgb", *(["flow"] if setup.flow else []), *(["student"] if setup.student else [])):
        rows = []
        for clip in clips.itertuples():
            k = (CLASSES.index(clip.label) + (clip.clip_id in WRONG[name])) % 3
            rows.append((fold_of[clip.group], clip.clip_id, clip.video_id, None, *(SURE[name] * np.eye(3)[k])))
        oof, test = ([row for row in rows if (row[0] < 0) == held] for held in (False, True))
        write_model(name, CLASSES, oof, test if setup.test else [])
    if not setup.flow:
        paths.write_disabled(paths.MODELS / "flow", "off")


BEHAVIOURS = ("groom", "rear")
# Per source frame of every video: groom in extracted frames 0 to 5, rear in 5 to 8, frame 12 unlabelled.
FRAME_TRUTH = np.array([[float(i <= 5), float(5 <= i <= 8)] for i in range(NUM_FRAMES)])


def frame_workspace(setup):
    groups = {f"{group}.mp4": group for group in GROUPS}
    windows = [(0, 8), (5, NUM_FRAMES)]  # they overlap in frames 5, 6 and 7
    clips = pd.DataFrame(
        [(f"{v}@{start}", v, start, stop, None, g, "window") for v, g in groups.items() for start, stop in windows],
        columns=["clip_id", "video_id", "start_frame", "stop_frame", "label", "group", "origin"],
    )
    tables.write_table(paths.VIDEOS, tables.VIDEOS, videos_table(groups))
    truth = FRAME_TRUTH if setup.labels == "independent" else FRAME_TRUTH * [[i != 5, True] for i in range(NUM_FRAMES)]
    labels = pd.DataFrame(
        [(v, 2 * i, *truth[i].astype(int)) for v in groups for i in range(NUM_FRAMES - 1)],
        columns=["video_id", "frame", *BEHAVIOURS],
    )
    tables.write_table(paths.FRAME_LABELS, tables.FRAME_LABELS, labels)
    write_splits(clips, test=setup.test)
    write_videos(groups, lambda video_id, i: (1.5, 0.0) if i <= 5 else (0.0, -1.0))
    write_gates()
    fold_of = {"g0.mp4": 0, "g1.mp4": 1, "g2.mp4": -1}
    for name in ("rgb", "flow"):
        rows = []
        for clip in clips.itertuples():
            for frame in range(clip.start_frame, clip.stop_frame):
                said = truth[frame].copy()
                if name == "rgb" and clip.video_id == "g0.mp4" and frame in (0, 1):
                    said[0] = 0.0  # rgb misses two of six grooming frames in fold 0
                if setup.labels == "exclusive":
                    said = np.array([said.sum() == 0, *said])
                rows.append((fold_of[clip.video_id], clip.clip_id, clip.video_id, frame, *(4 * said - 2)))
        oof, test = ([row for row in rows if (row[0] < 0) == held] for held in (False, True))
        classes = BEHAVIOURS if setup.labels == "independent" else ("background", *BEHAVIOURS)
        write_model(name, classes, oof, test if setup.test else [])


@pytest.fixture
def empty(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("KINEFLOW_HOME", raising=False)
    return tmp_path


def test_clip_task_by_hand(empty, repository):
    setup = Setup(student=True)
    clip_workspace(setup)
    metrics, report = run(setup, repository)
    assert list(metrics) == ["task", "labels", "classes", "cv", "test", "fusion", "baselines"]
    assert metrics["classes"] == list(CLASSES)
    assert list(metrics["cv"]) == list(metrics["test"]) == ["rgb", "flow", "fusion", "student"]
    rgb = metrics["cv"]["rgb"]["video_top1_acc"]
    assert rgb["folds"] == pytest.approx([4 / 6, 5 / 6], abs=1e-6)
    assert rgb["mean"] == pytest.approx(0.75, abs=1e-6) and rgb["std"] == pytest.approx(1 / 12, abs=1e-6)
    # rgb, fold 0: left -> right once, right -> still once: F1 of left 2/3, right 1/2, still 4/5
    assert metrics["cv"]["rgb"]["video_macro_f1"]["folds"][0] == pytest.approx((2 / 3 + 1 / 2 + 4 / 5) / 3, abs=1e-6)
    # flow is surer than rgb, so fusion errs only where both do
    assert metrics["cv"]["fusion"]["video_top1_acc"]["folds"] == pytest.approx([5 / 6, 1.0], abs=1e-6)
    right = math.exp(1) / (math.exp(1) + 2)
    assert metrics["cv"]["student"]["video_log_loss"]["mean"] == pytest.approx(-math.log(right), abs=1e-5)
    assert metrics["test"]["rgb"]["video_top1_acc"] == pytest.approx(5 / 6, abs=1e-6)
    assert metrics["test"]["fusion"]["video_top1_acc"] == 1.0
    assert report.items == 18


def test_equal_fusion_says_what_each_stream_is_to_it(empty, repository):
    clip_workspace(Setup())
    metrics, report = run(Setup(), repository)
    assert metrics["fusion"]["rule"] == "equal"
    of_rgb, of_flow = (metrics["fusion"]["streams"][name] for name in ("rgb", "flow"))
    assert of_rgb["weight"] == of_flow["weight"] == 0.5 and of_rgb["folds"] == [0.5, 0.5]
    assert of_rgb["without"] == metrics["cv"]["flow"] and of_flow["without"] == metrics["cv"]["rgb"]
    # flow errs on one clip of twelve, as the fusion does, rgb on three
    wanted = "rgb 0.50 (without it 0.917), flow 0.50 (without it 0.750); most is lost without flow"
    assert f"fusion (equal) by video_top1_acc: {wanted}" in report.notes
    html = paths.REPORT_HTML.read_text()
    assert "Most is lost without <b>flow</b>." in html and "<td>0.750</td><td>0.167</td>" in html
    assert '<span class="bar c-flow"' in html and "“test” is" in html
    assert "| Weights | rgb 0.50, flow 0.50 |" in paths.MODEL_CARD.read_text()


def test_fusion_by_validation_weighs_folds_apart_and_test_by_all(empty, repository):
    setup = Setup(fusion="validation")
    clip_workspace(setup)
    metrics, _ = run(setup, repository)
    of_flow = metrics["fusion"]["streams"]["flow"]
    right, wrong = (np.exp([3.0, 0.0]) / (np.exp(3) + 2)).tolist()
    rgb_right, rgb_wrong = (np.exp([2.0, 0.0]) / (np.exp(2) + 2)).tolist()
    # what rgb and flow give to the truth of each fold's six clips: see WRONG
    told = [
        [(rgb_wrong, wrong), (rgb_wrong, right), *[(rgb_right, right)] * 4],
        [(rgb_wrong, right), *[(rgb_right, right)] * 5],
    ]

    def best(rows):
        grid = np.linspace(0.0005, 0.9995, 1000)
        rgb, flow = np.array(rows).T
        fused = (1 - grid)[:, None] * rgb + grid[:, None] * flow
        return grid[(-np.log(fused).sum(axis=1) - 5 * np.log(grid * (1 - grid))).argmin()]

    assert of_flow["folds"] == pytest.approx([best(told[1]), best(told[0])], abs=2e-3)  # each by the other
    weight = best(told[0] + told[1])
    assert of_flow["weight"] == pytest.approx(weight, abs=2e-3)
    # test: of six clips rgb tells one wrongly
    fused = [(1 - weight) * rgb_right + weight * right] * 5 + [(1 - weight) * rgb_wrong + weight * right]
    found = metrics["test"]["fusion"]["video_log_loss"]
    assert found == pytest.approx(-np.log(fused).mean(), abs=2e-3)
    html = paths.REPORT_HTML.read_text()
    assert "weights of other groups’ clips alone" in html and "over the folds" in html


def test_clip_baselines(empty, repository):
    clip_workspace(Setup())
    metrics, _ = run(Setup(), repository)
    baselines = metrics["baselines"]
    assert list(baselines) == ["majority", "metadata", "hof"]
    assert baselines["majority"]["video_top1_acc"] == {
        "mean": 0.333333,
        "std": 0.0,
        "folds": [0.333333] * 2,
        "test": 0.333333,
    }
    assert baselines["metadata"]["video_top1_acc"]["mean"] == pytest.approx(1 / 3, abs=1e-6)  # all videos are alike
    # The classes differ by the direction of motion alone, which mirror images would confuse.
    assert baselines["hof"]["video_top1_acc"] == {"mean": 1.0, "std": 0.0, "folds": [1.0, 1.0], "test": 1.0}
    assert all("video_log_loss" not in values for values in baselines.values())


def test_report_card_and_plots(empty, repository):
    setup = Setup(release="rgb")
    clip_workspace(setup)
    _, report = run(setup, repository)
    html, card = paths.REPORT_HTML.read_text(), paths.MODEL_CARD.read_text()
    assert "three &lt;motions&gt;" in html and "no frame could be &lt;decoded&gt;" in html
    assert not re.search(r"""(?:src|href)=(?!"data:)|url\((?!#)|@import|<script""", html), "it must need no network"
    assert html.count("data:image/jpeg;base64,") == 3 * 5  # rgb's three out-of-fold mistakes
    assert "baseline hof scores 1.000 and the released rgb 0.750" in html and "class-support" in html
    assert any("baseline hof scores" in note for note in report.notes)
    assert "| rgb **(released)** | 0.750 ± 0.083 | 0.833 |" in card and "broken.mp4" in card
    assert card.count("begun from") == 1 and "fp32, begun from `registry:other/3` (SHA-256 abababababab) |" in card
    confusion = pd.read_csv(paths.PLOTS / "confusion.csv")
    assert len(confusion) == 12 and (confusion["actual"] == confusion["predicted"]).sum() == 9
    assert ((confusion["actual"] == "left") & (confusion["predicted"] == "right")).sum() == 1
    curves = pd.read_csv(paths.PLOTS / "curves.csv")
    assert list(curves.columns) == ["stream", "fold", "epoch", "train_loss", "train_loss_labels", "val_loss"]
    assert set(curves["stream"]) == {"rgb", "flow"}
    dashed = re.findall(r'line dashed" points="([^"]+)"', html)
    assert len(dashed) == 2  # also of a loss to which tracking adds what is below 0: its part by labels
    heights = [[float(point.split(",")[1]) for point in points.split()] for points in dashed]
    assert all(last_y > 14 and first_y < last_y < 170 for first_y, last_y in heights)  # it falls, inside the axes
    assert ">epoch 2</text>" in html and "<td>2, 2</td>" in html  # both count from 1


def outs():
    files = [paths.METRICS, paths.REPORT_HTML, paths.MODEL_CARD, *sorted(paths.PLOTS.iterdir())]
    return {file: file.read_bytes() for file in files}


@pytest.mark.parametrize("task", ["clip", "frame"])
def test_the_same_input_gives_the_same_bytes(empty, repository, task):
    setup = Setup(task=task, labels="exclusive" if task == "clip" else "independent")
    (clip_workspace if task == "clip" else frame_workspace)(setup)
    run(setup, repository)
    first = outs()
    run(setup, repository)
    assert outs() == first


def test_without_test_set_flow_stream_and_flow_store(empty, repository):
    setup = Setup(test=False, flow=False, release="rgb")
    clip_workspace(setup)
    paths.write_disabled(paths.FLOW, "off")
    metrics, report = run(setup, repository)
    assert metrics["test"] is None and list(metrics["cv"]) == ["rgb"]
    assert list(metrics["baselines"]) == ["majority", "metadata"]
    assert "test" not in metrics["baselines"]["majority"]["video_top1_acc"]
    assert any("hof is left out" in note for note in report.notes)
    html = paths.REPORT_HTML.read_text()
    assert "No test set is held out" in html and "“test” is" not in html
    assert "the class counts alone" in html and "a histogram of motion" not in html


def test_frame_task_by_hand(empty, repository):
    setup = Setup(task="frame", labels="independent")
    frame_workspace(setup)
    metrics, report = run(setup, repository)
    rgb = metrics["cv"]["rgb"]
    # Fold 0: groom found in 4 of 6 frames: F1 = 8 / 10; rear is perfect.
    assert rgb["frame_macro_f1"]["folds"] == pytest.approx([0.9, 1.0], abs=1e-6)
    # Frames 0 to 4 and 6 to 8 have exactly one behaviour. In frames 0 and 1 both logits are -2: a tie, told as groom.
    assert rgb["frame_top1_acc"]["folds"] == [1.0, 1.0]
    # Ranking: four groom frames on top, the two missed ones tie with the six negatives: (4 + 2 * 6 / 12) / 6
    assert rgb["frame_mAP"]["folds"] == pytest.approx([((4 + 2 * 6 / 12) / 6 + 1) / 2, 1.0], abs=1e-6)
    assert metrics["test"]["fusion"]["frame_macro_f1"] == 1.0
    assert metrics["baselines"]["majority"]["frame_macro_f1"]["mean"] == pytest.approx(2 * 6 / (12 + 6) / 2, abs=1e-6)
    assert metrics["baselines"]["metadata"]["frame_mAP"]["mean"] > 0.9  # the place in the video tells it all
    assert (
        metrics["baselines"]["hof"]["frame_macro_f1"]["mean"]
        > metrics["baselines"]["majority"]["frame_macro_f1"]["mean"]
    )
    assert report.items == 3 * NUM_FRAMES
    html = paths.REPORT_HTML.read_text()
    assert html.count('class="ethogram"') == 2 and "Most confident mistakes" not in html
    assert len(pd.read_csv(paths.PLOTS / "confusion.csv")) == 2 * 8


def test_a_row_of_another_fold_is_a_leak(empty, repository):
    clip_workspace(Setup())
    path = paths.MODELS / "rgb" / "oof.parquet"
    table = tables.read_table(path, tables.LOGITS)
    table.loc[table["clip_id"] == "g0_left_0", "fold"] = 1
    tables.write_table(path, tables.LOGITS, table)
    with pytest.raises(
        GateError, match=r"prediction_of_scored_clip is broken by rgb: clip g0_left_0 of fold 1 .*\(a leak\)"
    ):
        run(Setup(), repository)
    assert not Path("metrics.json").exists()


def test_a_missing_model_and_other_classes_are_named(empty, repository):
    clip_workspace(Setup())
    summary = paths.MODELS / "flow" / "summary.json"
    summary.write_text(json.dumps(json.loads(summary.read_text()) | {"classes": ["a"]}))
    with pytest.raises(DataError, match="rgb and flow have different classes"):
        run(Setup(), repository)
    summary.unlink()
    with pytest.raises(DataError, match="run the stage train@flow"):
        run(Setup(), repository)


def several_labels_workspace():
    """Three clips for each group: the first moves and turns, the second turns, the third does neither."""
    truth = {"both": (1, 1), "turns": (0, 1), "none": (0, 0)}
    said = truth | {"none": (0, 1)}  # of fold 0, rgb sees a turn where there is none
    ids = [f"{group}_{name}" for group in GROUPS for name in truth]
    rows = [(f"{i}@0", i, 0, NUM_FRAMES, None, i[:2], "event", *truth[i[3:]]) for i in ids]
    clips = pd.DataFrame(rows, columns=[*(name for name, _ in tables.CLIPS.columns), "move", "turn"])
    tables.write_table(paths.VIDEOS, tables.VIDEOS, videos_table({i: i[:2] for i in ids}))
    write_splits(clips, test=True)
    write_videos(ids, lambda video_id, i: (1.5 * ("both" in video_id), -1.5 * ("none" not in video_id)))
    write_gates()
    fold_of = {"g0": 0, "g1": 1, "g2": -1}
    for name in ("rgb", "flow"):
        wrong = said if name == "rgb" else truth
        logits = [
            (fold_of[i[:2]], f"{i}@0", i, None, *(4 * np.array((wrong if i[:2] == "g0" else truth)[i[3:]]) - 2))
            for i in ids
        ]
        oof, test = ([row for row in logits if (row[0] < 0) == held] for held in (False, True))
        write_model(name, ("move", "turn"), oof, test)


def test_clips_with_several_labels_by_hand(empty, repository):
    several_labels_workspace()
    metrics, _ = run(Setup(labels="independent", release="rgb"), repository)
    assert metrics["labels"] == "independent" and metrics["classes"] == ["move", "turn"]
    rgb = metrics["cv"]["rgb"]
    assert list(rgb) == ["video_mAP", "video_macro_f1", "video_exact_match"]
    assert rgb["video_exact_match"]["folds"] == pytest.approx([2 / 3, 1.0], abs=1e-6)
    # fold 0: move is perfect; turn is found in both of its clips and once beside them: 2 * 2 / (2 * 2 + 1)
    assert rgb["video_macro_f1"]["folds"] == pytest.approx([(1 + 4 / 5) / 2, 1.0], abs=1e-6)
    assert rgb["video_mAP"]["folds"] == pytest.approx([(1 + 2 / 3) / 2, 1.0], abs=1e-6)  # a tie of all three
    assert metrics["test"]["fusion"]["video_exact_match"] == 1.0
    # of the other fold's clips a third moves and two thirds turn, so a turn is told of every clip
    majority = metrics["baselines"]["majority"]
    assert majority["video_macro_f1"]["mean"] == pytest.approx((0 + 4 / 5) / 2, abs=1e-6)
    assert majority["video_exact_match"]["mean"] == pytest.approx(1 / 3, abs=1e-6)
    assert metrics["baselines"]["hof"]["video_exact_match"]["mean"] == 1.0
    html = paths.REPORT_HTML.read_text()
    assert "average precision" in html and "1 of 6 clips are told wrongly" in html
    assert '<span class="said">turn</span> at 0.88, but annotated <span class="was">none of the classes</span>' in html
    assert "any of the labels for each clip" in paths.MODEL_CARD.read_text()


def test_frames_of_exactly_one_class_by_hand(empty, repository):
    setup = Setup(task="frame", labels="exclusive", release="rgb")
    frame_workspace(setup)
    metrics, _ = run(setup, repository)
    assert metrics["classes"] == ["background", "groom", "rear"]
    rgb = metrics["cv"]["rgb"]
    assert list(rgb) == ["frame_macro_f1", "frame_top1_acc", "frame_mean_class_acc", "frame_log_loss"]
    # of 12 labelled frames: groom 0 to 4, rear 5 to 8, background 9 to 11; fold 0 takes two of groom for background
    assert rgb["frame_top1_acc"]["folds"] == pytest.approx([10 / 12, 1.0], abs=1e-6)
    assert rgb["frame_mean_class_acc"]["folds"] == pytest.approx([(3 / 5 + 2) / 3, 1.0], abs=1e-6)
    # F1: background 2 * 3 / (2 * 3 + 2), groom 2 * 3 / (2 * 3 + 2), rear 1
    assert rgb["frame_macro_f1"]["folds"] == pytest.approx([(3 / 4 + 3 / 4 + 1) / 3, 1.0], abs=1e-6)
    assert "frame_log_loss" not in metrics["baselines"]["majority"]
    assert metrics["baselines"]["majority"]["frame_top1_acc"]["mean"] == pytest.approx(5 / 12, abs=1e-6)
    assert metrics["baselines"]["metadata"]["frame_top1_acc"]["mean"] > 0.9  # the place in the video tells it all
    assert metrics["baselines"]["hof"]["frame_top1_acc"]["mean"] > 5 / 12
    html = paths.REPORT_HTML.read_text()
    assert html.count('class="ethogram"') == 2 and "the most probable class" in html and "confusion matrix" in html
    assert len(pd.read_csv(paths.PLOTS / "confusion.csv")) == 2 * 12
