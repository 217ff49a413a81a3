"""Params of what comes out: baselines, the released model, its place in the registry."""

from typing import Literal

from pydantic import PositiveInt

from kineflow.params.section import Section, StreamName


class EvaluateParams(Section):
    """What models are compared with, and how they are fused."""

    baselines: list[Literal["majority", "metadata", "hof", "embedding"]]
    fusion: Literal["equal", "validation"]


class ReleaseParams(Section):
    """The model that is scored on test, registered and loaded for prediction."""

    stream: Literal[StreamName, "fusion", "student"]
    form: Literal["refit", "fold_ensemble"]


class RegisterParams(Section):
    """Where the model goes in the registry."""

    model_name: str


class PromotionParams(Section):
    """When a challenger becomes the champion."""

    metric: str  # a key of metrics.json under cv.<stream> and test.<stream>
    min_gain: float  # the challenger must score at least this much more
    min_clips: PositiveInt  # fewer clips to compare on: refused
    beat_baselines: bool  # cross-validated score above every baseline
