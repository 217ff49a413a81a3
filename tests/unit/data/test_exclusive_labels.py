"""One class in each frame: behaviours that exclude each other, and the background."""

import numpy as np
import pandas as pd
import pytest

from kineflow.data.frame_labels import behaviours, exclusive_labels
from kineflow.data.support import learned_labels
from kineflow.errors import DataError

NA = None


def table(video_id: str, **columns: list[int | None]) -> pd.DataFrame:
    values = {name: pd.array(column, dtype="Int8") for name, column in columns.items()}
    return pd.DataFrame({"video_id": video_id, "frame": range(len(next(iter(columns.values())))), **values})


def values(labels: pd.DataFrame) -> list[list[float]]:
    rows = labels[behaviours(labels)].to_numpy(dtype=np.float64, na_value=-1).tolist()
    return [[int(value) for value in row] for row in rows]


def test_a_frame_has_its_behaviour_or_the_background_or_is_unlabelled() -> None:
    labels = exclusive_labels(table("v", groom=[1, 0, 0, 1, NA, NA], rear=[0, 1, 0, NA, 0, NA]))
    assert behaviours(labels) == ["background", "groom", "rear"]
    # groom; rear; neither; groom, so not rear; perhaps groom: not known; not known
    assert values(labels) == [[0, 1, 0], [0, 0, 1], [1, 0, 0], [0, 1, 0], [-1, -1, -1], [-1, -1, -1]]


def test_without_a_frame_of_the_background_it_is_no_class() -> None:
    assert behaviours(exclusive_labels(table("v", groom=[1, 0], rear=[0, 1]))) == ["groom", "rear"]


def test_two_behaviours_in_one_frame_are_refused_by_name() -> None:
    with pytest.raises(DataError, match=r"v: frame 1 shows groom and rear; correct its labels, or set clips\.frame_la"):
        exclusive_labels(table("v", groom=[1, 1], rear=[0, 1]))
    with pytest.raises(DataError, match="a behaviour is named 'background'"):
        exclusive_labels(table("v", background=[1], rear=[0]))


def test_frames_of_a_class_that_is_left_out_are_no_background() -> None:
    labels = pd.concat(
        [table("v", groom=[1, 0, 0], fall=[0, 1, 0]), table("w", groom=[1, 0, 0], fall=[0, 0, 0])], ignore_index=True
    )
    videos = pd.DataFrame({"video_id": ["v", "w"], "group": ["g", "h"], "status": "ok"})
    kept, left_out = learned_labels(labels, videos, labels="exclusive", only_supported=True)
    assert left_out == {"fall": "1 frames in 1 groups"} and behaviours(kept) == ["background", "groom"]
    assert values(kept) == [[0, 1], [-1, -1], [1, 0], [0, 1], [1, 0], [1, 0]]
    whole, nothing = learned_labels(labels, videos, labels="exclusive", only_supported=False)
    assert behaviours(whole) == ["background", "groom", "fall"] and nothing == {}
    assert learned_labels(labels, videos, labels="independent", only_supported=False)[0].equals(labels)


def test_the_column_none_of_the_fish_thesis_table_4_2_is_the_background() -> None:
    # frames 2786 to 2792 of the recording with a chase: 2788, 2789 and 2790 show it, and None is 0 there
    frames = range(2786, 2793)
    labels = pd.DataFrame({"video_id": "20200603/1/GH010063", "frame": frames})
    labels["spawning"] = pd.array([0] * 7, dtype="Int8")
    labels["chasing"] = pd.array([int(2788 <= frame <= 2790) for frame in frames], dtype="Int8")
    found = exclusive_labels(labels)
    assert dict(zip(frames, found["background"], strict=True)) == {
        2786: 1, 2787: 1, 2788: 0, 2789: 0, 2790: 0, 2791: 1, 2792: 1,
    }  # fmt: skip
