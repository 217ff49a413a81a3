from pathlib import Path

import pytest

from kineflow.annotations.roi_boxes import Box, read_boxes
from kineflow.errors import AnnotationError


def test_boxes_by_video(tmp_path: Path) -> None:
    path = tmp_path / "boxes.csv"
    path.write_text("video,x,y,width,height\na.mp4,0,20,300,200\nsub/b.mp4,5,6,7,8\n")
    assert read_boxes(path) == {"a.mp4": Box(0, 20, 300, 200), "sub/b.mp4": Box(5, 6, 7, 8)}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "boxes.csv: no header"),
        ("video,x,y,width\na,1,1,1\n", "boxes.csv:1: the header lacks height"),
        ("video,x,y,width,height\na,1,1,5\n", "boxes.csv:2: 4 columns"),
        ("video,x,y,width,height\na,1,1,5,0\n", "boxes.csv:2: height is '0'"),
        ("video,x,y,width,height\na,-1,1,5,5\n", "boxes.csv:2: x is '-1'"),
        ("video,x,y,width,height\na,1,1.5,5,5\n", "boxes.csv:2: y is '1.5'"),
        ("video,x,y,width,height\na,1,1,5,5\na,1,1,5,6\n", "boxes.csv:3: a has a box above already"),
    ],
)
def test_wrong_rows_are_refused_by_row(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "boxes.csv"
    path.write_text(text)
    with pytest.raises(AnnotationError, match=message):
        read_boxes(path)
