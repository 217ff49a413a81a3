"""A data set to try everything on: rendered top-view videos of an animal, annotated as a user's would be."""

from kineflow.sample.spec import BEHAVIOURS, MOTION_PAIRS, SampleSpec

__all__ = ["BEHAVIOURS", "MOTION_PAIRS", "SampleSpec"]
