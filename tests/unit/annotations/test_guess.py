from pathlib import Path

import pytest

from kineflow.annotations.guess import guess_format
from kineflow.errors import AnnotationError, ParamsError


@pytest.mark.parametrize(
    ("name", "text", "format_"),
    [
        ("m.csv", "path,label\na.mp4,x\n", "manifest"),
        ("e.csv", "Behavior,Behavior type,Time,Media file name\n", "boris_csv"),
        ("e.tsv", "Observation id\to1\n\nTime\tMedia file path\tBehavior\tStatus\n", "boris_csv"),
        ("k.csv", "label,youtube_id,time_start,time_end,split\n", "kinetics"),
        ("f.csv", "background,groom\n1,0\n", "frame_csv"),
        ("l.csv", "a b.mp4,3\n", "path_label"),
        ("l.txt", "a.mp4 3\n", "path_label"),
        ("v.csv", "# CSV_HEADER = metadata_id\n", "via_csv"),
        ("a.json", '{"database": {}}', "activitynet"),
        ("train.json", "[]", "something_something"),
        ("p.boris", "{}", "boris_project"),
        ("trainlist01.txt", "", "ucf101"),
        ("wave_test_split1.txt", "", "hmdb51"),
    ],
)
def test_files(tmp_path: Path, name: str, text: str, format_: str) -> None:
    (tmp_path / name).write_text(text)
    found, reason = guess_format(tmp_path / name, ["a.mp4"])
    assert (found.name, bool(reason)) == (format_, True)


def test_folders(tmp_path: Path, shared_data: Path) -> None:
    assert guess_format(tmp_path, ["jump/a.mp4"])[0].name == "class_folders"
    assert guess_format(shared_data / "mouse_frames" / "HD_ChR2_510A.csv", [])[0].name == "frame_csv"
    assert guess_format(shared_data / "fir_ceiling" / "per_frame", [])[0].name == "frame_csv"
    assert guess_format(shared_data / "official_splits" / "hmdb51_splits", [])[0].name == "hmdb51"


def test_ambiguous_and_hopeless(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("groom\n1\n")
    (tmp_path / "b.csv").write_text("Behavior,Behavior type,Time,Media file name\n")
    with pytest.raises(ParamsError, match=r"could be frame_csv \(a\.csv: .*\) or boris_csv .*choose by --format"):
        guess_format(tmp_path, [])
    (tmp_path / "c.txt").write_text("hello\n")
    with pytest.raises(ParamsError, match="looks like none of the formats class_folders, "):
        guess_format(tmp_path / "c.txt", [])
    with pytest.raises(AnnotationError, match="are not there"):
        guess_format(tmp_path / "gone", [])
