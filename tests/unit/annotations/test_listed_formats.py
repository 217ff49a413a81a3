"""Formats that label whole videos by lists: HMDB-51, `path label`, Kinetics, Something-Something."""

import json
from pathlib import Path

import pytest

from kineflow import annotations
from kineflow.annotations import hmdb51
from kineflow.annotations.locate import list_annotations
from kineflow.errors import AnnotationError

NAMES = ["#20_(A)!_wave_u_nm_np1_fr_goo_0.avi", "Film_wave_u_cm_np1_ba_med_1.avi", "Film_sit_f_cm_np1_le_bad_2.avi"]
ENTRY = {"id": "7", "label": "spinning a cube", "template": "Spinning [something]", "placeholders": ["a cube"]}


def write(folder: Path, **files: str) -> None:
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)


def labels(found: annotations.Annotations) -> dict[str, tuple[str, str]]:
    return {event.video_id: (event.label, found.roles.get(event.video_id, "")) for event in found.events}


@pytest.mark.parametrize("split", [1, 2, 3])
def test_official_hmdb_counts(shared_data: Path, split: int) -> None:
    found = hmdb51.parse_split(shared_data / "official_splits" / "hmdb51_splits" / f"wave_test_split{split}.txt")
    assert (len(found.names("train")), len(found.names("test")), len(found.classes)) == (3570, 1530, 51)


def test_hmdb(tmp_path: Path) -> None:
    lists = {"wave_test_split1__txt": f"{NAMES[0]} 1 \n{NAMES[1]} 0\n", "sit_test_split1__txt": f"{NAMES[2]} 2\n"}
    write(tmp_path, **lists, sit_test_split2__txt="other.avi 1\n")
    videos = [f"wave/{NAMES[0]}", f"wave/{NAMES[1]}", f"sit/{NAMES[2]}"]
    found = annotations.read("hmdb51", tmp_path / "wave_test_split1.txt", videos=videos)
    assert labels(found) == {videos[2]: ("sit", "test"), videos[0]: ("wave", "train")}
    assert found.groups == {videos[2]: "Film", videos[0]: "#20_(A)!"}
    assert found.classes == ("sit", "wave")
    listed = list_annotations(annotations.find_format("hmdb51"), str(tmp_path / "wave_test_split1.txt"))
    assert {info.key for info in listed} == {"wave_test_split1.txt", "sit_test_split1.txt"}
    with pytest.raises(AnnotationError, match="holds the splits 1, 2; name one list"):
        annotations.read("hmdb51", tmp_path, videos=videos)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a.avi 3\n", r"wave_test_split1\.txt:1: 'a\.avi 3' does not end in 0, 1 or 2"),
        ("a.avi\n", "does not end in 0, 1 or 2"),
        ("zz.avi 1\n", r"wave_test_split1\.txt:1: video 'wave/zz\.avi' is not in the source"),
        ("a.avi 1\na.avi 2\n", r"wave_test_split1\.txt:2: video a\.avi is already in wave_test_split1\.txt:1"),
        ("\n", "lists no video"),
    ],
)
def test_malformed_hmdb(tmp_path: Path, text: str, message: str) -> None:
    write(tmp_path, wave_test_split1__txt=text)
    with pytest.raises(AnnotationError, match=message):
        annotations.read("hmdb51", tmp_path, videos=["a.avi"])


def test_path_label_lists_with_classes_and_roles(tmp_path: Path) -> None:
    write(tmp_path, my_train__csv="x/a b.mp4,1\n", my_val__csv="x/c,d.mp4 0\n", classes__txt="sit down\njump\n")
    found = annotations.read("path_label", tmp_path / "my_train.csv", videos=["x/a b.mp4", "x/c,d.mp4"])
    assert labels(found) == {"x/a b.mp4": ("jump", "train"), "x/c,d.mp4": ("sit down", "val")}
    assert found.classes == ("sit down", "jump")


def test_a_single_list_states_no_role_and_numbers_name_themselves(tmp_path: Path) -> None:
    write(tmp_path, train__txt="a 10\nb.mp4, brush hair\n")
    found = annotations.read("path_label", tmp_path / "train.txt", videos=["a.mp4", "b.mp4"])
    assert labels(found) == {"a.mp4": ("10", ""), "b.mp4": ("brush hair", "")}
    assert found.classes is None


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"l__txt": "a.mp4\n"}, r"l\.txt:1: 'a\.mp4' is not `path label`"),
        ({"l__txt": "a.mp4 2\n", "classes__txt": "x\ny\n"}, r"l\.txt:1: label '2' is none of the 2 classes"),
        ({"l__txt": "zz.mp4 0\n"}, "'zz.mp4' is not in the source"),
        ({"l__txt": ""}, "the list is empty"),
        ({"l__txt": "a.mp4 0\n", "classes__txt": "x\nx\n"}, r"classes\.txt: lists no class, or one twice"),
    ],
)
def test_malformed_path_label(tmp_path: Path, files: dict[str, str], message: str) -> None:
    write(tmp_path, **files)
    with pytest.raises(AnnotationError, match=message):
        annotations.read("path_label", tmp_path / "l.txt", videos=["a.mp4"])


HEADER = "label,youtube_id,time_start,time_end,split\n"


