import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from kineflow.atomic import PREFIX, replacing, sweep, write_text


def test_a_file_takes_the_place_of_another_and_leaves_nothing_beside(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.json"
    for text in ("one", "zwei\r\nä"):
        write_text(path, text)
        assert path.read_bytes().decode() == text
    assert list(path.parent.iterdir()) == [path]


def test_what_fails_half_way_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_text(path, "old")
    with pytest.raises(ZeroDivisionError), replacing(path) as partial:
        partial.write_text("half")
        _ = 1 / 0
    with pytest.raises(ZeroDivisionError), replacing(tmp_path / "folder") as partial:
        partial.mkdir()
        (partial / "file").write_text("half")
        _ = 1 / 0
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_many_writers_of_one_file_do_not_disturb_each_other(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    texts = [str(number) * 10_000 for number in range(10)]

    def write(text: str) -> None:
        for _ in range(50):
            write_text(path, text)
            assert path.read_text() in texts

    with ThreadPoolExecutor(len(texts)) as pool:
        list(pool.map(write, texts))
    assert list(tmp_path.iterdir()) == [path]


def test_errors_name_the_file_that_was_asked_for(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").write_text("stays")
    with pytest.raises(OSError, match=r"taken'$"):
        write_text(tmp_path / "taken", "text")
    nowhere = tmp_path / "absent"
    with pytest.raises(FileNotFoundError, match="absent'"), replacing(nowhere):
        pass  # nothing was written
    with pytest.raises(FileNotFoundError, match=r"absent'$"), replacing(nowhere) as partial:
        partial.open("rb")


def test_what_the_killed_left_is_swept_once_nothing_in_it_is_new(tmp_path: Path) -> None:
    old, alive, kept = tmp_path / f"{PREFIX}old", tmp_path / f"{PREFIX}alive", tmp_path / "kept"
    for folder in (old, alive):
        folder.mkdir()
        (folder / "file").write_text("half")
    (tmp_path / f"{PREFIX}file").write_text("half")
    kept.write_text("whole")
    hour_ago = time.time() - 3600
    for path in (old, old / "file", alive, tmp_path / f"{PREFIX}file", kept):
        os.utime(path, (hour_ago, hour_ago))
    sweep(tmp_path)
    assert sorted(tmp_path.iterdir()) == [alive, kept]
    sweep(tmp_path / "absent")
