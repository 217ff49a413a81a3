"""Spaces of a search that the clips of the workspace cannot tell apart: more frames than clips have, more negatives."""

import statistics
from collections.abc import Sequence
from itertools import product

from kineflow.errors import ParamsError
from kineflow.params import Params, SearchParams
from kineflow.params.search import RangeKind, Value


def refuse_missing_negatives(params: Params, spec: SearchParams) -> None:
    """Let pass what the negatives of `clips.negatives.ratio` are enough for.

    Raises:
        ParamsError: an epoch would draw more of them for each event than there are.
    """
    tried, negatives = spec.space.get("train.negative_ratio"), params.clips.negatives
    if tried is None or negatives is None or params.task == "frame":
        return
    largest = max((value for value in _ends(tried) if value is not None), default=0)
    if float(largest) > negatives.ratio:
        raise ParamsError(
            f"search.space: train.negative_ratio: {largest:g} is more than clips.negatives.ratio makes, "
            f"{negatives.ratio:g} for each event; set that to {largest:g}, build with `dvc repro`, and start again"
        )


def refuse_short_clips(params: Params, spec: SearchParams, lengths: Sequence[int]) -> None:
    """Let pass what most clips have frames for; a model that is shown a clip's frames twice sees no more of it.

    Args:
        lengths: of the clips, in extracted frames.

    Raises:
        ParamsError: a value, or several together, want more frames than most clips have.
    """
    prefix, config = f"streams.{spec.stream}.", params.streams[spec.stream]
    names = [name for name in ("sampling", "num_frames", "frame_stride") if prefix + name in spec.space]
    if not names or params.task == "frame":
        return
    for values in product(*(_ends(spec.space[prefix + name]) for name in names)):
        tried = config.model_copy(update=dict(zip(names, values, strict=True)))
        stride = tried.frame_stride if tried.sampling == "dense" else 1
        wanted = (tried.num_frames - 1) * stride + 1
        if sum(length < wanted for length in lengths) <= len(lengths) / 2:
            continue
        named = ", ".join(f"{prefix}{name}: {value}" for name, value in zip(names, values, strict=True))
        raise ParamsError(
            f"search.space: {named} wants clips of {wanted} frames, and most are shorter "
            f"({statistics.median_low(lengths)} in the median); {_remedy(params, wanted)}"
        )


def _remedy(params: Params, wanted: int) -> str:
    window_sec, fps = params.clips.window_sec, params.frames.fps
    if window_sec is None:
        return "try fewer frames, or extract more with frames.fps, build with `dvc repro`, and start again"
    return (
        f"try fewer frames, or set clips.window_sec to {wanted / fps:.4g} (it is {window_sec:g}), "
        "build with `dvc repro`, and start again"
    )


def _ends(tried: dict[RangeKind, list[Value]]) -> Sequence[Value]:
    """The values of a choice; the ends of a range."""
    ((kind, values),) = tried.items()
    return values if kind in ("choice", "grid") else values[:2]
