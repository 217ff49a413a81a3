"""`kineflow contact-sheet`: one clip of every class and group, as a picture to be looked at before training."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from kineflow import annotations as annotation_formats
from kineflow import storage
from kineflow.annotations import Event
from kineflow.annotations.groups import assign_groups
from kineflow.annotations.guess import guess_format
from kineflow.annotations.locate import list_videos
from kineflow.annotations.writers import states
from kineflow.errors import DataError, DecodeError, ParamsError
from kineflow.setup.convert import frame_times
from kineflow.setup.survey import choose_group_rule
from kineflow.store import home
from kineflow.video.decode import DecodedFrame, decode_frames, open_video

THUMB_PX = (104, 78)  # width, height; the picture is fitted inside
GAP_PX, CAPTION_PX, HEAD_PX = 2, 15, 30
INK, FAINT, PAPER, CELL = "#1b1f24", "#68707a", "#ffffff", "#eef0f2"
POINT_SEC = 1.0  # shown around a point event


@dataclass(frozen=True)
class Sheet:
    """What was drawn: classes by groups, how many cells are empty, and notes on what is not shown."""

    num_classes: int
    num_groups: int
    num_empty: int
    notes: tuple[str, ...]


def draw_contact_sheet(
    videos: str,
    annotations: Path,
    format: str | None,
    group_from: str | None,
    out: Path,
    *,
    num_frames: int = 3,
    max_groups: int = 10,
    max_classes: int = 30,
) -> Sheet:
    """Draw one clip for each class (row) and group (column) into a PNG.

    Args:
        videos: a folder or s3:// prefix.
        annotations: a local file or folder.
        format: guessed if None.
        group_from: rule for groups; chosen from what is found if None.
        out: a `.png`.
        num_frames: of each clip, evenly spread.
        max_groups, max_classes: what is beyond is left out and noted.

    Raises:
        DataError: the annotations are malformed, hold no label, or no clip can be shown.
        ParamsError: `out` is no `.png`, or the format or the rule is unknown.
    """
    if out.suffix.lower() != ".png":
        raise ParamsError(f"{out}: a contact sheet is a .png; name --out so")
    keys = [info.key for info in list_videos(videos)]
    name = format or guess_format(annotations, keys)[0].name
    found = annotation_formats.read(name, annotations, videos=keys)
    rule = group_from or choose_group_rule(keys, found)[0]
    group_of = assign_groups(rule, keys, found)
    events = [event for event in found.events if event.start_sec is None]
    if found.frame_tables:
        events = states(found, frame_times(found, videos, points_too=False))[0]
    events += [event for event in found.events if event.start_sec is not None and not found.frame_tables]
    cells = _choose(events, group_of)
    if not cells:
        raise DataError(f"{annotations}: holds no label of a video in {videos}; there is nothing to draw")
    seen = {label for label, _ in cells}
    classes, groups = (
        [label for label in found.labels if label in seen],
        sorted({group for _, group in cells}, key=_natural),
    )
    notes = [f"{label} never occurs" for label in found.labels if label not in seen]
    for what, all_names, most in (("classes", classes, max_classes), ("groups", groups, max_groups)):
        if len(all_names) > most:
            notes.append(f"the first {most} of {len(all_names)} {what} are shown; see --max-{what}")
            del all_names[most:]
    shown = {cell: event for cell, event in cells.items() if cell[0] in classes and cell[1] in groups}
    strips = {cell: _strip(videos, event, num_frames, notes) for cell, event in shown.items()}
    picture = _compose(classes, groups, strips, shown, num_frames)
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f".{out.name}.partial")
    picture.save(partial, format="PNG")
    partial.replace(out)
    return Sheet(len(classes), len(groups), len(classes) * len(groups) - len(shown), tuple(notes))


def _natural(name: str) -> tuple[int, str]:
    return (len(name) if name.isdecimal() else 0, name)


def _choose(events: Sequence[Event], group_of: Mapping[str, str]) -> dict[tuple[str, str], Event]:
    """The longest event of each class in each group; the first of equals."""
    chosen: dict[tuple[str, str], Event] = {}
    for event in events:
        cell = (event.label, group_of[event.video_id])
        if cell not in chosen or _length_sec(event) > _length_sec(chosen[cell]):
            chosen[cell] = event
    return chosen


def _length_sec(event: Event) -> float:
    return 0.0 if event.start_sec is None or event.stop_sec is None else event.stop_sec - event.start_sec


def _strip(videos: str, event: Event, num_frames: int, notes: list[str]) -> list[Image.Image]:
    """Frames of an event, evenly spread over it; none and a note where the video does not decode."""
    uri = storage.join(videos, event.video_id)
    try:
        path = Path(uri) if not storage.is_s3(uri) else storage.local_file(uri, cache_dir=home() / "objects")
        return [Image.fromarray(frame) for frame in _frames(path, event, num_frames)]
    except DecodeError as err:
        notes.append(f"{event.video_id} is not shown: {err}")
        return []


def _frames(path: Path, event: Event, num_frames: int) -> Iterator[NDArray[np.uint8]]:
    start_sec, stop_sec = event.start_sec or 0.0, event.stop_sec
    if event.start_sec is None:
        stop_sec = _duration_sec(path)
    elif stop_sec is None:
        start_sec, stop_sec = max(0.0, start_sec - POINT_SEC / 2), start_sec + POINT_SEC / 2
    assert stop_sec is not None
    wanted = [start_sec + (stop_sec - start_sec) * (i + 0.5) / num_frames for i in range(num_frames)]
    previous = None
    with open_video(path) as (container, stream):
        for frame in decode_frames(container, stream):
            while wanted and frame.timestamp_sec >= wanted[0] and previous is not None:
                yield _upright(previous)
                wanted.pop(0)
            previous = frame
            if not wanted:
                return
    for _ in wanted:
        if previous is not None:
            yield _upright(previous)


def _upright(frame: DecodedFrame) -> NDArray[np.uint8]:
    image = frame.image.to_ndarray(format="rgb24")
    return np.ascontiguousarray(np.rot90(image, frame.rotation_deg // 90))


def _duration_sec(path: Path) -> float:
    with open_video(path) as (container, stream):
        last = 0.0
        for frame in decode_frames(container, stream):
            last = frame.timestamp_sec
    return last


def _compose(
    classes: Sequence[str],
    groups: Sequence[str],
    strips: Mapping[tuple[str, str], Sequence[Image.Image]],
    events: Mapping[tuple[str, str], Event],
    num_frames: int,
) -> Image.Image:
    bold, plain, small = _font(15, bold=True), _font(13), _font(11)
    left = max(int(bold.getlength(label)) for label in classes) + 24
    width, height = num_frames * (THUMB_PX[0] + GAP_PX) + 10, THUMB_PX[1] + CAPTION_PX + 10
    sheet = Image.new("RGB", (left + len(groups) * width + 8, HEAD_PX + len(classes) * height + 8), PAPER)
    pen = ImageDraw.Draw(sheet)
    for column, group in enumerate(groups):
        pen.text((left + column * width, 8), _fit(group, plain, width - 12), INK, font=plain)
    for row, label in enumerate(classes):
        top = HEAD_PX + row * height
        pen.text((10, top + THUMB_PX[1] // 2 - 10), label, INK, font=bold)
        for column, group in enumerate(groups):
            cell, x = (label, group), left + column * width
            if not strips.get(cell):
                pen.rectangle((x, top, x + width - 12, top + THUMB_PX[1]), outline=CELL)
                text = "none" if cell not in events else "not decodable"
                pen.text((x + width // 2 - 20, top + THUMB_PX[1] // 2 - 8), text, FAINT, font=small)
                continue
            for i, image in enumerate(strips[cell]):
                place = (x + i * (THUMB_PX[0] + GAP_PX), top)
                pen.rectangle((*place, place[0] + THUMB_PX[0] - 1, top + THUMB_PX[1] - 1), fill=CELL)
                thumb = image.copy()
                thumb.thumbnail(THUMB_PX)
                sheet.paste(
                    thumb, (place[0] + (THUMB_PX[0] - thumb.width) // 2, top + (THUMB_PX[1] - thumb.height) // 2)
                )
            caption = _fit(_caption(events[cell]), small, width - 12)
            pen.text((x, top + THUMB_PX[1] + 1), caption, FAINT, font=small)
    return sheet


def _caption(event: Event) -> str:
    if event.start_sec is None:
        return event.video_id
    stop = "" if event.stop_sec is None else f"-{event.stop_sec:.1f}"
    return f"{event.start_sec:.1f}{stop} s  {event.video_id}"


def _fit(text: str, font: ImageFont.FreeTypeFont, width_px: int) -> str:
    """The text, its end kept where it is too long."""
    if font.getlength(text) <= width_px:
        return text
    while text and font.getlength(f"…{text}") > width_px:
        text = text[1:]
    return f"…{text}"


def _font(size_px: int, *, bold: bool = False) -> ImageFont.FreeTypeFont:
    from matplotlib import get_data_path  # it brings the font, so that every machine has the same

    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(Path(get_data_path()) / "fonts" / "ttf" / name), size_px)
