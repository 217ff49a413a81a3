"""Write the sample: H.264 videos in MP4, two BORIS tables, and `sample.json`, which says what they came from.

Layout:
    clips/*.mp4, clips.csv      short clips, each one state event from start to end
    videos/*.mp4, videos.csv    long videos with successive bouts
    sample.json                 the spec and the version of the painter
"""

import errno
import io
import json
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from dataclasses import asdict
from fractions import Fraction
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from kineflow.atomic import PREFIX, replacing, write_text
from kineflow.errors import ParamsError, StorageFullError
from kineflow.sample import boris
from kineflow.sample.animal import Sprites, draw_animal, make_sprites
from kineflow.sample.arena import SUPERSAMPLE, Arena, make_arena, make_view, paint_target, see, to_canvas
from kineflow.sample.motion import poses_of
from kineflow.sample.spec import PlannedVideo, SampleSpec, arena_name, generator, plan_videos

# Goes up whenever the same spec gives other bytes.
CODE_VERSION = 3
CRF = "18"
# The AVX-512 path of x264's lookahead gives other bytes now and then, in up to one encoding of twenty-five.
X264_PARAMS = "cpu-independent=1"
# Below this many frames a pool of processes starts more slowly than one process paints.
FRAMES_WORTH_A_POOL = 1500

PARTS = frozenset({"clips", "videos", "clips.csv", "videos.csv", "sample.json"})

Progress = Callable[[int, int], None]


def render_sample(
    out_dir: Path, spec: SampleSpec, *, progress: Progress | None = None, num_workers: int | None = None
) -> Path:
    """Render the sample data set, or what is missing of it.

    The videos are painted in a folder beside `out_dir` that becomes `out_dir` when all are there; killed, the next call
    goes on where it stopped. A complete sample of the same spec is left alone.

    Args:
        out_dir: where the sample goes; absent, empty, or holding an earlier sample, which is then replaced.
        spec: what to render.
        progress: called with the numbers of videos done and wanted, after each video.
        num_workers: processes, None for one per core; 1 paints in this process. More than one are spawned, so a script
            that calls this needs the usual `if __name__ == "__main__"` guard.

    Returns:
        `out_dir`.

    Raises:
        ParamsError: `out_dir` holds files that are not a sample.
        StorageFullError: the disk has no room.
    """
    out_dir = Path(out_dir).absolute()
    videos = plan_videos(spec)
    try:
        known = _known_sample(out_dir)
        if known == _description(spec):
            _render_missing(out_dir, spec, videos, progress, num_workers)
            return out_dir
        building = out_dir.parent / f".{out_dir.name}.rendering"
        if _known_sample(building) != _description(spec):
            shutil.rmtree(building, ignore_errors=True)
            building.mkdir(parents=True)
            write_text(building / "sample.json", _description(spec))
        _render_missing(building, spec, videos, progress, num_workers)
        for scrap in list(building.rglob(f"{PREFIX}*")):
            scrap.unlink(missing_ok=True)
        old = out_dir.parent / f".{out_dir.name}.replaced"
        shutil.rmtree(old, ignore_errors=True)
        if out_dir.exists():
            out_dir.rename(old)
        building.rename(out_dir)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as err:
        if err.errno == errno.ENOSPC:
            raise StorageFullError(
                f"The disk that holds {out_dir} is full; make room and render the sample again."
            ) from err
        raise
    return out_dir


def render_video(path: Path, spec: SampleSpec, index: int) -> None:
    """Render one video of the sample to a file, whole or not at all.

    Args:
        path: the file to write.
        spec: the sample that the video belongs to.
        index: which one of `plan_videos(spec)`.

    Raises:
        OSError: the file cannot be written.
    """
    video = plan_videos(spec)[index]
    content = encoded(frames_of(spec, video), fps=spec.fps, size_px=spec.size_px)
    with replacing(path) as partial:
        partial.write_bytes(content)


def frames_of(spec: SampleSpec, video: PlannedVideo) -> Iterator[NDArray[np.uint8]]:
    """Paint the frames of a video one by one: uint8 (size_px, size_px, 3), RGB."""
    arena, floor, sprites = _stage(spec, video.group)
    rng = generator(spec, f"scene/{video.scene_key}")
    view = make_view(rng)
    poses = poses_of(video, fps=spec.fps, target_xy=view.target_xy, rng=rng)
    empty = floor.copy()
    paint_target(empty, arena, view, spec.size_px)
    # The sensor knows neither scene nor behaviour: it has a seed of its own.
    rng = generator(spec, f"sensor/{video.name}")
    scale_px = float(spec.size_px * SUPERSAMPLE)
    shadow_px = (arena.shadow_xy[0] * scale_px, arena.shadow_xy[1] * scale_px)
    noise = rng.normal(0, arena.noise_sigma, (2 * spec.size_px, 2 * spec.size_px, 3)).astype(np.float32)
    flicker_phase = rng.uniform(0, 2 * np.pi)
    for i, pose in enumerate(poses):
        canvas = empty.copy()
        centre_px = to_canvas((float(pose["x"]), float(pose["y"])), spec.size_px)
        draw_animal(canvas, pose, sprites, centre_px=centre_px, scale_px=scale_px, shadow_px=shadow_px)
        gain = 1 + arena.flicker * np.sin(2 * np.pi * arena.flicker_hz * i / spec.fps + flicker_phase)
        shake_xy = rng.normal(0, arena.shake_px, 2)
        seen = see(canvas, arena, view, size_px=spec.size_px, shake_xy=shake_xy, gain=float(gain))
        top, left = rng.integers(0, spec.size_px, 2)
        seen += noise[top : top + spec.size_px, left : left + spec.size_px]
        yield np.clip(seen, 0, 255).astype(np.uint8)