def test_kinetics(tmp_path: Path) -> None:
    write(tmp_path, train__csv=f"{HEADER}jump,-a_b,3,13,train\n", val__csv=f"{HEADER}sit,cd,0,10,validate\n")
    found = annotations.read("kinetics", tmp_path, videos=["jump/-a_b_000003_000013.mp4", "cd.mp4"])
    assert labels(found) == {"jump/-a_b_000003_000013.mp4": ("jump", "train"), "cd.mp4": ("sit", "val")}


def test_kinetics_test_list_has_no_label(tmp_path: Path) -> None:
    test_list = "youtube_id,time_start,time_end,split,is_cc\nunseen,3,13,test,0\n"
    write(tmp_path, train__csv=f"{HEADER}jump,a,3,13,train\n", test__csv=test_list)
    assert labels(annotations.read("kinetics", tmp_path, videos=["a.mp4"])) == {"a.mp4": ("jump", "train")}
    write(tmp_path, test__csv=test_list.replace("test,0", "val,0"))
    with pytest.raises(AnnotationError, match=r"test\.csv:2: no label"):
        annotations.read("kinetics", tmp_path, videos=["a.mp4"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("label,youtube_id\n", r"k\.csv:1: the header lacks time_start, time_end, split"),
        (f"{HEADER}jump,a,x,13,train\n", r"k\.csv:2: time_start 'x'"),
        (f"{HEADER}jump,a,13,3,train\n", "time_end 3 is not after"),
        (f"{HEADER}jump,a,3,13,dev\n", "split 'dev'"),
        (f"{HEADER}jump,zz,3,13,train\n", "'zz_000003_000013' is not in the source"),
        (f"{HEADER}jump,a\n", "2 columns where the header has 5"),
        ("", "the file is empty"),
    ],
)
def test_malformed_kinetics(tmp_path: Path, text: str, message: str) -> None:
    write(tmp_path, k__csv=text)
    with pytest.raises(AnnotationError, match=message):
        annotations.read("kinetics", tmp_path / "k.csv", videos=["a.mp4"])


def test_something_something(tmp_path: Path) -> None:
    other = {"id": 8, "template": "Doing nothing", "placeholders": []}
    write(tmp_path, v2_train__json=json.dumps([ENTRY]), v2_validation__json=json.dumps([other]),
          v2_test__json='[{"id": "9"}]',
          v2_labels__json='{"Doing nothing": "1", "Spinning something": "0"}')  # fmt: skip
    found = annotations.read("something_something", tmp_path / "v2_train.json", videos=["7.webm", "8.webm", "9.webm"])
    assert labels(found) == {"7.webm": ("Spinning something", "train"), "8.webm": ("Doing nothing", "val")}
    assert found.classes == ("Spinning something", "Doing nothing")


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([{"id": "7"}], r"train\.json: \[0\]: 'template' is missing"),
        ([ENTRY | {"template": "Eating [something]"}], "class 'Eating something' is not in labels"),
        ([ENTRY | {"id": "zz"}], "'zz' is not in the source"),
        ({}, "is not a list"),
    ],
)
def test_malformed_something(tmp_path: Path, entries: object, message: str) -> None:
    write(tmp_path, train__json=json.dumps(entries), labels__json='{"Spinning something": "0"}')
    with pytest.raises(AnnotationError, match=message):
        annotations.read("something_something", tmp_path, videos=["7.webm"])


@pytest.mark.parametrize("format_", ["hmdb51", "path_label", "kinetics"])
def test_not_utf8(tmp_path: Path, format_: str) -> None:
    (tmp_path / "a_test_split1.txt").write_bytes(b"a.mp4 1\n\xff\xfe 1\n")
    with pytest.raises(AnnotationError, match=r"a_test_split1\.txt:2: not UTF-8"):
        annotations.read(format_, tmp_path / "a_test_split1.txt", videos=["a.mp4"])


def test_a_folder_is_read_with_its_subfolders_or_refused_by_name(tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    write(inner, val__csv=f"{HEADER}sit,b,0,10,val\n", sit_test_split1__txt="b.avi 2\n", trainlist01__txt="",
          a_labels__json="{}")  # fmt: skip
    write(tmp_path, train__csv=f"{HEADER}jump,a,0,10,train\n", wave_test_split1__txt="a.avi 1\n", trainlist02__txt="",
          b_labels__json="{}")  # fmt: skip
    assert labels(annotations.read("kinetics", tmp_path, videos=["a.mp4", "b.mp4"])) == {
        "a.mp4": ("jump", "train"),
        "b.mp4": ("sit", "val"),
    }
    assert labels(annotations.read("hmdb51", tmp_path, videos=["a.avi", "b.avi"])) == {
        "a.avi": ("wave", "train"),
        "b.avi": ("sit", "test"),
    }
    with pytest.raises(AnnotationError, match=r"the train lists inner/trainlist01\.txt, trainlist02\.txt; name one"):
        annotations.read("ucf101", tmp_path, videos=["a.avi"])
    with pytest.raises(AnnotationError, match=r"the class lists b_labels\.json, inner/a_labels\.json; name a train"):
        annotations.read("something_something", tmp_path, videos=["a.avi"])
