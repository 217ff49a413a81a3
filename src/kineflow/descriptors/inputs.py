"""From clips to what a classifier of descriptors says of them: the one way of training, evaluation and prediction."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from kineflow.data.dataset import ClipItem
from kineflow.data.probabilities import Labels
from kineflow.descriptors.cells import CellRule, VideoCells
from kineflow.descriptors.fit_progress import Tell, in_silence
from kineflow.descriptors.local import clip_descriptors
from kineflow.descriptors.model import FisherModel
from kineflow.descriptors.windows import frame_means, window_spans
from kineflow.schema import FileSchema

SCHEMA = FileSchema("descriptors", version=1, remedy="train it again, or load it with the Kineflow that made it")


@dataclass(frozen=True)
class FisherInput:
    """From a video to descriptors: saved with every classifier, as `Preprocessing` is with every network.

    Args:
        task: clip, or frame: windows slide over a video.
        fps: of the extracted frames.
        frames: the params section that the frames were extracted with.
        flow: the `rule` that it was computed and stored by, `jpeg_quality` and `weights`.
        cells: how its cells are made.
        flip: whether a clip's mirror image is judged too.
        num_frames: task frame: of the windows that a video is cut into for all streams; 1 on task clip.
        window_frames: task frame: of the windows that slide; None on task clip.
    """

    task: Literal["clip", "frame"]
    fps: float
    frames: dict[str, Any]
    flow: dict[str, Any]
    cells: CellRule
    flip: bool
    num_frames: int
    window_frames: int | None
    schema_version: int = SCHEMA.version

    @property
    def stream(self) -> Literal["fv"]:
        """As `Preprocessing` says it."""
        return "fv"

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any], *, where: object) -> "FisherInput":
        """The inverse of `to_json`; `where` it was read, for messages.

        Raises:
            DataError: written by another version.
        """
        SCHEMA.check(where, values.get("schema_version"))
        return cls(**{**values, "cells": CellRule.from_json(values["cells"])})


def predict_probs(
    model: FisherModel,
    items: Sequence[ClipItem],
    cells_of: Callable[[str], VideoCells],
    described: FisherInput,
    labels: Labels,
    tell: Tell = in_silence,
) -> list[NDArray[np.float64]]:
    """Probabilities of every clip, (K,); on task frame of every frame of it, (T, K).

    Args:
        tell: of the part `judge`.
    """
    known: dict[tuple[str, int, int], NDArray[np.float64]] = {}  # a window may reach into several clips
    found = []
    for index, item in enumerate(items):
        tell("judge", index / len(items))
        if described.window_frames is None:
            found.append(model.probs(clip_descriptors(cells_of(item.video_id), item.start, item.stop), labels))
            continue
        cells = cells_of(item.video_id)
        spans = window_spans(cells.num_flows + 1, described.window_frames)
        spans = [(start, stop) for start, stop in spans if start < item.stop and stop > item.start]
        for span in spans:
            if (item.video_id, *span) not in known:
                known[item.video_id, *span] = model.probs(clip_descriptors(cells, *span), labels)
        probs_WK = np.stack([known[item.video_id, *span] for span in spans])
        found.append(frame_means(probs_WK, spans, item.start, item.stop))
    return found
