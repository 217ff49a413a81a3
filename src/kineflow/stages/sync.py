"""Look at the source: which videos and annotation files are there, and what is in them.

`data/sources.tsv` is a function of the content alone. What lets an unchanged file go unread (its size with its
modification time or ETag) is kept in `store.home()`, so a no-change sync only lists.
"""

import json
import os
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from kineflow import storage
from kineflow.annotations import find_format
from kineflow.annotations.locate import annotation_root, list_annotations, list_videos
from kineflow.atomic import write_text
from kineflow.errors import ParamsError
from kineflow.params import NETWORK_NAMES, Params, SampleParams, as_json
from kineflow.stages import paths
from kineflow.stages.pulled_results import adopt_pulled_results
from kineflow.stages.source_manifest import Source, write_sources
from kineflow.stages.stage import StageReport
from kineflow.stages.starting_weights import find_starting_weights
from kineflow.stages.weights_manifest import write_weights
from kineflow.storage import FileInfo
from kineflow.store import digest, home
from kineflow.video.pose_files import list_pose_files
from kineflow.video.region_files import list_region_files

PARAMS = (
    "data",
    "sample",
    "frames.roi",
    "pose",
    *(f"embed.{key}" for key in ("enabled", "backbone", "weights")),
    *(f"streams.{name}.{key}" for name in NETWORK_NAMES for key in ("enabled", "model", "weights")),
)
# A file may change again within one tick of a coarse clock, with its size and time unchanged.
SETTLED_NS = 2_000_000_000
NUM_THREADS = 8
PROGRESS_SEC = 2.0
OUTS = (
    paths.RAW,
    paths.TABLES,
    paths.FRAMES,
    paths.FLOW,
    paths.POSE,
    paths.EMBEDDINGS,
    paths.SPLITS,
    paths.MODELS,
    paths.PLOTS,
)


def run(params: Params, report: StageReport) -> None:
    """Write `data/sources.tsv` and `data/weights.tsv`.

    Raises:
        DataError: the source or the annotations are missing, or the source holds no video.
        ParamsError: a checkpoint that params name is not there.
        ServiceError: S3, the registry or a publisher of weights is out of reach.
    """
    pose_path = params.pose.path if params.streams.pose.enabled else None
    given = {"data.source": params.data.source, "data.annotations": params.data.annotations, "pose.path": pose_path}
    check_apart({name: path for name, path in given.items() if path is not None})
    storage.sweep(home() / "objects")
    if num_adopted := adopt_pulled_results():
        report.note(f"{num_adopted} results that were pulled are in the store now")
    if params.sample is not None:
        _render_sample(params.sample)
    format_ = find_format(params.data.format)
    videos = list_videos(params.data.source)
    annotations = list_annotations(format_, params.data.annotations)
    rows = [("video", params.data.source, info) for info in videos]
    rows += [("annotation", annotation_root(params.data.annotations), info) for info in annotations]
    rows += [("roi", root, info) for root, info in list_region_files(params.frames.roi.path)]
    if pose_path is not None:
        rows += [("pose", pose_path, info) for info in list_pose_files(pose_path, param="pose.path")]
    hashes, num_hashed = _hash_all([(root, info) for _, root, info in rows])
    sources = [
        Source(kind, info.key, info.num_bytes, sha256) for (kind, _, info), sha256 in zip(rows, hashes, strict=True)
    ]
    write_sources(paths.SOURCES, sources)
    write_weights(paths.WEIGHTS, find_starting_weights(params))
    report.items = len(sources)
    report.skipped = len(sources) - num_hashed
    report.note(f"{len(videos)} videos and {len(annotations)} annotation files, {num_hashed} read")


def check_apart(places: Mapping[str, str]) -> None:
    """Make sure that no stage's out holds the user's files, because DVC deletes outs.

    Args:
        places: of the files, by the key of params that names them.

    Raises:
        ParamsError: one is in an out, or the source holds one.
    """
    for name, given in places.items():
        folder = Path(given).resolve()
        for out in () if storage.is_s3(given) else OUTS:
            if folder.is_relative_to(out.resolve()):
                raise ParamsError(f"{name}: {given} is in {out}, which the pipeline empties; move it elsewhere")
            if name == "data.source" and out.resolve().is_relative_to(folder):
                raise ParamsError(f"{name}: {given} holds the pipeline's own {out}; name a folder of videos alone")


