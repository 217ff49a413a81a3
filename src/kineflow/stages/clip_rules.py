"""From the section `clips` of params to the rules that blocks take."""

from kineflow.data.event_clips import EventRule
from kineflow.data.negatives import NegativeRule
from kineflow.params import ClipsParams, NegativesParams


def event_rule(clips: ClipsParams) -> EventRule:
    """How events become clips."""
    return EventRule(
        window_sec=clips.window_sec,
        stride_sec=clips.stride_sec,
        position=clips.position,
        margin_sec=clips.margin_sec,
        states=clips.states,
        overlap=clips.overlap,
    )


def negative_rule(negatives: NegativesParams) -> NegativeRule:
    """Where negatives may be."""
    return NegativeRule(
        label=negatives.label,
        ratio=negatives.ratio,
        within=tuple(negatives.within),
        min_distance_sec=negatives.min_distance_sec,
    )


def not_classes(clips: ClipsParams) -> tuple[str, ...]:
    """Labels that only say where negatives may be."""
    return tuple(clips.negatives.within) if clips.negatives else ()
