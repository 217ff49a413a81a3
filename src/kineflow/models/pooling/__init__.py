"""Temporal pooling: the features of a clip's time steps become one vector for the clip, or one for each."""
