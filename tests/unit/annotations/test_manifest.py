from pathlib import Path

import pytest

from kineflow import annotations
from kineflow.errors import AnnotationError

VIDEOS = ["x/a.mp4", "x/b.mp4", "c.mp4"]


def write(tmp_path: Path, text: str, name: str = "list.csv") -> Path:
    path = tmp_path / name
    path.write_bytes(text.encode())
    return path


def test_reads_labels_groups_and_further_columns(tmp_path: Path) -> None:
    path = write(tmp_path, "\ufeffpath\tlabel\tgroup\tlight\r\nx/a.mp4\tjump\tg1\tdim\r\nb.mp4\tsit\t\tbright\r\n")
    found = annotations.read("manifest", path, videos=VIDEOS)
    assert [(e.video_id, e.label, e.start_sec, e.stop_sec, e.source) for e in found.events] == [
        ("x/a.mp4", "jump", None, None, "list.csv:2"),
        ("x/b.mp4", "sit", None, None, "list.csv:3"),
    ]
    assert found.groups == {"x/a.mp4": "g1"}
    assert found.columns["x/b.mp4"] == {"group": "", "light": "bright"}
    assert found.labels == ("jump", "sit")


def test_quoted_names_keep_commas(tmp_path: Path) -> None:
    found = annotations.read("manifest", write(tmp_path, 'path,label\n"a, b.mp4",sit\n'), videos=["a, b.mp4"])
    assert found.events[0].video_id == "a, b.mp4"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        ("path,group\nc.mp4,1\n", r"list\.csv:1: the header lacks label"),
        ("path,label,label\n", "column 'label' is there twice"),
        ("path,label\nc.mp4,sit\nnope.mp4,sit\n", r"list\.csv:3: video 'nope\.mp4' is not in the source"),
        ("path,label\nc.mp4\n", r"list\.csv:2: 1 columns where the header has 2"),
        ("path,label\nc.mp4,\n", r"list\.csv:2: no label"),
        ("path,label\nc.mp4,sit\n\nc,sit\n", r"list\.csv:4: video c\.mp4 is already in row 2"),
        ("path,label,role\nc.mp4,sit,testing\n", "role 'testing'"),
        ('path,label\n"c.mp4,sit\n', "correct the quotes"),
    ],
)
def test_malformed_rows_are_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(AnnotationError, match=message):
        annotations.read("manifest", write(tmp_path, text), videos=VIDEOS)


def test_not_utf8_names_the_row(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_bytes(b"path,label\nc.mp4,caf\xe9\n")
    with pytest.raises(AnnotationError, match=r"list\.csv:2: not UTF-8"):
        annotations.read("manifest", path, videos=VIDEOS)


def test_shows_the_first_five_problems_and_their_number(tmp_path: Path) -> None:
    path = write(tmp_path, "path,label\n" + "".join(f"no{i}.mp4,sit\n" for i in range(8)))
    with pytest.raises(annotations.MalformedAnnotationsError) as caught:
        annotations.read("manifest", path, videos=VIDEOS)
    assert "list.csv:6" in str(caught.value)
    assert "list.csv:7" not in str(caught.value)
    assert "the first 5 of 8 problems" in str(caught.value)
    assert len(caught.value.problems) == 8


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match="is not there"):
        annotations.read("manifest", tmp_path / "none.csv", videos=VIDEOS)
