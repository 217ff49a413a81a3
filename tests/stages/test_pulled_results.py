"""What `dvc pull` brought goes into the store as DVC's cache has it, whatever the workspace looks like."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import simplejpeg

from kineflow.stages import paths
from kineflow.stages.pulled_results import adopt_pulled_results
from kineflow.store import ResultStore
from kineflow.video.frame_store import writing_frames
from kineflow.video.result_index import VideoResult, write_index
from tests.graph import GIT, copy_workspace, dvc, run_command

VIDEOS = ("a.mp4", "b.mp4")
STAGE = "stages: {extract_frames: {cmd: 'true', outs: [data/frames]}}\n"


def key_of(video_id: str) -> str:
    return video_id[0] * 64


def frames_of(path: Path, *, fps: float, num_frames: int) -> Path:
    path.unlink(missing_ok=True)
    with writing_frames(path, fps=fps, height=16, width=16, quality=90) as writer:
        for index in range(num_frames):
            picture = np.full((16, 16, 3), 10 * index, np.uint8)
            writer.append(simplejpeg.encode_jpeg(picture), source_frame=index, timestamp_sec=index / fps)
    return path


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with two videos' frames in DVC's cache and in data/frames, and an empty store."""
    root = tmp_path_factory.mktemp("built")
    run_command(*GIT, "init", "-q", cwd=root)
    dvc(root, "init", "-q")
    (root / ".dvc" / "config").write_text('[cache]\n    type = "hardlink,copy"\n    dir = ../elsewhere\n')
    frames = root / paths.FRAMES
    frames.mkdir(parents=True)
    for video_id in VIDEOS:
        frames_of(frames / f"{video_id}.zip", fps=20.0, num_frames=4 + VIDEOS.index(video_id))
    write_index(frames, [VideoResult(video_id, key_of(video_id), 4) for video_id in VIDEOS])
    (root / "dvc.yaml").write_text(STAGE)
    dvc(root, "commit", "-f")
    return root


@pytest.fixture
def pulled(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, and the current folder in it."""
    root = copy_workspace(built, tmp_path / "workspace")
    monkeypatch.chdir(root)
    monkeypatch.delenv("KINEFLOW_HOME", raising=False)
    return root


def in_store(video_id: str) -> Path:
    return ResultStore(Path(".kineflow/store/frames")).path(key_of(video_id))


def cached(root: Path, path: Path) -> Path:
    """The object of DVC's cache that `path` is linked to."""
    (found,) = [item for item in (root / "elsewhere").rglob("*") if item.is_file() and item.samefile(path)]
    return found


def test_what_the_cache_holds_is_linked_once(pulled: Path) -> None:
    assert adopt_pulled_results() == 2
    for video_id in VIDEOS:
        assert in_store(video_id).samefile(paths.FRAMES / f"{video_id}.zip")
    assert adopt_pulled_results() == 0


@pytest.mark.parametrize("mode", [0o444, 0o644])
def test_a_file_of_another_commit_is_not_taken_for_the_one_that_the_index_names(mode: int, pulled: Path) -> None:
    path = paths.FRAMES / "a.mp4.zip"
    right = path.read_bytes()
    frames_of(path, fps=5.0, num_frames=1).chmod(mode)  # a checkout was cut short
    (paths.FRAMES / "b.mp4.zip").unlink()
    assert adopt_pulled_results() == 2
    assert in_store("a.mp4").read_bytes() == right


def test_an_index_of_another_commit_is_not_believed(pulled: Path) -> None:
    write_index(paths.FRAMES, [VideoResult(video_id, key_of(video_id), 1) for video_id in VIDEOS])
    assert adopt_pulled_results() == 0
    assert not Path(".kineflow/store/frames").exists()


def test_what_is_cut_off_or_missing_in_the_cache_is_made_again(pulled: Path) -> None:
    os.truncate(cached(pulled, paths.FRAMES / "a.mp4.zip"), 100)
    assert adopt_pulled_results() == 1
    assert not in_store("a.mp4").exists()
    shutil.rmtree(".kineflow")
    shutil.rmtree("elsewhere")
    assert adopt_pulled_results() == 0


def test_without_dvc_nothing_is_adopted(pulled: Path) -> None:
    Path("dvc.lock").write_text("stages: [")
    assert adopt_pulled_results() == 0
    shutil.rmtree(".dvc")
    assert adopt_pulled_results() == 0