def _render_sample(sample: SampleParams) -> None:
    from kineflow.sample.render import render_sample
    from kineflow.sample.spec import SampleSpec

    values = as_json(sample)
    started = time.monotonic()
    render_sample(Path(values.pop("folder")), SampleSpec(**values))
    seconds = time.monotonic() - started
    if seconds > PROGRESS_SEC:
        print(f"sync: the sample was rendered in {seconds:.0f} s", flush=True)


def _hash_all(files: Sequence[tuple[str, FileInfo]]) -> tuple[list[str], int]:
    """SHA-256 of each (root, file), and how many had to be read."""
    indices = {root: _Index(root) for root in {root for root, _ in files}}
    known = [indices[root].find(info) for root, info in files]
    missing = [number for number, sha256 in enumerate(known) if sha256 is None]
    if missing:
        _hash_missing(files, missing, known, indices)
    for index in indices.values():
        index.save(info for root, info in files if root == index.root)
    return [sha256 for sha256 in known if sha256 is not None], len(missing)


def _hash_missing(
    files: Sequence[tuple[str, FileInfo]],
    missing: Sequence[int],
    known: list[str | None],
    indices: "dict[str, _Index]",
) -> None:
    total_bytes = sum(files[number][1].num_bytes for number in missing)
    progress = _Progress(len(missing), total_bytes)
    cache_dir = home() / "objects"

    def hash_one(number: int) -> str:
        root, info = files[number]
        return storage.sha256_of(root, info, cache_dir=cache_dir)

    try:
        with ThreadPoolExecutor(min(NUM_THREADS, len(missing))) as pool:
            for number, sha256 in zip(missing, pool.map(hash_one, missing), strict=True):
                root, info = files[number]
                known[number] = sha256
                indices[root].add(info, sha256)
                progress.add(info.num_bytes)
    except BaseException:
        for index in indices.values():  # what was hashed need not be hashed again
            index.save(None)
        raise


class _Index:
    """The hashes of one root's files, by key, size and version; losing it costs time only."""

    def __init__(self, root: str) -> None:
        self.root = root
        location = storage.endpoint() if storage.is_s3(root) else os.path.realpath(root)
        self._path = home() / "sync" / f"{digest(root=root, location=location)[:16]}.json"
        self._known: dict[str, list[str | int]] = self._load()
        self._changed = False

    def find(self, info: FileInfo) -> str | None:
        entry = self._known.get(info.key)
        if entry is None or entry[:2] != [info.num_bytes, info.version]:
            return None
        return str(entry[2])

    def add(self, info: FileInfo, sha256: str) -> None:
        settled = storage.is_s3(self.root) or int(info.version) < time.time_ns() - SETTLED_NS
        self._changed = self._changed or settled or info.key in self._known
        if settled:
            self._known[info.key] = [info.num_bytes, info.version, sha256]
        else:
            self._known.pop(info.key, None)

    def save(self, present: Iterable[FileInfo] | None) -> None:
        """Write the index, without the files that are no longer present (None: keep all)."""
        if present is not None:
            keys = {info.key for info in present}
            gone = [key for key in self._known if key not in keys]
            for key in gone:
                del self._known[key]
            self._changed = self._changed or bool(gone)
        if not self._changed:
            return
        write_text(self._path, json.dumps(self._known))

    def _load(self) -> dict[str, list[str | int]]:
        try:
            values = json.loads(self._path.read_text())
        except (OSError, ValueError):
            return {}
        if not isinstance(values, dict):
            return {}
        return {key: entry for key, entry in values.items() if isinstance(entry, list) and len(entry) == 3}


class _Progress:
    """A line every two seconds while many bytes are read."""

    def __init__(self, num_files: int, num_bytes: int) -> None:
        self._num_files, self._num_bytes = num_files, num_bytes
        self._done_files = self._done_bytes = 0
        self._started = self._shown = time.monotonic()

    def add(self, num_bytes: int) -> None:
        self._done_files += 1
        self._done_bytes += num_bytes
        now = time.monotonic()
        if now - self._shown >= PROGRESS_SEC:
            self._shown = now
            rate = self._done_bytes / (now - self._started)
            left_sec = (self._num_bytes - self._done_bytes) / rate if rate else 0.0
            text = (
                f"sync: {self._done_files}/{self._num_files} files read, {rate / 1e6:.0f} MB/s, {left_sec:.0f} s left"
            )
            print(text, file=sys.stdout, flush=True)
