"""`kineflow convert`: any readable annotations as BORIS CSV, per-frame CSV or a manifest."""

from dataclasses import dataclass, replace
from pathlib import Path

from kineflow.annotations import Annotations
from kineflow.annotations.guess import choose_format
from kineflow.annotations.locate import list_videos, local_annotations
from kineflow.annotations.writers import Written, as_boris_csv, as_frame_csv, as_manifest
from kineflow.atomic import replacing
from kineflow.errors import DataError, ParamsError
from kineflow.setup.against_videos import hold_against_videos, named, without_videos
from kineflow.setup.out_path import require_place
from kineflow.store import home

TARGETS = ("boris_csv", "frame_csv", "manifest")


@dataclass(frozen=True)
class Conversion:
    """The format that was read and why, the files written, and what the target could not hold."""

    source_format: str
    reason: str
    num_files: int
    notes: tuple[str, ...]


def convert(annotations: str, videos: str, format: str | None, target: str, out: Path) -> Conversion:
    """Read `annotations` and write them to `out`, whole or not at all.

    Args:
        annotations: a file or folder, or their s3:// URI.
        videos: the folder or s3:// prefix that they are about.
        format: one of `kineflow.annotations.FORMATS`; guessed if None.
        target: one of `TARGETS`.
        out: the file to write, or, for `frame_csv`, the folder to make.

    Raises:
        DataError: the annotations are malformed or do not fit the videos, or the target cannot hold them.
        ParamsError: an unknown target or format, or `out` exists or cannot be written.
        ServiceError: S3 is out of reach.
    """
    if target not in TARGETS:
        raise ParamsError(f"--to {target!r} is no format to write; known: {', '.join(TARGETS)}")
    if out.exists():
        raise ParamsError(f"{out} exists and would be lost; name another --out")
    require_place(out)
    keys = [info.key for info in list_videos(videos)]
    known, reason = choose_format(annotations, format, keys)
    found = known.read(local_annotations(annotations, known, home=home()), keys)
    if not found.events and not found.frame_tables:
        raise DataError(f"{annotations}: holds no label; nothing was written")
    written = as_manifest(found) if target == "manifest" else _with_times(found, videos, target)
    _write(written, out)
    return Conversion(known.name, reason, len(written.files), written.notes)


def _with_times(found: Annotations, videos: str, target: str) -> Written:
    """What holds against the videos; of a video that cannot be decoded, what needs no frames."""
    held = hold_against_videos(found, videos)
    broken = [f"{key} ({reason})" for key, reason in held.unreadable.items()]
    if target == "frame_csv":
        notes = named(f"{len(broken)} videos are left out, for they cannot be decoded", broken)
        written = as_frame_csv(without_videos(found, set(held.unreadable)), held.times_sec)
    else:
        notes = named(f"{len(broken)} videos cannot be decoded; only events with times are written, unchecked", broken)
        unplaced = without_videos(found, set(held.unreadable))
        timed = [e for e in found.events if e.video_id in held.unreadable and e.start_sec is not None]
        written = as_boris_csv(replace(unplaced, events=[*unplaced.events, *timed]), held.times_sec)
    return replace(written, notes=(*notes, *held.notes, *written.notes))


def _write(written: Written, out: Path) -> None:
    with replacing(out) as partial:
        for name, text in written.files.items():
            target = partial / name if name else partial
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8")
