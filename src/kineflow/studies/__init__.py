"""Trainings beyond the graph: searches and comparisons, cross-validated on the folds of the workspace."""
