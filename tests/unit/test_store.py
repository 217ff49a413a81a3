"""The result store and the files that say what is in it: what is damaged is made again, or refused by name."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.clips import write_clip
from kineflow.errors import DataError
from kineflow.stages.source_manifest import Source, read_sources, write_sources
from kineflow.store import ResultStore, file_sha256, is_npy
from kineflow.video.probe_cache import VideoFile, probe_all
from kineflow.video.result_index import VideoResult, read_index, write_index


@pytest.mark.parametrize("cut", [b"", b"\x93NUMPY\x01\x00v\x00{", None])
def test_features_that_were_cut_off_are_made_again(cut: bytes | None, tmp_path: Path) -> None:
    store = ResultStore(tmp_path, is_whole=is_npy)
    with store.writing("key") as target, target.open("wb") as file:
        np.save(file, np.zeros((5, 8), np.float16))
    assert "key" in store
    path = store.path("key")
    path.write_bytes(path.read_bytes()[:-1] if cut is None else cut)
    assert "key" not in store


@pytest.mark.parametrize("keep", [0, 20, -1])
def test_a_probe_that_was_cut_off_is_made_again(keep: int, tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", codec="h264", height=48, width=64, fps=10, num_frames=12)
    video = VideoFile("a.mp4", str(path), file_sha256(path), path.stat().st_size)
    before, num_decoded = probe_all([video], home=tmp_path / "home", label="test")
    assert num_decoded == 1
    result = before["a.mp4"].path
    whole = result.read_bytes()
    result.write_bytes(whole[:keep])
    after, num_decoded = probe_all([video], home=tmp_path / "home", label="test")
    assert (num_decoded, result.read_bytes()) == (1, whole)
    assert len(after["a.mp4"].timestamps_sec()) == 12
    assert probe_all([video], home=tmp_path / "home", label="test")[1] == 0


@pytest.mark.parametrize("row", ["a.mp4\tkey", "a.mp4\tkey\tmany", "a.mp4\tkey\t5\t6", "a\udcff.mp4\tkey\t5"])
def test_a_damaged_index_is_refused_by_name(row: str, tmp_path: Path) -> None:
    write_index(tmp_path, [VideoResult("a.mp4", "key", 5)])
    path = tmp_path / "index.tsv"
    path.write_text(path.read_text().replace("a.mp4\tkey\t5", row), errors="surrogateescape")
    with pytest.raises(DataError, match=r"index\.tsv is damaged; run the stage that makes this folder again"):
        read_index(tmp_path)


@pytest.mark.parametrize("row", ["video\ta.mp4\t7", "video\ta.mp4\tx\tsha", "video\ta\udcff.mp4\t7\tsha"])
def test_a_damaged_source_manifest_is_refused_by_name(row: str, tmp_path: Path) -> None:
    path = tmp_path / "sources.tsv"
    write_sources(path, [Source("video", "a.mp4", 7, "sha")])
    path.write_text(path.read_text().replace("video\ta.mp4\t7\tsha", row), errors="surrogateescape")
    with pytest.raises(DataError, match=r"sources\.tsv is damaged; run sync again"):
        read_sources(path)
