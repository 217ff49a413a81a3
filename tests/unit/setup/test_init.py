from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from kineflow.errors import DataError, ParamsError
from kineflow.params import load_params
from kineflow.setup.choices import Machine, choose
from kineflow.setup.init import init_project, print_init_report
from kineflow.setup.survey import Survey, data_name

TURNS = (("feint", "turn_left"), ("strike", "turn_right"))


def encode(path: Path, *, num_frames: int = 20) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(len(path.name))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=Fraction(10))
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(num_frames):
            image = av.VideoFrame.from_ndarray(noise.integers(0, 255, (48, 64, 3), np.uint8), format="rgb24")
            container.mux(stream.encode(image))
        container.mux(stream.encode(None))


@pytest.fixture
def project(tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("KINEFLOW_HOME", raising=False)
    (tmp_path / "params").symlink_to(repository / "params")
    rows = ["path,label,nest"]
    for nest in ("n1", "n2", "n3"):
        for label in ("turn_left", "turn_right"):
            encode(tmp_path / "fish" / f"{nest}_{label}.mp4")
            rows.append(f"{nest}_{label}.mp4,{label},{nest}")
    (tmp_path / "list.csv").write_text("\n".join(rows) + "\n")
    return tmp_path


def test_clip_project(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = init_project("fish", "list.csv", "manifest", "clip", project / "params.yaml")
    params = load_params(project / "params.yaml")
    found = report.found
    assert (found.num_videos, found.label_counts) == (6, {"turn_left": 3, "turn_right": 3})
    assert found.total_sec == pytest.approx(12.0)
    assert (params.data.name, params.data.group_from, params.sample) == ("fish", "column:nest", None)
    assert (params.frames.fps, params.frames.height_px, params.frames.width_px) == (10.0, 48, 64)
    assert (params.splits.num_folds, params.splits.test) == (3, "none")
    assert params.validation.min_clips_per_class == 3
    assert not params.train.augment.flip
    assert "turn_left would become its opposite" in report.choices["train.augment.flip"][1]
    print_init_report(report)
    shown = capsys.readouterr().out
    assert "6 videos" in shown
    assert "turn_right" in shown


def test_frame_project(project: Path) -> None:
    rows = [
        f"sit,{kind},{time},n{n}_turn_left.mp4" for n in (1, 2, 3) for kind, time in (("START", 0.5), ("STOP", 1.5))
    ]
    (project / "events.csv").write_text("\n".join(["Behavior,Behavior type,Time,Media file name", *rows]) + "\n")
    report = init_project("fish", "events.csv", "boris_csv", "frame", project / "p.yaml")
    params = load_params(project / "p.yaml")
    assert report.found.label_counts == {"sit": pytest.approx(3.0)}
    assert len(report.found.unannotated) == 3
    assert (params.task, params.clips.window_sec, params.streams.rgb.model) == ("frame", 2.0, "resnet10_tiny.lstm")
    assert params.promotion.metric == "frame_macro_f1"
    assert any("group of its own" in warning for warning in report.found.warnings)


def test_problems_are_collected_and_nothing_is_written(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (project / "list.csv").read_text() + "gone.mp4,turn_left,n1\nn1_turn_left.mp4,turn_left,n1\n"
    (project / "list.csv").write_text(text)
    report = init_project("fish", "list.csv", "manifest", "clip", project / "params.yaml")
    assert report.written is None
    assert not (project / "params.yaml").exists()
    assert [problem.split(":")[1] for problem in report.found.problems] == ["8", "9"]
    print_init_report(report)
    assert "list.csv:8" in capsys.readouterr().out


def test_unreadable_videos_are_listed_with_the_reason(project: Path) -> None:
    (project / "fish" / "broken.mp4").write_bytes(b"not a video")
    report = init_project("fish", "list.csv", "manifest", "clip", project / "params.yaml")
    assert "cannot be read" in report.found.quarantined["broken.mp4"]
    assert report.written is not None


def test_a_class_in_one_group_and_a_single_group(project: Path) -> None:
    text = (project / "list.csv").read_text().replace("n1_turn_left.mp4,turn_left", "n1_turn_left.mp4,rare")
    (project / "list.csv").write_text(text)
    report = init_project("fish", "list.csv", "manifest", "clip", project / "p.yaml")
    assert any(warning.startswith("rare occurs in one group only") for warning in report.found.warnings)
    report = init_project("fish", "list.csv", "manifest", "clip", project / "q.yaml", group_from="folder")
    assert any("a single group" in problem for problem in report.found.problems)


def test_refuses(project: Path) -> None:
    out = project / "params.yaml"
    with pytest.raises(ParamsError, match="format 'manifst' is unknown; known: manifest"):
        init_project("fish", "list.csv", "manifst", "clip", out)
    with pytest.raises(ParamsError, match="task 'clips' is unknown"):
        init_project("fish", "list.csv", "manifest", "clips", out)
    (project / "empty").mkdir()
    with pytest.raises(DataError, match="empty holds no videos"):
        init_project("empty", "list.csv", "manifest", "clip", out)
    out.write_text("mine: 1\n")
    with pytest.raises(ParamsError, match="exists and would be lost"):
        init_project("fish", "list.csv", "manifest", "clip", out)
    assert out.read_text() == "mine: 1\n"
    assert init_project("fish", "list.csv", "manifest", "clip", out, force=True).written == out


BIG = Survey(
    num_videos=2000, total_sec=12000, duration_sec=6, fps=50, width=1920, height=1080, aspect_spread=1.0, unit="events",
    label_counts={"a": 1000, "b": 1000}, label_groups={"a": 20, "b": 20}, group_sizes={f"g{i}": 100 for i in range(20)},
    group_rule="folder", group_reason="", whole_videos=True, shortest_event_sec=4, event_sec=6, num_points=0,
    official_test=None, official_groups=0,
    quarantined={}, unannotated=(),
)  # fmt: skip


def test_choices_follow_the_data_and_the_machine() -> None:
    laptop = {change.key: change.value for change in choose(BIG, Machine(num_cores=8, has_gpu=False), task="clip")}
    server = {change.key: change.value for change in choose(BIG, Machine(num_cores=16, has_gpu=True), task="clip")}
    assert laptop["frames.fps"] == 30.0
    assert (laptop["frames.height_px"], laptop["frames.width_px"]) == (112, 192)
    assert (laptop["streams.rgb.height_px"], laptop["streams.rgb.model"]) == (48, "r3d_mini.avg")
    assert (server["streams.rgb.height_px"], server["streams.rgb.model"]) == (112, "r3d_18.avg")
    assert (laptop["splits.test"], laptop["splits.num_folds"], laptop["train.threads_per_fold"]) == ("groups", 5, 1)
    lists = replace(BIG, official_test="test", official_groups=2)
    official = {change.key: change.value for change in choose(lists, Machine(8, has_gpu=False), task="clip")}
    assert (official["splits.kind"], official["splits.test"], official["splits.num_folds"]) == (
        "official",
        "official",
        2,
    )


@pytest.mark.parametrize("with_states", [False, True])
def test_point_events_get_a_window_with_its_reason(project: Path, with_states: bool) -> None:
    rows = [f"{label},POINT,1,n{n}_{side}.mp4" for n in (1, 2, 3) for label, side in TURNS]
    if with_states:
        rows += [f"sit,{kind},n{n}_turn_left.mp4" for n in (1, 2, 3) for kind in ("START,0.5", "STOP,1.7")]
    (project / "events.csv").write_text("\n".join(["Behavior,Behavior type,Time,Media file name", *rows]) + "\n")
    report = init_project("fish", "events.csv", "boris_csv", "clip", project / "p.yaml", group_from="regex:(n[0-9])")
    params = load_params(project / "p.yaml")
    assert (params.clips.from_, params.clips.window_sec, params.clips.min_frames) == ("events", 2.0, 8)
    assert "around each of 6 point events" in report.choices["clips.window_sec"][1]
    shortest = 12 if with_states else 20
    assert report.choices["clips.min_frames"][1] == f"the shortest clip has {shortest} frames at 10 fps"
    assert params.streams.rgb.num_frames == (8 if with_states else 16)


def test_lists_without_a_labelled_test_side_are_tested_on_val(project: Path) -> None:
    rows = [row.split(",") for row in (project / "list.csv").read_text().split()[1:]]
    for role, lines in (("train", rows[:4]), ("val", rows[4:])):
        (project / f"{role}.txt").write_text("".join(f"{path} {label}\n" for path, label, _ in lines))
    report = init_project("fish", "train.txt", None, "clip", project / "p.yaml", group_from="regex:(n[0-9])")
    assert report.choices["splits.kind"] == (
        "official",
        "the annotations state train and val, and no test: val is tested on",
    )
    splits = load_params(project / "p.yaml").splits
    assert (splits.kind, splits.test, splits.num_folds) == ("official", "official", 2)


def test_roles_of_some_videos_or_of_one_side_are_no_official_split(project: Path) -> None:
    lines = (project / "list.csv").read_text().split()
    for roles, lack in (
        (["train", "test", "", "", "", ""], r"4 annotated videos have none (n2_turn_left.mp4)"),
        (["train"] * 6, "none is test or val"),
        (["train", "train", *["test"] * 4], "the other side of test has 1 groups"),
    ):
        text = "\n".join(f"{line},{role}" for line, role in zip(lines, ["role", *roles], strict=True))
        (project / "roles.csv").write_text(text)
        report = init_project("fish", "roles.csv", "manifest", "clip", project / "p.yaml", force=True)
        assert any(f"the official roles are not used: {lack}" in warning for warning in report.found.warnings)
        assert load_params(project / "p.yaml").splits.kind == "group_kfold"


def test_names() -> None:
    assert data_name("/x/My Fish-2/videos/") == "my_fish_2"
    assert data_name("s3://bucket/Mice") == "mice"


def test_the_format_is_guessed_and_the_reason_shown(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = init_project("fish", "list.csv", None, "clip", project / "params.yaml")
    print_init_report(report)
    assert "annotations: manifest (guessed: it has the columns path and label)" in capsys.readouterr().out
    assert load_params(project / "params.yaml").data.format == "manifest"
