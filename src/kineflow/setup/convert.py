"""`kineflow convert`: any readable annotations as BORIS CSV, per-frame CSV or a manifest."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kineflow import storage
from kineflow.annotations import Annotations
from kineflow.annotations.guess import choose_format
from kineflow.annotations.locate import list_videos, local_annotations
from kineflow.annotations.timing import fit_frame_tables
from kineflow.annotations.writers import Written, as_boris_csv, as_frame_csv, as_manifest
from kineflow.errors import DataError, ParamsError
from kineflow.store import home
from kineflow.video.probe_cache import VideoFile, probe_all

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
        DataError: the annotations are malformed, a video is missing or undecodable, or the target cannot hold them.
        ParamsError: an unknown target or format, or `out` exists.
        ServiceError: S3 is out of reach.
    """
    if target not in TARGETS:
        raise ParamsError(f"--to {target!r} is no format to write; known: {', '.join(TARGETS)}")
    if out.exists():
        raise ParamsError(f"{out} exists and would be lost; name another --out")
    keys = [info.key for info in list_videos(videos)]
    known, reason = choose_format(annotations, format, keys)
    found = known.read(local_annotations(annotations, known, home=home()), keys)
    if not found.events and not found.frame_tables:
        raise DataError(f"{annotations}: holds no label; nothing was written")
    if target == "manifest":
        written = as_manifest(found)
    elif target == "boris_csv":
        written = as_boris_csv(found, frame_times(found, videos, points_too=False))
    else:
        written = as_frame_csv(found, frame_times(found, videos, points_too=True))
    _write(written, out)
    return Conversion(known.name, reason, len(written.files), written.notes)


def frame_times(found: Annotations, videos: str, *, points_too: bool) -> dict[str, NDArray[np.float64]]:
    """Times of the frames of the videos whose labels need them, by decoding; kept in the workspace's store.

    Args:
        found: labels of whole videos and of frames need them.
        videos: their folder or s3:// prefix.
        points_too: whether states and points with times need them as well.

    Raises:
        DataError: a video cannot be decoded, or a per-frame table has another number of rows than it has frames.
    """
    wanted = set(found.frame_tables) | {e.video_id for e in found.events if points_too or e.start_sec is None}
    files = []
    for info in list_videos(videos):
        if info.key in wanted:
            sha256 = storage.sha256_of(videos, info, cache_dir=home() / "objects")
            files.append(VideoFile(info.key, storage.join(videos, info.key), sha256, info.num_bytes))
    if not files:
        return {}
    probed, _ = probe_all(files, home=home(), label="frame times")
    for key, result in probed.items():
        if result.reason is not None:
            raise DataError(f"{key}: its frames are needed and {result.reason}; replace the video or its annotations")
    times_sec = {key: result.timestamps_sec() for key, result in probed.items()}
    fit_frame_tables(found.frame_tables, {key: len(times) for key, times in times_sec.items()})
    return times_sec


def _write(written: Written, out: Path) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f".{out.name}.partial")
    if partial.is_dir():
        shutil.rmtree(partial)
    for name, text in written.files.items():
        target = partial / name if name else partial
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
    partial.replace(out)
