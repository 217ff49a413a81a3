"""One page of a contact sheet: classes are rows, groups are columns, each cell a strip of frames with a caption."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from kineflow.annotations import Event
from kineflow.atomic import replacing

THUMB_PX = (104, 78)  # width, height; the picture is fitted inside
GAP_PX, CAPTION_PX, HEAD_PX = 2, 15, 30
CELL_GAP_PX = 10
LABEL_PX, LABEL_LINES = 190, 4  # widest column of labels; lines that a long label is broken into
INK, FAINT, PAPER, CELL = "#1b1f24", "#68707a", "#ffffff", "#eef0f2"


@dataclass(frozen=True)
class Strip:
    """What a cell shows: the clip and its frames, none where it cannot be decoded; and what its caption begins with."""

    event: Event
    frames: Sequence[Image.Image]
    note: str = ""


def draw_page(
    classes: Sequence[str], groups: Sequence[str], strips: Mapping[tuple[str, str], Strip], *, num_frames: int
) -> Image.Image:
    """The picture of some classes and groups.

    Args:
        classes: rows, from above.
        groups: columns, from the left.
        strips: by class and group; a cell without one says "none".
        num_frames: of each strip.
    """
    bold, plain = _font(15, bold=True), _font(13)
    labels = [_wrap(label, bold, LABEL_PX) for label in classes]
    left = max(int(bold.getlength(line)) for lines in labels for line in lines) + 24
    strip_px = num_frames * (THUMB_PX[0] + GAP_PX) - GAP_PX
    width, height = strip_px + CELL_GAP_PX, THUMB_PX[1] + CAPTION_PX + CELL_GAP_PX
    page = Image.new("RGB", (left + len(groups) * width, HEAD_PX + len(classes) * height), PAPER)
    pen = ImageDraw.Draw(page)
    for column, group in enumerate(groups):
        pen.text((left + column * width, 8), fit(group, plain, strip_px), INK, font=plain)
    for row, lines in enumerate(labels):
        top = HEAD_PX + row * height
        middle = top + THUMB_PX[1] // 2 - len(lines) * 9
        for i, line in enumerate(lines):
            pen.text((10, middle + i * 18), line, INK, font=bold)
        for column, group in enumerate(groups):
            strip = strips.get((classes[row], group))
            _draw_cell(page, pen, strip, (left + column * width, top), strip_px)
    return page


def save_page(page: Image.Image, out: Path) -> None:
    """Write a `.png`, whole or not at all."""
    with replacing(out) as partial:
        page.save(partial, format="PNG")


def _draw_cell(
    page: Image.Image, pen: ImageDraw.ImageDraw, strip: Strip | None, corner: tuple[int, int], width_px: int
) -> None:
    small, (x, top) = _font(11), corner
    if strip is None or not strip.frames:
        pen.rectangle((x, top, x + width_px - 1, top + THUMB_PX[1] - 1), outline=CELL)
        text = "none" if strip is None else "cannot be decoded"
        pen.text((x + (width_px - small.getlength(text)) / 2, top + THUMB_PX[1] // 2 - 8), text, FAINT, font=small)
    else:
        for i, image in enumerate(strip.frames):
            place_x = x + i * (THUMB_PX[0] + GAP_PX)
            pen.rectangle((place_x, top, place_x + THUMB_PX[0] - 1, top + THUMB_PX[1] - 1), fill=CELL)
            thumb = image.copy()
            thumb.thumbnail(THUMB_PX)
            page.paste(thumb, (place_x + (THUMB_PX[0] - thumb.width) // 2, top + (THUMB_PX[1] - thumb.height) // 2))
    if strip is not None:
        time = strip.note + _times(strip.event)
        name = fit(strip.event.video_id, small, width_px - int(small.getlength(time)))
        pen.text((x, top + THUMB_PX[1] + 1), time + name, FAINT, font=small)


def _times(event: Event) -> str:
    if event.start_sec is None:
        return ""
    stop = "" if event.stop_sec is None else f"-{event.stop_sec:.1f}"
    return f"{event.start_sec:.1f}{stop} s  "


def fit(text: str, font: ImageFont.FreeTypeFont, width_px: int) -> str:
    """The text, its middle left out where it is too long: names of recordings differ at either end."""
    if font.getlength(text) <= width_px:
        return text
    kept = len(text) - 1
    while kept > 0:
        shorter = f"{text[: (kept + 1) // 2]}…{text[len(text) - kept // 2 :]}"
        if font.getlength(shorter) <= width_px:
            return shorter
        kept -= 1
    return "…"


def _wrap(text: str, font: ImageFont.FreeTypeFont, width_px: int) -> list[str]:
    """Lines broken at blanks; a word that is too long is shortened, and so is what remains for the last line."""
    lines: list[str] = []
    words = text.split()
    while words and len(lines) < LABEL_LINES - 1:
        line = words.pop(0)
        while words and font.getlength(f"{line} {words[0]}") <= width_px:
            line += f" {words.pop(0)}"
        lines.append(fit(line, font, width_px))
    return [*lines, fit(" ".join(words), font, width_px)] if words else lines


def _font(size_px: int, *, bold: bool = False) -> ImageFont.FreeTypeFont:
    from matplotlib import get_data_path  # it brings the font, so that every machine has the same

    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(Path(get_data_path()) / "fonts" / "ttf" / name), size_px)
