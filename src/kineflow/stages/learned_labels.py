"""The frame labels that are learned: those of the tables, as `clips.frame_labels` and `clips.without_support` say."""

import pandas as pd

from kineflow.data.support import learned_labels
from kineflow.params import Params
from kineflow.stages import paths
from kineflow.tables import FRAME_LABELS, read_table


def read_learned_labels(params: Params, videos: pd.DataFrame) -> pd.DataFrame:
    """The frame_labels table as every stage after `ingest` learns from it and scores on it."""
    return learned_and_left_out(params, videos)[0]


def learned_and_left_out(params: Params, videos: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, str]]:
    """The same, and why each class that is left out of it is."""
    return learned_labels(
        read_table(paths.FRAME_LABELS, FRAME_LABELS),
        videos,
        labels=params.clips.frame_labels,
        only_supported=params.clips.without_support == "leave_out",
    )
