"""Late fusion: one prediction from the streams' probabilities."""

from collections.abc import Sequence

import numpy as np

from kineflow.errors import DataError
from kineflow.evaluation.predictions import Predictions

KEYS = ["fold", "clip_id", "video_id", "frame"]


def fuse_equal(streams: Sequence[Predictions], *, name: str = "fusion") -> Predictions:
    """The mean of the streams' probabilities, each stream with the same weight.

    Raises:
        DataError: fewer than two streams, or streams with other rows or classes than the first.
    """
    if len(streams) < 2:
        raise DataError(f"fusion needs two streams, {len(streams)} given")
    first = streams[0]
    for other in streams[1:]:
        if other.examples.classes != first.examples.classes:
            raise DataError(f"the streams {first.name} and {other.name} have different classes")
        if not first.examples.rows[KEYS].equals(other.examples.rows[KEYS]):
            raise DataError(f"the streams {first.name} and {other.name} have different rows, so they cannot be fused")
    return Predictions(name, first.examples, np.mean([stream.probs_NK for stream in streams], axis=0))
