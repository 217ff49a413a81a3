"""Windows of task frame by hand."""

import numpy as np
import pytest

from kineflow.descriptors.windows import frame_means, some_windows, window_spans, window_targets

UNKNOWN = np.nan


def test_windows_overlap_fourfold_and_end_with_the_video():
    assert window_spans(19, 8) == [(0, 8), (2, 10), (4, 12), (6, 14), (8, 16), (10, 18), (11, 19)]
    assert window_spans(5, 8) == [(0, 5)]


def test_what_a_window_shows():
    labels = np.array([[1, 0], [1, 0], [0, UNKNOWN], [0, UNKNOWN], [0, UNKNOWN], [0, 1]], float)
    spans = [(0, 4), (2, 6), (0, 6)]
    independent = window_targets(labels, spans, "independent")
    np.testing.assert_array_equal(independent, [[1, 0], [0, UNKNOWN], [0, 0]])
    known = np.array([[1, 0], [0, 1], [0, 1], [UNKNOWN, UNKNOWN], [UNKNOWN, UNKNOWN]], float)
    exclusive = window_targets(known, [(0, 3), (2, 5), (1, 4)], "exclusive")
    np.testing.assert_array_equal(exclusive, [[0, 1], [UNKNOWN, UNKNOWN], [0, 1]])


def test_rare_classes_keep_their_windows():
    targets = np.zeros((1000, 2))
    targets[:, 0] = 1
    targets[500:505] = [0, 1]
    targets[990:] = UNKNOWN
    chosen = some_windows(targets, 40)
    assert len(chosen) <= 40 and set(range(500, 505)) <= set(chosen.tolist()) and chosen.max() < 990
    assert some_windows(targets, 5000).tolist() == list(range(990))


def test_a_frame_has_the_mean_of_its_windows():
    probs = np.array([[0.0], [1.0], [0.5]])
    found = frame_means(probs, [(0, 4), (2, 6), (5, 9)], 1, 8)
    assert found[:, 0] == pytest.approx([0, 0.5, 0.5, 1, 0.75, 0.5, 0.5])
