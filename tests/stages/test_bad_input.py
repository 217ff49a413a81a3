"""Bad input of a whole run: one clear sentence on stderr, the exit code of DESIGN, nothing half-written."""

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from kineflow.stages import paths
from kineflow.tables import VIDEOS, read_table
from tests.conftest import Built
from tests.graph import change_params, contents, copy_workspace, report_of, run_command, run_stage, run_stages

WRONG_PARAMS, BAD_DATA, OUT_OF_REACH = 2, 3, 4


@pytest.fixture
def project(built: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the built workspace whose clips are the user's own, and the current folder in it."""
    root = copy_workspace(built.root, tmp_path / "workspace")
    change_params(root, sample=None)
    monkeypatch.chdir(root)
    monkeypatch.delenv("KINEFLOW_HOME", raising=False)
    return root


def refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, stream: str | None = None
) -> tuple[int, str]:
    """Run a stage that must fail: its exit code and its sentence, which is all that stderr has."""
    capsys.readouterr()
    code = run_stage(monkeypatch, name, stream)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and "error: " in lines[0], lines
    assert list(Path().rglob("*.partial*")) == []
    sentence = lines[0].partition("error: ")[2]
    assert report_of(Path(), name, stream)["error"] == sentence
    return code, sentence


def test_no_videos(project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    before = paths.SOURCES.read_bytes()
    for clip in Path("data/sample/clips").iterdir():
        clip.unlink()
    code, sentence = refused(monkeypatch, capsys, "sync")
    assert code == BAD_DATA
    assert "data/sample/clips" in sentence and "video" in sentence
    assert paths.SOURCES.read_bytes() == before


def test_the_folder_of_videos_is_not_there(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    change_params(project, data__source="data/nowhere")
    code, sentence = refused(monkeypatch, capsys, "sync")
    assert code == BAD_DATA and "data/nowhere" in sentence


def test_an_annotation_names_a_missing_video(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("data/sample/clips/arena2_clip003.mp4").unlink()
    run_stages(monkeypatch, ("sync",))
    before = contents(project, "data/tables")
    code, sentence = refused(monkeypatch, capsys, "ingest")
    assert code == BAD_DATA
    assert "clips.csv" in sentence and "row" in sentence and "arena2_clip003.mp4" in sentence
    assert contents(project, "data/tables") == before


def test_a_class_with_one_group_only(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    table = Path("data/sample/clips.csv")
    header, *rows = table.read_text().splitlines()
    rows = [row for row in rows if ",rest," not in row or row.startswith("arena1_")]
    repeated = [row.replace(",groom,", ",rest,") if row.startswith("arena1_") else row for row in rows]
    table.write_text("\n".join([header, *repeated]) + "\n")
    run_stages(monkeypatch, ("sync", "ingest"))
    paths.GATE_RAW.unlink()  # as DVC does before it runs the stage
    code, sentence = refused(monkeypatch, capsys, "validate_raw")
    assert code == BAD_DATA
    assert "rest" in sentence and "two groups" in sentence
    assert not paths.GATE_RAW.exists()


@pytest.mark.parametrize("odd", ["deepof/lfs_pointer.mp4", "mp4parse/bipbop_cbcs_video_init.mp4"])
def test_unreadable_and_empty_videos_are_quarantined_up_to_a_fraction(
    odd: str,
    shared_data: Path,
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    clips = Path("data/sample/clips")
    shutil.copyfile(shared_data / "odd_clips" / odd, clips / "arena1_clip002.mp4")
    run_stages(monkeypatch, ("sync", "ingest", "validate_raw", "extract_frames"))
    videos = read_table(paths.VIDEOS, VIDEOS).set_index("video_id")
    row = videos.loc["arena1_clip002.mp4"]
    assert row["status"] == "quarantined" and row["reason"]
    assert not (paths.FRAMES / "arena1_clip002.mp4.zip").exists()
    assert report_of(project, "ingest")["quarantined"] == report_of(project, "extract_frames")["quarantined"] == 1
    for name in ("arena2_clip001.mp4", "arena3_clip004.mp4"):  # 3 of 24, where a tenth is allowed
        shutil.copyfile(shared_data / "odd_clips" / odd, clips / name)
        with (clips / name).open("ab") as file:
            file.write(name.encode())  # or the gate would rather complain of copies in two groups
    run_stages(monkeypatch, ("sync", "ingest"))
    paths.GATE_RAW.unlink()
    code, sentence = refused(monkeypatch, capsys, "validate_raw")
    assert code == BAD_DATA
    assert "10%" in sentence and "quarantined" in sentence and "arena1_clip002.mp4" in sentence
    assert not paths.GATE_RAW.exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"streams__rgb__epoch": 3}, ("streams.rgb.epoch", "unknown key")),
        ({"train__batch_size": "twelve"}, ("train.batch_size", "integer", "twelve")),
        ({"release__stream": "student", "distill__enabled": False}, ("release.stream", "distill.enabled")),
    ],
    ids=["unknown key", "wrong type", "impossible combination"],
)
def test_wrong_params(
    change: dict[str, object],
    words: tuple[str, ...],
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    change_params(project, **change)
    code, sentence = refused(monkeypatch, capsys, "train", "rgb")
    assert code == WRONG_PARAMS
    assert all(word in sentence for word in ("params.yaml", *words)), sentence


def test_dvc_repro_ends_with_our_sentence_and_code(project: Path) -> None:
    change_params(project, train__batch_size="twelve")
    done = run_command("dvc", "repro", cwd=project, check=False)
    assert done.returncode != 0
    last = (done.stdout + done.stderr).strip().splitlines()[-4:]
    assert any("train.batch_size" in line for line in last), last
    assert any("exited with 2" in line for line in last), last
    assert (project / "metrics.json").exists()


def test_s3_out_of_reach(project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken_for_a_moment:
        taken_for_a_moment.bind(("127.0.0.1", 0))
        port = taken_for_a_moment.getsockname()[1]
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "somebody",
        "AWS_SECRET_ACCESS_KEY": "do-not-show-this",
    }.items():
        monkeypatch.setenv(name, value)
    before = paths.SOURCES.read_bytes()
    change_params(project, data__source="s3://videos/of/ours")
    code, sentence = refused(monkeypatch, capsys, "sync")
    assert code == OUT_OF_REACH
    assert "s3://videos/of/ours" in sentence and str(port) in sentence and "do-not-show-this" not in sentence
    assert paths.SOURCES.read_bytes() == before


@pytest.fixture
def small_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A disk of 192 KiB that holds Kineflow's own files."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=192k", "tmpfs", str(folder)], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.strip()}")
    monkeypatch.setenv("KINEFLOW_HOME", str(folder))
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def enlarge(disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)


@pytest.mark.skipif(os.name != "posix", reason="mounts a small disk")
def test_a_full_disk_while_extracting(
    project: Path, small_disk: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(paths.FRAMES)  # as DVC does before it runs the stage
    code, sentence = refused(monkeypatch, capsys, "extract_frames")
    assert code == OUT_OF_REACH
    assert "disk is full" in sentence
    assert not paths.FRAMES.exists()
    assert list(small_disk.rglob(".partial-*")) == []
    done = len(list((small_disk / "store" / "frames").glob("??/*")))
    assert 0 < done < 24
    enlarge(small_disk)
    run_stages(monkeypatch, ("extract_frames",))
    assert report_of(project, "extract_frames")["skipped"] == done


def test_a_full_disk_while_training(
    project: Path, small_disk: Path, built: Built, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(paths.MODELS / "rgb")
    code, sentence = refused(monkeypatch, capsys, "train", "rgb")
    assert code == OUT_OF_REACH
    assert "disk is full" in sentence
    assert not (paths.MODELS / "rgb").exists()
    assert list(small_disk.rglob("*.partial*")) == []
    enlarge(small_disk)
    run_stages(monkeypatch, ("train",))
    weights = contents(project, "models/rgb/release/model_0.pt")
    assert weights == contents(built.root, "models/rgb/release/model_0.pt")
    assert yaml.safe_load((paths.MODELS / "rgb" / "summary.json").read_text())["stream"] == "rgb"
