import errno
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av
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
    with pytest.raises(IsADirectoryError) as of_renaming:
        write_text(tmp_path / "taken", "text")
    with pytest.raises(FileNotFoundError) as of_opening, replacing(tmp_path / "absent") as partial:
        partial.open("rb")
    assert str(of_renaming.value).endswith(f": '{tmp_path / 'taken'}'")
    assert str(of_opening.value).endswith(f": '{tmp_path / 'absent'}'")
    with pytest.raises(av.error.OSError, match="no room"), replacing(tmp_path / "film") as partial:
        raise av.error.OSError(errno.ENOSPC, "no room", str(partial))  # whose names are fixed


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
    (tmp_path / f"{PREFIX}link").symlink_to(kept)  # the link is new, whatever it leads to
    sweep(tmp_path)
    assert sorted(tmp_path.iterdir()) == [alive, tmp_path / f"{PREFIX}link", kept]
    sweep(tmp_path, older_than_sec=0.0)
    assert list(tmp_path.iterdir()) == [kept]
    sweep(tmp_path / "absent")


def test_what_a_killed_writer_left_is_found_by_the_name_it_was_to_have(tmp_path: Path) -> None:
    for name in ("key[1].pt", "key[2].pt"):
        with replacing(tmp_path / name) as partial:
            partial.write_text("half")
            os.link(partial, tmp_path / f"{partial.name}0")  # as if it had been killed here
    sweep(tmp_path, name="key[1]", older_than_sec=0.0)
    (left,) = tmp_path.glob(f"{PREFIX}*")
    assert left.name.startswith(f"{PREFIX}key[2].pt-")
