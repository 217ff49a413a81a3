import numpy as np
import pandas as pd
import pytest

from kineflow.data.frame_labels import behaviours, extracted_labels, positive_frame_counts
from kineflow.errors import DataError


def labels_table(rows: list[tuple[str, int, int | None, int | None]]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["video_id", "frame", "groom", "rear"])
    return frame.astype({"frame": "int64", "groom": "Int8", "rear": "Int8"})


def test_each_extracted_frame_has_the_labels_of_the_source_frame_it_shows() -> None:
    table = labels_table([("a", 4, 0, 1), ("a", 0, 1, 0), ("a", 2, None, 1)])  # out of order, frames 1 and 3 missing
    labels_NK = extracted_labels(table, np.array([0, 0, 2, 3, 4, 9]))
    nan = np.nan
    expected = np.array([[1, 0], [1, 0], [nan, 1], [nan, nan], [0, 1], [nan, nan]], dtype=np.float32)
    assert labels_NK.dtype == np.float32
    np.testing.assert_array_equal(labels_NK, expected)
    assert behaviours(table) == ["groom", "rear"]


def test_a_video_without_rows_is_unlabelled() -> None:
    labels_NK = extracted_labels(labels_table([]), np.arange(3))
    assert labels_NK.shape == (3, 2) and np.isnan(labels_NK).all()


def test_a_frame_labelled_twice_is_named() -> None:
    with pytest.raises(DataError, match="a: frame 7 is labelled twice"):
        extracted_labels(labels_table([("a", 7, 0, 1), ("a", 3, 0, 0), ("a", 7, 1, 1)]), np.arange(3))


def test_positive_frames_are_counted_in_the_window_that_shows_them() -> None:
    clips = pd.DataFrame(
        {
            "clip_id": ["a#0-2", "a#2-5", "b#0-4"],
            "video_id": ["a", "a", "b"],
            "start_frame": [0, 2, 0],
            "stop_frame": [2, 5, 4],
        }
    )
    # Ten source frames on five extracted ones: source frames 0-3 are in the first window, 4-9 in the second.
    rows = [("a", frame, int(frame >= 3), int(frame == 4)) for frame in range(9)] + [("a", 9, None, None)]
    counts = positive_frame_counts(
        clips, labels_table(rows), num_source_frames={"a": 10, "b": 4}, num_extracted_frames={"a": 5, "b": 4}
    )
    assert counts.to_dict("index") == {
        "a#0-2": {"groom": 1, "rear": 0},
        "a#2-5": {"groom": 5, "rear": 1},
        "b#0-4": {"groom": 0, "rear": 0},
    }