@lru_cache(maxsize=2)
def _stage(spec: SampleSpec, group: int) -> tuple[Arena, NDArray[np.uint8], Sprites]:
    """Arena, floor and animal of a group; kept, because videos come group by group."""
    arena = make_arena(spec, group)
    rng = generator(spec, f"animal/{arena_name(group)}")
    scale_px = spec.size_px * SUPERSAMPLE * arena.animal_scale
    return arena, arena.floor, make_sprites(arena.style.coat, scale_px=scale_px, rng=rng)


def encoded(frames: Iterator[NDArray[np.uint8]], *, fps: int, size_px: int) -> bytes:
    """Encode frames as H.264; one thread, no clock and no shortcut of this CPU: the same frames give the same bytes."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=Fraction(fps))
        stream.width = stream.height = size_px
        stream.pix_fmt = "yuv420p"
        stream.thread_count = 1
        stream.options = {"crf": CRF, "preset": "veryfast", "threads": "1", "g": "24", "x264-params": X264_PARAMS}
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    return file.getvalue()


def _description(spec: SampleSpec) -> str:
    """What `sample.json` holds."""
    return json.dumps({"code_version": CODE_VERSION, "spec": asdict(spec)}, indent=2) + "\n"


def _known_sample(folder: Path) -> str | None:
    """Read a folder's `sample.json`; None for a folder that is absent or empty."""
    if not folder.exists() or all(_is_scrap(entry) for entry in folder.iterdir()):
        return None
    strangers = sorted(entry.name for entry in folder.iterdir() if entry.name not in PARTS and not _is_scrap(entry))
    if strangers or not (folder / "sample.json").is_file():
        what = f"holds {strangers[0]}, which is no part of" if strangers else "is not empty and is not"
        raise ParamsError(f"{folder} {what} a rendered sample; give the sample a folder of its own.")
    return (folder / "sample.json").read_text()


def _is_scrap(path: Path) -> bool:
    """Whether a path is what a killed process left half-written."""
    return path.name.startswith(PREFIX)


def _render_missing(
    folder: Path,
    spec: SampleSpec,
    videos: tuple[PlannedVideo, ...],
    progress: Progress | None,
    num_workers: int | None,
) -> None:
    """Render what is not in the folder yet, tables included."""
    for kind, is_long in (("clips", False), ("videos", True)):
        chosen = [video for video in videos if video.is_long is is_long]
        table = folder / f"{kind}.csv"
        if chosen and not table.exists():
            write_text(table, boris.events_csv(spec, chosen))
        if chosen:
            (folder / kind).mkdir(exist_ok=True)
    missing = [index for index, video in enumerate(videos) if not (folder / video.name).exists()]
    done = len(videos) - len(missing)
    for _ in _rendered(folder, spec, videos, missing, num_workers):
        done += 1
        if progress is not None:
            progress(done, len(videos))


def _rendered(
    folder: Path,
    spec: SampleSpec,
    videos: tuple[PlannedVideo, ...],
    missing: list[int],
    num_workers: int | None,
) -> Iterator[int]:
    """Render videos, here or in a pool; yield the index of each as it is done."""
    num_frames = sum(videos[index].num_frames for index in missing)
    wanted = len(os.sched_getaffinity(0)) if num_workers is None else num_workers
    if wanted <= 1 or len(missing) < 2 or (num_workers is None and num_frames < FRAMES_WORTH_A_POOL):
        for index in missing:
            render_video(folder / videos[index].name, spec, index)
            yield index
        return
    with ProcessPoolExecutor(
        min(wanted, len(missing)), mp_context=get_context("spawn"), initializer=cv2.setNumThreads, initargs=(1,)
    ) as pool:
        # Long ones first, so that no worker is left with one at the end.
        order = sorted(missing, key=lambda index: (not videos[index].is_long, index))
        futures = {pool.submit(render_video, folder / videos[index].name, spec, index): index for index in order}
        try:
            waiting = set(futures)
            while waiting:
                finished, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                for future in finished:
                    future.result()
                    yield futures[future]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
