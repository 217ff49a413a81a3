"""The typed, strict view of `params.yaml`: every value a run depends on, each with its meaning.

There are no defaults here: the file holds every value, and the presets in `params/` are whole files.
Unknown keys, wrong types and impossible combinations are refused by `load_params`, naming the key.
"""

from kineflow.params.clips import ClipsParams, NegativesParams, SplitsParams, ValidationParams
from kineflow.params.declared import Withheld, as_json, only
from kineflow.params.reading import load_params, parse_params
from kineflow.params.release import EvaluateParams, PromotionParams, RegisterParams, ReleaseParams
from kineflow.params.search import PruneParams, SearchParams
from kineflow.params.section import METRICS, NETWORK_NAMES, STREAM_NAMES, Labels, NetworkName, Section, StreamName
from kineflow.params.sources import (
    DataParams,
    EmbedParams,
    FlowParams,
    FramesParams,
    PoseParams,
    RoiParams,
    SampleParams,
)
from kineflow.params.streams import (
    CellParams,
    FinetuneParams,
    FisherParams,
    SelfSupervisionParams,
    StreamParams,
    StreamsParams,
)
from kineflow.params.training import AugmentParams, DistillParams, TrainParams
from kineflow.params.whole import Params

__all__ = [
    "METRICS",
    "NETWORK_NAMES",
    "STREAM_NAMES",
    "AugmentParams",
    "CellParams",
    "ClipsParams",
    "DataParams",
    "DistillParams",
    "EmbedParams",
    "EvaluateParams",
    "FinetuneParams",
    "FisherParams",
    "FlowParams",
    "FramesParams",
    "Labels",
    "NegativesParams",
    "NetworkName",
    "Params",
    "PoseParams",
    "PromotionParams",
    "PruneParams",
    "RegisterParams",
    "ReleaseParams",
    "RoiParams",
    "SampleParams",
    "SearchParams",
    "Section",
    "SelfSupervisionParams",
    "SplitsParams",
    "StreamName",
    "StreamParams",
    "StreamsParams",
    "TrainParams",
    "ValidationParams",
    "Withheld",
    "as_json",
    "load_params",
    "only",
    "parse_params",
]
