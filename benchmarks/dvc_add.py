"""What DVC takes for two thousand videos: one file of frames each, against a folder of JPEGs each.

Both hold the same JPEGs. Each round has a fresh DVC workspace with the cache settings of this repository, its own copy
of the data, and adds them twice: all of them, and again after one video has changed.
"""

import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import simplejpeg

from benchmarks.overhead import REPOSITORY, run_in
from benchmarks.timing import Comparison, elapsed_sec
from kineflow.video.frame_store import writing_frames

NUM_VIDEOS = 2_000
NUM_FRAMES = 30  # of each: a clip of three seconds; longer videos widen the gap
NUM_ROUNDS = 2
SIDE_PX = 48
Writer = Callable[[Path, int, list[bytes]], None]


def main(*, num_videos: int = NUM_VIDEOS, num_frames: int = NUM_FRAMES) -> list[Comparison]:
    """Time `dvc add` of both forms, and again after one video has changed; minutes."""
    ours: list[tuple[float, float]] = []
    reference: list[tuple[float, float]] = []
    for round_index in range(NUM_ROUNDS):
        forms = [(write_pack, ours), (write_folder, reference)]
        for write, seconds in forms if round_index % 2 == 0 else forms[::-1]:
            with tempfile.TemporaryDirectory() as name:
                seconds.append(add_twice(Path(name), write, num_videos=num_videos, num_frames=num_frames))
    found = [
        Comparison(
            f"dvc add of {num_videos:,} videos, {what} / a folder of {num_frames} JPEGs each",
            tuple(pair[turn] for pair in ours),
            tuple(pair[turn] for pair in reference),
            num_items=num_videos,
            unit="videos",
        )
        for turn, what in enumerate(("one file each", "one of them changed"))
    ]
    for comparison in found:
        print(comparison, flush=True)
    return found


def add_twice(root: Path, write: Writer, *, num_videos: int, num_frames: int) -> tuple[float, float]:
    """Seconds of `dvc add` of all videos, and of all with one changed."""
    data = root / "data"
    data.mkdir()
    for number in range(num_videos):
        write(data, number, jpegs_of(number, num_frames))
    dvc = [sys.executable, "-m", "dvc"]
    run_in(root, ["git", "init", "--quiet"])
    run_in(root, [*dvc, "init", "--quiet"])
    shutil.copyfile(REPOSITORY / ".dvc" / "config", root / ".dvc" / "config")
    add = [*dvc, "add", "--quiet", "data"]
    first_sec = elapsed_sec(lambda: run_in(root, add))
    write(data, 0, jpegs_of(num_videos, num_frames))
    return first_sec, elapsed_sec(lambda: run_in(root, add))


def jpegs_of(seed: int, num_frames: int) -> list[bytes]:
    """The frames of a video, each of its own."""
    noise = np.random.default_rng(seed)
    blocks = noise.integers(0, 256, (num_frames, 6, 6, 3), np.uint8).repeat(SIDE_PX // 6, 1).repeat(SIDE_PX // 6, 2)
    return [simplejpeg.encode_jpeg(np.ascontiguousarray(image), quality=90) for image in blocks]


def write_pack(data: Path, number: int, jpegs: list[bytes]) -> None:
    """Ours: one file."""
    path = data / f"{number:05d}.zip"
    path.unlink(missing_ok=True)  # DVC may have linked it to its cache
    with writing_frames(path, fps=10.0, height=SIDE_PX, width=SIDE_PX, quality=90) as writer:
        for index, jpeg in enumerate(jpegs):
            writer.append(jpeg, source_frame=index, timestamp_sec=index / 10)


def write_folder(data: Path, number: int, jpegs: list[bytes]) -> None:
    """The classic form: one file for each frame."""
    folder = data / f"{number:05d}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for index, jpeg in enumerate(jpegs):
        (folder / f"{index:06d}.jpg").write_bytes(jpeg)


if __name__ == "__main__":
    main()
