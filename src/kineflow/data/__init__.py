"""Clips, splits, and the way from a stored video to the tensor that a model sees."""
