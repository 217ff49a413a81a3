"""The frame labels that are learned: those of the tables, without behaviours that lack support where params say so."""

import pandas as pd

from kineflow.data.support import supported_labels
from kineflow.params import Params
from kineflow.stages import paths
from kineflow.tables import FRAME_LABELS, read_table


def read_learned_labels(params: Params, videos: pd.DataFrame) -> pd.DataFrame:
    """The frame_labels table as every stage after `ingest` learns from it and scores on it."""
    labels = read_table(paths.FRAME_LABELS, FRAME_LABELS)
    return supported_labels(labels, videos)[0] if params.clips.without_support == "leave_out" else labels
