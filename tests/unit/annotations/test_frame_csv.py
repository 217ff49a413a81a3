from pathlib import Path

import numpy as np
import pytest

from kineflow import annotations
from kineflow.annotations import frame_csv
from kineflow.annotations.model import Problems
from kineflow.errors import AnnotationError


def read(tmp_path: Path, **tables: str) -> annotations.Annotations:
    for stem, text in tables.items():
        (tmp_path / f"{stem}.csv").write_text(text)
    return annotations.read("frame_csv", tmp_path, videos=["day1/a.mp4", "day2/b.mp4"])


def test_reads_index_background_and_unlabelled(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        a=",background,groom,rear\n0,1,0,0\n1,0,1,1\n2,-1,-1,-1\n",
        b="rear,groom\n1,0\n0,-1\n\n",  # another order, no index; a blank last row
    )
    assert found.classes == ("groom", "rear")
    np.testing.assert_array_equal(found.frame_tables["day1/a.mp4"].values, [[0, 0], [1, 1], [-1, -1]])
    np.testing.assert_array_equal(found.frame_tables["day2/b.mp4"].values, [[0, 1], [-1, 0]])
    assert found.frame_tables["day1/a.mp4"].values.dtype == np.int8


def test_tables_of_one_name_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    for day, text in (("day1", "groom\n0\n"), ("day2", "groom\n1\n")):
        (tmp_path / day).mkdir()
        (tmp_path / day / "a.csv").write_text(text)
    found = annotations.read("frame_csv", tmp_path, videos=["day1/a.mp4", "day2/a.mp4"])
    assert {key: table.values.tolist() for key, table in found.frame_tables.items()} == {
        "day1/a.mp4": [[0]],
        "day2/a.mp4": [[1]],
    }


def test_a_table_in_a_folder_is_not_of_a_video_in_another(tmp_path: Path) -> None:
    (tmp_path / "day2").mkdir()
    (tmp_path / "day2" / "a.csv").write_text("groom\n0\n")
    with pytest.raises(AnnotationError, match=r"'day2/a' is not in the source, where day1/a\.mp4 is in another folder"):
        read(tmp_path)
    found = annotations.read("frame_csv", tmp_path, videos=["a.mp4"])  # a flat source has no folders to mirror
    assert list(found.frame_tables) == ["a.mp4"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("groom,rear\n0,1\n0,2\n", r"a\.csv:3: rear is '2'; write 0, 1, or -1"),
        ("groom,rear\n0,0.31\n", r"a\.csv:2: rear is '0\.31'"),
        ("groom,rear\n0\n", r"a\.csv:2: 1 columns where the header has 2"),
        ("frame,groom\n0,1\n2,1\n", r"a\.csv:3: frame 2 where 1 follows"),
        ("background,groom\n1,1\n", r"a\.csv:2: background must be 1 exactly"),
        ("background,groom\n0,0\n", r"a\.csv:2: background must be 1 exactly"),
        ("groom\n0\n\n1\n", r"a\.csv:4: a blank row before"),
        ("0,1\n0,0\n", "no header"),
        ("", "empty"),
        ("background\n1\n", "no header with the names of behaviours"),
    ],
)
def test_malformed_tables(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(AnnotationError, match=message):
        read(tmp_path, a=text)


def test_tables_with_other_columns_and_without_video(tmp_path: Path) -> None:
    with pytest.raises(annotations.MalformedAnnotationsError) as caught:
        read(tmp_path, a="groom\n1\n", b="rear\n1\n", c="groom\n1\n")
    assert "b.csv:1: columns rear, but groom in a.csv" in str(caught.value)
    assert "c.csv: video 'c' is not in the source" in str(caught.value)


def test_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match="holds no"):
        read(tmp_path)


def test_published_mouse_table(shared_data: Path) -> None:
    """6,600 frames of a published truth; its sums counted with awk."""
    problems = Problems()
    table = frame_csv.parse_table(shared_data / "mouse_frames" / "HD_ChR2_510A.csv", problems)
    assert not problems.found
    assert table.behaviours == ("grooming", "rearing_mig", "rearing_paret")
    counts = (shared_data / "mouse_frames" / "HD_ChR2_510A.csv").read_text().split()[1:]
    assert table.values.sum() == sum(row.split(",").count("1") for row in counts)


def test_predictions_are_not_taken_for_labels(shared_data: Path) -> None:
    problems = Problems()
    frame_csv.parse_table(shared_data / "mouse_frames" / "results.csv", problems)
    assert problems.found[0].startswith("results.csv:2: g_prediction is '0.18921517'")
