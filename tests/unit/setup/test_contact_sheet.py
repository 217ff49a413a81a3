from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kineflow.annotations import Event
from kineflow.errors import DataError, ParamsError
from kineflow.setup import contact_page
from kineflow.setup.contact_page import HEAD_PX, LABEL_PX, THUMB_PX, Strip, draw_page
from kineflow.setup.contact_sheet import draw_contact_sheet
from tests.unit.setup.test_init import encode

EVENTS = (
    "Behavior,Behavior type,Time,Media file name,nest\n"
    "sit,START,0.5,a.mp4,N1\nsit,STOP,1.5,a.mp4,N1\nbite,POINT,1,b.mp4,N2\n"
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("KINEFLOW_HOME", raising=False)
    for key in ("n1/a.mp4", "n2/b.mp4"):
        encode(tmp_path / "v" / key)
    (tmp_path / "events.csv").write_text(EVENTS)
    return tmp_path


def test_every_class_and_group(folder: Path) -> None:
    sheet = draw_contact_sheet("v", "events.csv", None, "column:nest", folder / "sheet.png", num_frames=2)
    assert (sheet.num_classes, sheet.num_groups, sheet.num_empty, sheet.notes) == (2, 2, 2, ())
    assert sheet.pages == (folder / "sheet.png",)
    with Image.open(folder / "sheet.png") as picture:
        pixels = np.asarray(picture.convert("L"), float)
    top, bottom = pixels[30:108], pixels[133:211]  # bite is in the second group only, sit in the first
    middle = pixels.shape[1] // 2 + 20
    assert top[:, middle:].std() > 2 * top[:, 80 : middle - 40].std()
    assert bottom[:, 80 : middle - 40].std() > 2 * bottom[:, middle + 20 :].std()
    with pytest.raises(ParamsError, match=r"a contact sheet is a \.png"):
        draw_contact_sheet("v", "events.csv", None, None, folder / "sheet.pdf")


def test_only_what_holds_against_the_videos_is_drawn(folder: Path) -> None:
    (folder / "late.csv").write_text(EVENTS.replace("1.5,a.mp4", "50,a.mp4"))
    with pytest.raises(DataError, match=r"late\.csv:2: sit is at 50 s but n1/a\.mp4 lasts 2\.000 s"):
        draw_contact_sheet("v", "late.csv", None, None, folder / "sheet.png")
    (folder / "v" / "n2" / "b.mp4").write_bytes(b"no video")
    for name, rows in (("n1/a", 20), ("n2/b", 5)):
        (folder / "labels" / name).parent.mkdir(parents=True)
        (folder / "labels" / f"{name}.csv").write_text("sit,bite\n" + "1,0\n" * rows)
    for labels in ("events.csv", "labels"):
        sheet = draw_contact_sheet("v", labels, None, "folder", folder / "sheet.png")
        assert sheet.notes[0].startswith("1 videos are not shown, for they cannot be decoded: n2/b.mp4 (")
        assert sheet.notes[1:] == ("bite never occurs in the others",)
        assert (sheet.num_classes, sheet.num_groups) == (1, 1)


def test_hundreds_of_classes_go_on_pages_and_the_rest_is_said(folder: Path) -> None:
    rows = [f"behaviour {i},POINT,1,{name}.mp4,{name}" for i in range(25) for name in "ab"]
    (folder / "many.csv").write_text("\n".join([EVENTS.splitlines()[0], *rows]) + "\n")
    options = {"num_frames": 1, "columns": 1, "rows": 10}
    sheet = draw_contact_sheet("v", "many.csv", None, "column:nest", folder / "s.png", **options, max_pages=5)
    assert [page.name for page in sheet.pages] == [f"s-0{i}.png" for i in range(1, 6)]
    assert sheet.notes == ("5 of 6 pages are drawn; see --max-pages, --rows and --columns",)
    heights = []
    for path in sheet.pages:
        with Image.open(path) as page:
            heights.append(page.height)
    assert heights[0] == heights[3] > heights[4]  # 10, 10, 10, 10 and 5 rows


def test_names_stay_inside_their_cells() -> None:
    label = "Pretending or trying and failing to twist something into something else, " * 3
    group = "recording_of_the_first_arena_" * 5
    image = Image.new("RGB", (320, 240), "#777777")
    strip = Strip(Event("day/" + group + ".mp4", label, 1234.5, 2345.6, "", "x"), [image] * 3)
    page = np.asarray(draw_page([label, "x"], [group, "g2"], {(label, group): strip}, num_frames=3).convert("L"))
    left = page.shape[1] - 2 * (3 * (THUMB_PX[0] + 2) - 2 + 10)
    assert left <= LABEL_PX + 24
    assert (page[:, left - 12 : left] == 255).all()  # a white gap right of the labels
    first_end = left + 3 * (THUMB_PX[0] + 2) - 2
    assert (page[: HEAD_PX + 100, first_end + 1 : first_end + 9] == 255).all()  # and right of the first cell


def test_long_names_lose_their_middle_only() -> None:
    font = contact_page._font(13)
    shown = contact_page.fit("20200626_154313_mlx90640_01_light_none.mp4", font, 150)
    head, tail = shown.split("…")
    assert head and tail
    assert "20200626_154313_mlx90640_01_light_none.mp4".startswith(head)
    assert tail.endswith(".mp4")
    assert font.getlength(shown) <= 150
    assert contact_page.fit("g1", font, 150) == "g1"
