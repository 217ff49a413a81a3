from pathlib import Path
from typing import get_args

import pytest

from kineflow import annotations
from kineflow.errors import AnnotationError, ParamsError
from kineflow.params import DataParams


def test_params_allow_the_registered_formats() -> None:
    allowed = get_args(DataParams.model_fields["format"].annotation)
    assert allowed == tuple(known.name for known in annotations.FORMATS)


def test_unknown_format_names_the_known_nearest_first() -> None:
    with pytest.raises(ParamsError, match="known: boris_csv, class_folders"):
        annotations.read("boris", Path("x"), videos=[])


def test_class_folders() -> None:
    videos = ["sit/b.mp4", "jump/day1/a.mp4", "jump/c.mp4"]
    found = annotations.read("class_folders", Path("unused"), videos=videos)
    assert [(e.video_id, e.label) for e in found.events] == [
        ("jump/c.mp4", "jump"),
        ("jump/day1/a.mp4", "jump"),
        ("sit/b.mp4", "sit"),
    ]
    assert found.classes == ("jump", "sit")


def test_class_folders_refuse_a_video_outside() -> None:
    with pytest.raises(AnnotationError, match=r"loose\.mp4: the video is in no class folder"):
        annotations.read("class_folders", Path("unused"), videos=["sit/b.mp4", "loose.mp4"])
