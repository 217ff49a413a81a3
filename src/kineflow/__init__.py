"""Kineflow trains video behaviour and action classifiers, and keeps them trained."""

__version__ = "0.1.0"
