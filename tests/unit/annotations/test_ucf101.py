from pathlib import Path

import pytest

from kineflow import annotations
from kineflow.annotations import ucf101
from kineflow.errors import AnnotationError


@pytest.mark.parametrize(("split", "num_train", "num_test"), [(1, 9537, 3783), (2, 9586, 3734), (3, 9624, 3696)])
def test_official_counts(shared_data: Path, split: int, num_train: int, num_test: int) -> None:
    lists = shared_data / "official_splits" / "ucf101_splits"
    found = ucf101.parse_split(lists / f"trainlist0{split}.txt")
    assert (len(found.names("train")), len(found.names("test"))) == (num_train, num_test)
    assert len(found.classes) == 101
    assert found.classes[0] == "ApplyEyeMakeup"
    train_groups = {video.group for video in found.videos if video.role == "train"}
    test_groups = {video.group for video in found.videos if video.role == "test"}
    assert not train_groups & test_groups
    assert train_groups | test_groups == {f"g{i:02d}" for i in range(1, 26)}


def write_lists(folder: Path, *, classes: str = "1 Jump\n2 Sit\n", train: str = "", test: str = "") -> Path:
    (folder / "classInd.txt").write_text(classes)
    (folder / "trainlist01.txt").write_text(train or "Jump/v_Jump_g02_c01.avi 1\nSit/v_Sit_g02_c01.avi 2\n")
    (folder / "testlist01.txt").write_text(test or "Jump/v_Jump_g01_c01.avi\n")
    return folder / "trainlist01.txt"


def test_matches_videos(tmp_path: Path) -> None:
    videos = ["Jump/v_Jump_g01_c01.avi", "Jump/v_Jump_g02_c01.avi", "Sit/v_Sit_g02_c01.avi", "Sit/v_Sit_g09_c01.avi"]
    write_lists(tmp_path)
    found = annotations.read("ucf101", tmp_path, videos=videos)  # a folder with one train list
    assert found.roles == {videos[1]: "train", videos[2]: "train", videos[0]: "test"}
    assert found.groups == {videos[1]: "g02", videos[2]: "g02", videos[0]: "g01"}
    assert [(e.label, e.source) for e in found.events] == [
        ("Jump", "trainlist01.txt:1"),
        ("Sit", "trainlist01.txt:2"),
        ("Jump", "testlist01.txt:1"),
    ]
    assert found.classes == ("Jump", "Sit")


def test_missing_videos_are_named(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match=r"trainlist01\.txt:2: video 'Sit/v_Sit_g02_c01\.avi' is not in"):
        annotations.read("ucf101", write_lists(tmp_path), videos=["Jump/v_Jump_g02_c01.avi", "Jump/v_Jump_g01_c01.avi"])


def test_videos_may_lie_in_one_folder_since_their_names_say_the_class(tmp_path: Path) -> None:
    videos = ["v_Jump_g02_c01.avi", "v_Jump_g01_c01.avi", "v_Sit_g02_c01.avi"]
    found = annotations.read("ucf101", write_lists(tmp_path), videos=videos)
    assert sorted(event.video_id for event in found.events) == sorted(videos)


@pytest.mark.parametrize(
    ("lists", "message"),
    [
        ({"train": "Jump/v_Jump_g02_c01.avi 0\n"}, r"trainlist01\.txt:1: class number '0' is not that of Jump"),
        ({"train": "Run/v_Run_g02_c01.avi 1\n"}, "class 'Run' is not in classInd"),
        ({"test": "Jump/v_Jump.avi\n"}, r"testlist01\.txt:1: 'Jump/v_Jump\.avi' has no _gNN_cNN"),
        ({"classes": "1 Jump\n1 Sit\n"}, r"classInd\.txt:2"),
        ({"classes": "\n"}, "lists no class"),
    ],
)
def test_malformed_lists(tmp_path: Path, lists: dict[str, str], message: str) -> None:
    with pytest.raises(AnnotationError, match=message):
        ucf101.parse_split(write_lists(tmp_path, **lists))


def test_a_folder_with_three_splits_asks_for_one(tmp_path: Path) -> None:
    write_lists(tmp_path)
    (tmp_path / "trainlist02.txt").write_text("")
    with pytest.raises(AnnotationError, match=r"trainlist01\.txt, trainlist02\.txt; name one"):
        ucf101.parse_split(tmp_path)
