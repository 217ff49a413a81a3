"""Score champion and challenger on the test clips of today, without any that either was trained on."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from kineflow import storage, tables
from kineflow.data.clips import label_columns
from kineflow.data.frame_labels import behaviours, extracted_labels
from kineflow.data.probabilities import Floats, Labels
from kineflow.data.support import learned_labels
from kineflow.errors import DataError
from kineflow.evaluation.metrics import scores
from kineflow.evaluation.predictions import Examples, make_examples
from kineflow.evaluation.test_looks import log_test_look
from kineflow.inference.predict import TimedClip, VideoFile, score_clips
from kineflow.store import home
from kineflow.training.bundle import Bundle, Member, read_bundle
from kineflow.video.frame_store import FrameReader


@dataclass(frozen=True)
class TestData:
    """The tables of today.

    Args:
        labels: whether the classes exclude each other.
        frames_per_sec: of the extracted frames that clips count in.
        frames: the frame stores, for the labels of task frame.
    """

    __test__ = False  # no test class

    task: str
    labels: Labels
    videos: pd.DataFrame
    clips: pd.DataFrame
    folds: pd.DataFrame
    frame_labels: pd.DataFrame
    frames_per_sec: float
    frames: Path

    @property
    def has_test(self) -> bool:
        """Whether any clip is held out."""
        return bool((self.folds["role"] == "test").any())


@dataclass(frozen=True)
class TestScore:
    """A metric of one version on the clips that were left."""

    __test__ = False

    value: float | None
    num_clips: int
    incomparable: str | None = None


def fair_clips(data: TestData, bundles: Sequence[Bundle]) -> pd.DataFrame:
    """The test clips whose group and whose video none of `bundles` was trained on, as rows of the clips table."""
    groups = {group for bundle in bundles for group in bundle.training_groups}
    contents = {sha256 for bundle in bundles for sha256 in bundle.training_videos}
    test_ids = data.folds.loc[data.folds["role"] == "test", "clip_id"]
    clips = data.clips[data.clips["clip_id"].isin(test_ids)]
    sha256_of = data.videos.set_index("video_id")["sha256"]
    seen = clips["group"].isin(groups) | clips["video_id"].map(sha256_of).isin(contents)
    return clips[~seen].reset_index(drop=True)


def score_on_test(data: TestData, bundle_dirs: Sequence[Path], metric: str, *, min_clips: int) -> list[TestScore]:
    """The metric of each bundle on the clips that are fair to all of them, in their order.

    Nothing is scored on fewer than `min_clips` clips, so that no look at test clips is wasted.
    """
    bundles = [read_bundle(folder) for folder in bundle_dirs]
    clips = fair_clips(data, bundles)
    if len(clips) < max(1, min_clips):
        return [TestScore(None, len(clips))] * len(bundles)
    log_test_look(home(), by="promote", models=[folder.name for folder in bundle_dirs], clip_ids=clips["clip_id"])
    return [_score(data, bundle, clips, metric) for bundle in bundles]


def _score(data: TestData, bundle: Bundle, clips: pd.DataFrame, metric: str) -> TestScore:
    if bundle.task != data.task:
        return TestScore(None, len(clips), f"it answers task {bundle.task}, not {data.task}")
    if bundle.labels != data.labels:
        return TestScore(None, len(clips), f"it gives {bundle.labels} labels, not {data.labels} ones")
    if data.task == "clip" and (why := _unknown_classes(clips, bundle)) is not None:
        return TestScore(None, len(clips), why)
    if data.task == "frame":
        if tuple(behaviours(data.frame_labels)) != bundle.classes:
            return TestScore(None, len(clips), "it knows other behaviours")
        if any(member.preprocessing.fps != data.frames_per_sec for member in bundle.members):
            return TestScore(None, len(clips), f"it does not see {data.frames_per_sec:g} frames per second")
    if any(isinstance(member, Member) and member.needs_backbone for member in bundle.members):
        return TestScore(None, len(clips), "it is on embeddings, and was saved without their backbone")
    folds = pd.DataFrame({"clip_id": clips["clip_id"], "role": "test", "fold": -1})
    examples = make_examples(
        data.task,
        data.clips,
        folds,
        role="test",
        classes=bundle.classes,
        labels=data.labels,
        labels_of=_labels_of(data),
    )
    assert examples is not None  # there are clips
    timed = [_timed(clip_id, video_id, start, stop, data) for clip_id, video_id, start, stop in _bounds(clips)]
    probs_NK = aligned(score_clips(bundle.root, timed, _files(data, clips)), examples)
    return TestScore(scores(probs_NK, examples.truth, task=data.task)[metric], len(clips))


def _unknown_classes(clips: pd.DataFrame, bundle: Bundle) -> str | None:
    columns = label_columns(clips)
    if columns and set(columns) != set(bundle.classes):  # it was taught otherwise what shows none of its classes
        return "it knows other classes"
    unknown = sorted(set(clips["label"].dropna()) - set(bundle.classes))
    return f"it does not know the class {unknown[0]!r}" if unknown else None


def aligned(table: pd.DataFrame, examples: Examples) -> Floats:
    """Probabilities (N, K) in the order of the rows of `examples`; a frame of several windows gets their mean.

    Raises:
        DataError: a row has no probabilities, or more than one row of them.
    """
    keys = ["clip_id", "frame"] if examples.task == "frame" else ["clip_id"]
    joined = examples.window_rows[keys].merge(table, on=keys, how="left", validate="one_to_one")
    probs_NK = joined[list(examples.classes)].to_numpy(dtype=np.float64)
    if not np.isfinite(probs_NK).all():
        row = joined[~np.isfinite(probs_NK).all(axis=1)].iloc[0]
        raise DataError(f"the release model gave no probabilities for the clip {row['clip_id']!r}")
    return examples.joined(probs_NK)


def _bounds(clips: pd.DataFrame) -> list[tuple[str, str, int, int]]:
    columns = [clips[name] for name in ("clip_id", "video_id", "start_frame", "stop_frame")]
    return list(zip(*columns, strict=True))


def _timed(clip_id: str, video_id: str, start: int, stop: int, data: TestData) -> TimedClip:
    return TimedClip(clip_id, video_id, start / data.frames_per_sec, stop / data.frames_per_sec)


def _files(data: TestData, clips: pd.DataFrame) -> list[VideoFile]:
    wanted = data.videos[data.videos["video_id"].isin(clips["video_id"])]
    rows = zip(wanted["video_id"], wanted["uri"], wanted["sha256"], strict=True)
    cache_dir = home() / "objects"
    return [VideoFile(v, storage.local_file(uri, cache_dir=cache_dir, sha256=sha), sha) for v, uri, sha in rows]


def _labels_of(data: TestData) -> Callable[[str], Floats]:
    by_video = dict(tuple(data.frame_labels.groupby("video_id", sort=False)))
    empty = data.frame_labels.iloc[:0]

    def labels_of(video_id: str) -> Floats:
        with FrameReader(data.frames / f"{video_id}.zip") as reader:
            return extracted_labels(by_video.get(video_id, empty), reader.source_frames).astype(np.float64)

    return labels_of


def read_test_data(
    task: str,
    *,
    labels: Labels,
    videos: Path,
    clips: Path,
    folds: Path,
    frame_labels: Path,
    only_supported: bool,
    frames: Path,
    frames_per_sec: float,
) -> TestData:
    """Read the tables at these paths; the frame labels as training learns them, see `learned_labels`."""
    video_table = tables.read_table(videos, tables.VIDEOS)
    label_table = tables.read_table(frame_labels, tables.FRAME_LABELS)
    if task == "frame":
        label_table, _ = learned_labels(label_table, video_table, labels=labels, only_supported=only_supported)
    return TestData(
        task=task,
        labels=labels,
        videos=video_table,
        clips=tables.read_table(clips, tables.CLIPS),
        folds=tables.read_table(folds, tables.FOLDS),
        frame_labels=label_table,
        frames_per_sec=frames_per_sec,
        frames=frames,
    )
