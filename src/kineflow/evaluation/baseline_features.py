"""What the baselines look at: metadata, histograms of flow, embeddings of frames; some rows at a time."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kineflow.evaluation import hof
from kineflow.evaluation.predictions import Examples
from kineflow.store import ResultStore
from kineflow.video.feature_store import FeatureReader

HOF_WINDOW_SEC = 1.0  # task frame: the flows round a frame that describe it
METADATA = ("duration_sec", "width", "height")

Rows = NDArray[np.int64]
Features = NDArray[np.float32]
FeaturesOf = Callable[[Rows], Features]  # of some rows of the examples


def metadata_features(
    examples: Examples, videos: pd.DataFrame, clips: pd.DataFrame, *, frames_per_sec: float
) -> FeaturesOf:
    """What is known without looking: duration, width, height, rate; clip seconds or the frame's place (0 to 1)."""
    by_video = videos.set_index("video_id")
    ids = examples.rows["video_id"]
    columns = [by_video[name].reindex(ids).to_numpy(dtype=np.float32) for name in METADATA]
    columns.append((by_video["num_frames"] / by_video["duration_sec"]).reindex(ids).to_numpy(dtype=np.float32))
    if examples.task == "clip":
        by_clip = clips.set_index("clip_id")
        length = by_clip["stop_frame"] - by_clip["start_frame"]
        columns.append(length.reindex(examples.rows["clip_id"]).to_numpy(dtype=np.float32) / frames_per_sec)
    else:
        columns.append(examples.rows["frame"].to_numpy(dtype=np.float32) / (columns[0] * frames_per_sec))
    features_ND = np.stack(columns, axis=1).astype(np.float32)
    return lambda rows: features_ND[rows]


def hof_features(
    examples: Examples,
    clips: pd.DataFrame,
    flow_of: Callable[[str], Path],
    store: ResultStore,
    *,
    frames_per_sec: float,
) -> FeaturesOf:
    """Descriptors of clips or of frames from the flow store.

    Args:
        flow_of: the flow file of a video.
        store: where the histograms of a video are kept between runs.
    """
    if examples.task == "clip":
        features_ND = _clip_descriptors(examples, clips, flow_of, store)
        return lambda rows: features_ND[rows]
    histograms = {str(name): hof.video_histograms(flow_of(name), store) for name in examples.rows["video_id"].unique()}
    window_flows = max(hof.NUM_TIMES, round(HOF_WINDOW_SEC * frames_per_sec))

    def features_of(rows: Rows) -> Features:
        size = hof.NUM_TIMES * hof.NUM_ROWS * hof.NUM_COLUMNS * hof.NUM_BINS
        features_ND = np.empty((len(rows), size), dtype=np.float32)
        wanted = examples.rows.iloc[rows].reset_index(drop=True)
        for video_id, index in wanted.groupby("video_id", sort=True).indices.items():
            frames_N = wanted["frame"].to_numpy()[index]
            features_ND[index] = hof.frame_descriptors(histograms[str(video_id)], frames_N, window_flows=window_flows)
        return features_ND

    return features_of


def _clip_descriptors(
    examples: Examples, clips: pd.DataFrame, flow_of: Callable[[str], Path], store: ResultStore
) -> Features:
    spans = clips.set_index("clip_id")[["start_frame", "stop_frame"]].reindex(examples.rows["clip_id"])
    descriptors: list[Features] = [np.empty(0, dtype=np.float32)] * len(spans)
    for video_id, index in examples.rows.groupby("video_id", sort=True).indices.items():
        histograms = hof.video_histograms(flow_of(str(video_id)), store)
        for row in index:
            start, stop = (int(value) for value in spans.iloc[row])
            descriptors[row] = hof.clip_descriptor(histograms[start : stop - 1])  # N frames have N - 1 flows
    return np.stack(descriptors)


def embedding_features(examples: Examples, embeddings_of: Callable[[str], Path]) -> FeaturesOf:
    """The embedding of each frame.

    Args:
        embeddings_of: the feature store of a video, which is read as rows are asked for.
    """

    def features_of(rows: Rows) -> Features:
        wanted = examples.rows.iloc[rows].reset_index(drop=True)
        parts = [
            (index, FeatureReader(embeddings_of(str(video_id))).read(wanted["frame"].to_numpy()[index]))
            for video_id, index in wanted.groupby("video_id", sort=True).indices.items()
        ]
        features_ND = np.empty((len(rows), parts[0][1].shape[1]), dtype=np.float32)
        for index, part_ND in parts:
            features_ND[index] = part_ND
        return features_ND

    return features_of
