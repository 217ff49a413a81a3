"""How surely copies of real clips are found, and that no other clips are taken for copies: the table of the docs.

python -m pytest -q -s -m soak tests/numerics/test_soak_near_copies.py
"""

import random
import shutil
import subprocess
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from itertools import combinations
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from kineflow.video.fingerprint import Moments, find_moments
from kineflow.video.near_copies import find_near_copies
from kineflow.video.probe import probe

Fingerprint = NDArray[np.int16]
PIECE_SEC = 8
EVEN = "crop=trunc(iw/2)*2:trunc(ih/2)*2"
H264 = ["-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p", "-crf"]
# name: start and length as shares of the clip (the start of a trim in seconds), filter, encoder
COPIES: dict[str, tuple[float, float, str, list[str]]] = {
    "quality 32": (0, 1, EVEN, [*H264, "32"]),
    "MPEG-4": (0, 1, EVEN, ["-c:v", "mpeg4", "-q:v", "12"]),
    "half": (0, 1, "scale=trunc(iw/4)*2:trunc(ih/4)*2", [*H264, "23"]),
    "squeezed": (0, 1, "scale=112:112", [*H264, "23"]),
    "bright": (0, 1, f"{EVEN},eq=brightness=0.1:contrast=1.25", [*H264, "23"]),
    "15 fps": (0, 1, f"{EVEN},fps=15", [*H264, "23"]),
    "24 fps": (0, 1, f"{EVEN},fps=24", [*H264, "23"]),
    "trimmed": (0.37, 0.75, EVEN, [*H264, "23"]),
    "middle": (-0.3, 0.45, EVEN, [*H264, "23"]),
    "cropped": (0, 1, "crop=trunc(iw*0.45)*2:trunc(ih*0.45)*2", [*H264, "23"]),
    "all at once": (0.23, 0.75, "crop=trunc(iw*0.46)*2:trunc(ih*0.46)*2,scale=160:120", [*H264, "30"]),
}


def encode(source: Path, target: Path, *, start_sec: float, length_sec: float, filters: str, codec: list[str]) -> None:
    when = ["-ss", f"{start_sec:.3f}"] if start_sec else []  # a seek to zero loses the first key frame of an AVI file
    when += ["-t", f"{length_sec:.3f}"]
    command = ["ffmpeg", "-nostdin", "-v", "error", *when, "-i", str(source), "-an", "-threads", "1", "-vf", filters]
    subprocess.run([*command, *codec, str(target)], check=True)


def duration_sec(path: Path) -> float:
    return probe(path).duration_sec


def fingerprint(path: Path) -> Fingerprint:
    return probe(path).fingerprint


def on_two_cores(paths: Iterable[Path]) -> dict[Path, Fingerprint]:
    paths = list(paths)
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        return dict(zip(paths, pool.map(fingerprint, paths, chunksize=20), strict=True))


@pytest.mark.soak
@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg makes the copies")
def test_copies_are_found_and_other_clips_are_not(tmp_path: Path, shared_data: Path, repository: Path) -> None:
    shutil.copy(repository / "params.yaml", tmp_path)
    subprocess.run(["kineflow", "sample"], cwd=tmp_path, check=True, capture_output=True)
    pieces = tmp_path / "pieces"
    pieces.mkdir()
    for video in sorted((shared_data / "fir_ceiling" / "videos").glob("*.mp4")):
        for k in range(int(duration_sec(video) // PIECE_SEC)):
            span = {"start_sec": k * PIECE_SEC, "length_sec": PIECE_SEC}
            encode(video, pieces / f"{video.stem}.{k:02}.mp4", **span, filters=EVEN, codec=[*H264, "18"])
    sets = {
        "UT-Interaction": sorted((shared_data / "ut_interaction" / "videos").glob("*.avi")),
        "one room": sorted(pieces.iterdir()),
        "sample": sorted((tmp_path / "data" / "sample" / "clips").glob("*.mp4")),
    }
    originals = on_two_cores(path for paths in sets.values() for path in paths)
    assert alarms(originals) == []
    print(f"\nno alarm among {len(originals)} clips, {len(list(combinations(originals, 2)))} pairs")
    chosen = {
        name: random.Random(0).sample(paths, min(len(paths), 60 if "UT" in name else 40))
        for name, paths in sets.items()
    }
    found_in_all = num_in_all = 0
    for copy_name, (start, share, filters, codec) in COPIES.items():
        folder = tmp_path / copy_name
        folder.mkdir()
        jobs = {}
        for source in (path for paths in chosen.values() for path in paths):
            length = duration_sec(source)
            span = {"start_sec": start if start >= 0 else -start * length, "length_sec": share * length}
            jobs[source] = folder / f"{source.parent.name}.{source.stem}.mp4", span
        with ThreadPoolExecutor(2) as pool:
            for done in [
                pool.submit(encode, source, target, **span, filters=filters, codec=codec)
                for source, (target, span) in jobs.items()
            ]:
                done.result()
        copies = on_two_cores(target for target, _ in jobs.values())
        paths, pairs = found_pairs(originals | copies)
        source_of = {target: source for source, (target, _) in jobs.items()}
        right = {(paths[a], paths[b]) for a, b in pairs if source_of.get(paths[b]) == paths[a]}
        assert len(right) == len(pairs), f"{copy_name}: {len(pairs) - len(right)} false alarms"
        cells = []
        for name, sources in chosen.items():
            moving = [source for source in sources if moves(originals[source]) and moves(copies[jobs[source][0]])]
            found = sum((source, jobs[source][0]) in right for source in moving)
            cells.append(f"{name} {found} of {len(moving)}")
            found_in_all, num_in_all = found_in_all + found, num_in_all + len(moving)
        print(f"{copy_name:12} {'; '.join(cells)}")
    print(f"{found_in_all} of {num_in_all} copies found")
    assert found_in_all >= 0.93 * num_in_all


def moves(fingerprint_TC: Fingerprint) -> bool:
    return len(fingerprint_TC) >= 14 and len(find_moments(fingerprint_TC).steps) > 0


def found_pairs(fingerprints: dict[Path, Fingerprint]) -> tuple[list[Path], list[tuple[int, int]]]:
    paths = list(fingerprints)
    moments: list[Moments] = [find_moments(fingerprints[path]) for path in paths]
    pairs = find_near_copies(moments, [str(path) for path in paths], lambda i: fingerprints[paths[i]])
    return paths, [(pair.first, pair.second) for pair in pairs]


def alarms(fingerprints: dict[Path, Fingerprint]) -> list[tuple[str, str]]:
    paths, pairs = found_pairs(fingerprints)
    return [(paths[a].name, paths[b].name) for a, b in pairs]
