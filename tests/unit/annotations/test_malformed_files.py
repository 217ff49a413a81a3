"""Every format against damaged files: events come out, or one sentence that names the file; nothing else."""

import random
import re
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kineflow import annotations
from kineflow.annotations.guess import guess_format
from kineflow.errors import AnnotationError, ParamsError
from tests.unit.annotations.samples import SAMPLES, VIDEOS, write_sample

Damage = Callable[[bytes, random.Random], bytes]
MAX_SENTENCE = 3000


def _lines(content: bytes) -> list[bytes]:
    return content.splitlines(keepends=True)


def drop_column(content: bytes, dice: random.Random) -> bytes:
    mark = dice.choice([b",", b"\t", b" "])
    at = dice.randrange(6)
    rows = [line.rstrip(b"\n").split(mark) for line in _lines(content)]
    return b"\n".join(mark.join(row[:at] + row[at + 1 :]) for row in rows) + b"\n"


def drop_line(content: bytes, dice: random.Random) -> bytes:
    rows = _lines(content)
    rows.pop(dice.randrange(len(rows)))
    return b"".join(rows)


def repeat_line(content: bytes, dice: random.Random) -> bytes:
    rows = _lines(content)
    at = dice.randrange(len(rows))
    return b"".join(rows[: at + 1] + rows[at:])


def shuffle_lines(content: bytes, dice: random.Random) -> bytes:
    rows = _lines(content)
    dice.shuffle(rows)
    return b"".join(rows)


def cut_off(content: bytes, dice: random.Random) -> bytes:
    return content[: dice.randrange(len(content))]


def insert(content: bytes, dice: random.Random) -> bytes:
    at = dice.randrange(len(content) + 1)
    piece = dice.choice(
        [b"\0", b'"', b"\xff", b"\n", b"\r", b",", b"\t", b"{", b"]", b"\xe2\x80\xa8", b"\x85", b"'", b"-"]
    )
    return content[:at] + piece + content[at:]


def change_number(content: bytes, dice: random.Random) -> bytes:
    found = list(re.finditer(rb"\d+(\.\d+)?", content))
    match = dice.choice(found)
    values = [b"-1", b"nan", b"NaN", b"inf", b"-Infinity", b"1e999", b"1e308", b"", b"NA", b"0", b"9" * 5000, b"null",
              b"1_0", b"1:2:3:4", "²".encode(), b'{"a": 1}', b"[]", b"true"]  # fmt: skip
    return content[: match.start()] + dice.choice(values) + content[match.end() :]


def change_text(content: bytes, dice: random.Random) -> bytes:
    match = dice.choice(list(re.finditer(rb"[A-Za-z]+", content)))
    values = [b"", b" ", b"zz", b"../../etc", b"x" * 200_000, "é".encode("latin-1"), b"STOP", b"[]", b'""', b"null"]
    return content[: match.start()] + dice.choice(values) + content[match.end() :]


def whole_file(content: bytes, dice: random.Random) -> bytes:
    text = content.decode()
    return dice.choice([
        b"", b"\n\n", b"\xef\xbb\xbf", b"\xef\xbb\xbf" + content, text.encode("utf-16"), text.encode("utf-16-le"),
        text.replace("m", "é").encode("latin-1"), text.replace("\n", "\r\n").encode(),
        text.replace("\n", "\r").encode(),
        text.replace(",", ";").encode(), text.replace("\t", ",").encode(), text.replace(" ", "\n").encode(),
        text.replace('"', "'").encode(), b"\0" * 100, b"[" * 100_000, b"{}", b"[]", b"null", b"1", b'"x"',
        b"PK\x03\x04" + bytes(range(256)),
    ])  # fmt: skip


DAMAGES: list[Damage] = [
    drop_column, drop_line, repeat_line, shuffle_lines, cut_off, insert, change_number, change_text, whole_file,
]  # fmt: skip


def check(name: str, path: Path) -> bool:
    """Read a file; whether it was refused, and then in a sentence that names a file of the sample."""
    try:
        found = annotations.read(name.partition(" ")[0], path, videos=VIDEOS)
    except AnnotationError as err:
        sentence = str(err)
        files = [Path(key).name for key in SAMPLES[name][1]]
        assert any(file in sentence for file in files) or str(path) in sentence, sentence
        assert len(sentence) < MAX_SENTENCE and "\n" not in sentence, sentence[:500]
        return True
    assert all(event.video_id in VIDEOS and event.label == event.label.strip() for event in found.events)
    for event in found.events:
        if event.start_sec is not None and event.stop_sec is not None:
            assert event.start_sec <= event.stop_sec
    return False


@pytest.mark.parametrize("name", SAMPLES)
def test_the_sample_itself_is_read(tmp_path: Path, name: str) -> None:
    assert not check(name, write_sample(name, tmp_path))


@pytest.mark.parametrize("name", SAMPLES)
@settings(max_examples=120, deadline=None)
@given(damages=st.lists(st.sampled_from(DAMAGES), min_size=1, max_size=3), seed=st.integers(0, 2**32))
def test_damaged(name: str, damages: list[Damage], seed: int) -> None:
    dice = random.Random(seed)
    with TemporaryDirectory() as folder:
        path = write_sample(name, Path(folder))
        victim = Path(folder) / dice.choice(sorted(SAMPLES[name][1]))
        content = victim.read_bytes()
        for damage in damages:
            try:
                content = damage(content, dice)
            except (UnicodeDecodeError, ValueError, IndexError):
                break  # nothing is left that could be damaged so
        victim.write_bytes(content)
        check(name, path)
        try:
            guess_format(path, VIDEOS)
        except (AnnotationError, ParamsError) as err:
            assert Path(folder).name in str(err) or victim.name in str(err), str(err)


@pytest.mark.parametrize("name", SAMPLES)
def test_missing_folder_and_unreadable(tmp_path: Path, name: str) -> None:
    path = write_sample(name, tmp_path)
    assert check(name, tmp_path / "gone" / path.name)
    if name not in ("frame_csv", "ucf101", "hmdb51", "kinetics", "something_something") and "boris_csv" not in name:
        with pytest.raises(AnnotationError, match="is a folder"):
            annotations.read(name, tmp_path, videos=VIDEOS)


@pytest.mark.parametrize("name", ["boris_csv", "manifest", "path_label", "via_csv", "kinetics", "activitynet"])
def test_one_endless_line(tmp_path: Path, name: str) -> None:
    path = write_sample(name, tmp_path)
    path.write_bytes(path.read_bytes() + b"y" * 100_000_000 + b"\n")
    assert check(name, path)
