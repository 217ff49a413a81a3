from pathlib import Path

import pytest

from kineflow.annotations.guess import choose_format, guess_format
from kineflow.errors import AnnotationError, ParamsError
from tests.unit.annotations.samples import SAMPLES, VIDEOS, write_sample


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


@pytest.mark.parametrize("name", SAMPLES)
def test_the_samples_of_every_format(tmp_path: Path, name: str) -> None:
    found, reason = guess_format(write_sample(name, tmp_path), VIDEOS)
    assert found.name == name.partition(" ")[0]
    assert reason


NEAR_MISSES = {
    "a table of keypoints": ("k.csv", "scorer,net,net\nbodyparts,a,a\ncoords,x,y\n0,1,1\n", "looks like none"),
    "predictions, not labels": ("f.csv", "background,groom\n0.3,0.7\n", "looks like none"),
    "BORIS without media": ("e.csv", "Behavior,Behavior type,Time\nsit,START,1\n", "looks like none"),
    "a manifest without labels": ("m.csv", "path,group\na.mp4,g\n", "looks like none"),
    "any JSON": ("x.json", '{"annotations": []}', "looks like none"),
    "a broken JSON": ("x.json", '{"database": ', r"x\.json:1: no JSON"),
    "UTF-16": ("x.csv", "path,label\na.mp4,x\n".encode("utf-16"), r"x\.csv:1: not UTF-8"),
    "an open quote": ("x.csv", 'path,"label\na.mp4,x\n', "looks like none"),
    "nothing": ("x.csv", "\n\n", "looks like none"),
}


@pytest.mark.parametrize("name", NEAR_MISSES)
def test_near_misses_ask_plainly(tmp_path: Path, name: str) -> None:
    file, text, message = NEAR_MISSES[name]
    (tmp_path / file).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises((ParamsError, AnnotationError), match=message) as caught:
        guess_format(tmp_path / file, ["a.mp4"])
    assert file in str(caught.value)


def test_a_folder_of_other_files_names_them(tmp_path: Path) -> None:
    write_sample("boris_project", tmp_path)
    write_sample("path_label", tmp_path)
    with pytest.raises(ParamsError, match=r"is a folder; name one of its files: list\.txt \(path_label\), p\.boris \("):
        guess_format(tmp_path, ["a.mp4"])


def test_on_s3_the_format_is_asked_for() -> None:
    assert choose_format("s3://bucket/x.csv", "manifest", [])[1] == "as given"
    with pytest.raises(ParamsError, match=r"s3://bucket/x\.csv: the format .* choose it by --format"):
        choose_format("s3://bucket/x.csv", None, [])


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
