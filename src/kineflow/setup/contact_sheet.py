"""`kineflow contact-sheet`: one clip of every class and group, as a picture to be looked at before training."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from kineflow import storage
from kineflow.annotations import Annotations, Event
from kineflow.annotations.groups import assign_groups
from kineflow.annotations.guess import choose_format
from kineflow.annotations.locate import list_videos, local_annotations
from kineflow.annotations.writers import states
from kineflow.errors import DataError, DecodeError, ParamsError
from kineflow.setup.against_videos import Held, hold_against_videos, named, without_videos
from kineflow.setup.contact_page import THUMB_PX, Strip, draw_page, save_page
from kineflow.setup.out_path import require_place
from kineflow.setup.survey import choose_group_rule
from kineflow.store import home
from kineflow.video.thumbnails import last_shown_sec, thumbnails

POINT_SEC = 1.0  # shown around a point event


@dataclass(frozen=True)
class Sheet:
    """What was drawn: the pages, classes by groups, how many cells are empty, and notes on what is not shown."""

    pages: tuple[Path, ...]
    num_classes: int
    num_groups: int
    num_empty: int
    notes: tuple[str, ...]


def draw_contact_sheet(
    videos: str,
    annotations: str,
    format: str | None,
    group_from: str | None,
    out: Path,
    *,
    num_frames: int = 3,
    columns: int = 5,
    rows: int = 10,
    max_pages: int = 20,
) -> Sheet:
    """Draw one clip for each class (row) and group (column) into a PNG, or into several that a screen can show.

    Args:
        videos: a folder or s3:// prefix.
        annotations: a file or folder, or their s3:// URI.
        format: guessed if None.
        group_from: rule for groups; chosen from what is found if None.
        out: a `.png`; pages of several are numbered, `sheet-01.png`.
        num_frames: of each clip, evenly spread.
        columns, rows: groups and classes of a page.
        max_pages: what is beyond is left out and noted.

    Raises:
        DataError: the annotations are malformed or do not fit the videos, hold no label, or no clip can be shown.
        ParamsError: `out` is no `.png` or cannot be written, or the format or the rule is unknown.
        ServiceError: S3 is out of reach.
    """
    if out.suffix.lower() != ".png":
        raise ParamsError(f"{out}: a contact sheet is a .png; name --out so")
    require_place(out)
    keys = [info.key for info in list_videos(videos)]
    known, _ = choose_format(annotations, format, keys)
    found = known.read(local_annotations(annotations, known, home=home()), keys)
    group_of = assign_groups(group_from or choose_group_rule(keys, found)[0], keys, found)
    held = hold_against_videos(found, videos, whole_videos=False)
    cells = _choose(_events(without_videos(found, set(held.unreadable)), held), group_of)
    if not cells:
        raise DataError(f"{annotations}: holds no label of a video in {videos}; there is nothing to draw")
    seen = {label for label, _ in cells}
    classes = [label for label in found.labels if label in seen]
    groups = sorted({group for _, group in cells}, key=_natural)
    broken = [f"{key} ({reason})" for key, reason in held.unreadable.items()]
    notes = [*named(f"{len(broken)} videos are not shown, for they cannot be decoded", broken), *held.notes]
    where = " in the others" if broken else ""
    notes += [f"{label} never occurs{where}" for label in found.labels if label not in seen]
    blocks = [(some, others) for some in _parts(classes, rows) for others in _parts(groups, columns)]
    if len(blocks) > max_pages:
        notes.append(f"{max_pages} of {len(blocks)} pages are drawn; see --max-pages, --rows and --columns")
    pages = []
    for number, (some, others) in enumerate(blocks[:max_pages], start=1):
        shown = {(label, group): cells[label, group] for label in some for group in others if (label, group) in cells}
        strips = _strips(videos, shown, num_frames, notes)
        path = out if len(blocks) == 1 else out.with_stem(f"{out.stem}-{number:02d}")
        save_page(draw_page(some, others, strips, num_frames=num_frames), path)
        pages.append(path)
    return Sheet(tuple(pages), len(classes), len(groups), len(classes) * len(groups) - len(cells), tuple(notes))


def _events(found: Annotations, held: Held) -> list[Event]:
    """All labels, those of frames as states."""
    return states(found, held.times_sec)[0] if found.frame_tables else list(found.events)


def _parts(names: Sequence[str], size: int) -> list[Sequence[str]]:
    return [names[start : start + size] for start in range(0, len(names), size)]


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


def _strips(
    videos: str, shown: Mapping[tuple[str, str], Event], num_frames: int, notes: list[str]
) -> dict[tuple[str, str], Strip]:
    """What each cell shows; each video is opened once, for all of its cells."""
    cells_of: dict[str, list[tuple[str, str]]] = {}
    for cell, event in shown.items():
        cells_of.setdefault(event.video_id, []).append(cell)
    frames: dict[tuple[str, str], list[Image.Image]] = {}
    for video_id, cells in cells_of.items():
        uri = storage.join(videos, video_id)
        try:
            path = Path(uri) if not storage.is_s3(uri) else storage.local_file(uri, cache_dir=home() / "objects")
            times_sec = [time for cell in cells for time in _moments(path, shown[cell], num_frames)]
            thumbs = thumbnails(path, times_sec, size_px=THUMB_PX)
            frames |= {cell: thumbs[i * num_frames : (i + 1) * num_frames] for i, cell in enumerate(cells)}
        except DecodeError as err:
            notes.append(f"{video_id} is not shown: {err}")
    return {cell: Strip(event, frames.get(cell, [])) for cell, event in shown.items()}


def _moments(path: Path, event: Event, num_frames: int) -> list[float]:
    """Times in the video, evenly spread over an event."""
    start_sec, stop_sec = event.start_sec or 0.0, event.stop_sec
    if event.start_sec is None:
        stop_sec = last_shown_sec(path)
    elif stop_sec is None:
        start_sec, stop_sec = max(0.0, start_sec - POINT_SEC / 2), start_sec + POINT_SEC / 2
    assert stop_sec is not None
    return [start_sec + (stop_sec - start_sec) * (i + 0.5) / num_frames for i in range(num_frames)]
