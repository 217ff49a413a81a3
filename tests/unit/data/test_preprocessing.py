import numpy as np
import pytest

from kineflow.data.dataset import InMemoryReader
from kineflow.data.preprocessing import (
    FLOW_CLAMP,
    RGB_MEAN,
    RGB_STD,
    Augment,
    Preprocessing,
    View,
    clip_tensor,
    draw_view,
    segment_borders,
)
from kineflow.data.preprocessing import test_view as fixed_view
from kineflow.errors import DataError

AUGMENT = Augment(flip=True, crop_scale_min=0.6, brightness=0.2, amplitude=0.3, time_jitter=0.2)


def make(**changes) -> Preprocessing:
    values = {
        "task": "clip",
        "stream": "rgb",
        "fps": 10.0,
        "frames": {},
        "flow": None,
        "sampling": "segments",
        "num_frames": 4,
        "frame_stride": 1,
        "height_px": 6,
        "width_px": 8,
        "subtract_background": False,
        "flow_scale_px": 1.0,
        "num_views": 1,
    }
    return Preprocessing(**(values | changes))


def numbered_frames(count: int, height: int = 6, width: int = 8, channels: int = 3) -> InMemoryReader:
    """Every pixel of frame i is i."""
    shape = (count, height, width, channels)
    return InMemoryReader(np.broadcast_to(np.arange(count, dtype=np.uint8)[:, None, None, None], shape).copy())


def shown(tensor_CTHW: np.ndarray) -> list[int]:
    """The frame numbers that a tensor of `numbered_frames` shows."""
    return [round(float(v)) for v in (tensor_CTHW[0, :, 0, 0] * RGB_STD + RGB_MEAN) * 255]


def test_segments_take_the_middle_frame_of_each_quarter():
    assert shown(clip_tensor(numbered_frames(40), 0, 40, make(), View())) == [5, 15, 25, 35]
    assert shown(clip_tensor(numbered_frames(40), 20, 40, make(), View())) == [22, 27, 32, 37]


def test_a_clip_shorter_than_its_segments_repeats_frames():
    assert shown(clip_tensor(numbered_frames(2), 0, 2, make(), View())) == [0, 0, 1, 1]


@pytest.mark.parametrize(
    ("stop", "stride", "expected"),
    [(4, 1, [0, 1, 2, 3]), (10, 1, [3, 4, 5, 6]), (10, 2, [1, 3, 5, 7]), (3, 1, [0, 1, 2, 0])],
)
def test_dense_sampling_is_centred_and_loops_when_short(stop, stride, expected):
    preprocessing = make(sampling="dense", frame_stride=stride)
    assert shown(clip_tensor(numbered_frames(stop), 0, stop, preprocessing, View())) == expected


def test_dense_views_run_from_the_first_to_the_last_position():
    preprocessing = make(sampling="dense", num_views=3)
    views = [shown(clip_tensor(numbered_frames(24), 0, 24, preprocessing, fixed_view(v, 3))) for v in range(3)]
    assert [view[0] for view in views] == [0, 10, 20]


def test_segment_borders_of_a_window():
    borders = segment_borders(10, 30, 4, View(start=0.1, length=0.8))
    assert borders.tolist() == [12, 16, 20, 24, 28]


def test_jittered_borders_stay_within_half_the_jitter_of_a_segment():
    view = View(jitter_seed=3, jitter=0.5)
    shift = segment_borders(0, 40, 4, view)[1:-1] - np.array([10, 20, 30])
    assert np.abs(shift).max() <= 2.5
    assert np.abs(shift).max() > 0


def test_flow_segments_are_means_over_time():
    rng = np.random.default_rng(0)
    flows = rng.normal(size=(12, 6, 8, 2)).astype(np.float32)
    tensor = clip_tensor(InMemoryReader(flows), 0, 13, make(stream="flow"), View())
    slow = [np.mean([flows[i] for i in range(3 * s, 3 * s + 3)], axis=0) for s in range(4)]
    np.testing.assert_allclose(tensor, np.moveaxis(np.stack(slow), -1, 0), rtol=1e-5, atol=1e-6)


def test_mirroring_flow_mirrors_the_image_and_negates_x():
    flows = np.random.default_rng(0).normal(size=(4, 6, 8, 2)).astype(np.float32)
    plain = clip_tensor(InMemoryReader(flows), 0, 5, make(stream="flow"), View())
    flipped = clip_tensor(InMemoryReader(flows), 0, 5, make(stream="flow"), View(flip=True))
    np.testing.assert_array_equal(flipped[0], -plain[0][:, :, ::-1])
    np.testing.assert_array_equal(flipped[1], plain[1][:, :, ::-1])


def test_flow_is_rescaled_with_its_image():
    flows = np.ones((4, 12, 32, 2), np.float32)
    tensor = clip_tensor(InMemoryReader(flows), 0, 5, make(stream="flow"), View())
    np.testing.assert_allclose(tensor[0], 8 / 32)
    np.testing.assert_allclose(tensor[1], 6 / 12)


def test_flow_is_in_units_of_its_scale_and_clamped():
    flows = np.full((4, 6, 8, 2), 3.0, np.float32)
    assert clip_tensor(InMemoryReader(flows), 0, 5, make(stream="flow", flow_scale_px=1.5), View()).max() == 2.0
    assert clip_tensor(InMemoryReader(flows), 0, 5, make(stream="flow", flow_scale_px=0.1), View()).max() == FLOW_CLAMP


def test_frame_task_takes_every_frame_and_the_last_flow_twice():
    assert shown(clip_tensor(numbered_frames(9), 2, 7, make(task="frame"), View())) == [2, 3, 4, 5, 6]
    flows = np.arange(4, dtype=np.float32)[:, None, None, None] * np.ones((1, 6, 8, 2), np.float32)
    tensor = clip_tensor(InMemoryReader(flows), 0, 5, make(task="frame", stream="flow", flow_scale_px=2.0), View())
    assert (tensor[0, :, 0, 0] * 2).tolist() == [0, 1, 2, 3, 3]


def test_skeletons_on_black_are_zero_where_nothing_is_and_know_no_light():
    pictures = np.zeros((8, 6, 8, 3), np.uint8)
    pictures[:, 2, 1] = (255, 51, 0)
    made = make(stream="pose")
    plain = clip_tensor(InMemoryReader(pictures), 0, 8, made, View())
    assert plain.shape == (3, 4, 6, 8) and np.count_nonzero(plain) == 2 * 4
    np.testing.assert_allclose(plain[:, 0, 2, 1], np.array([1.0, 0.2, 0.0]) / RGB_STD, rtol=1e-5)
    lit = clip_tensor(InMemoryReader(pictures), 0, 8, made, View(gain=1.3, offset=0.2))
    np.testing.assert_array_equal(lit, plain)
    flipped = clip_tensor(InMemoryReader(pictures), 0, 8, made, View(flip=True))
    np.testing.assert_array_equal(flipped, plain[..., ::-1])  # hues stay with their limbs


def test_skeletons_are_sampled_like_frames():
    frames, made = numbered_frames(40), make(stream="pose", num_frames=4)
    tensor = clip_tensor(frames, 20, 40, made, View())
    assert [round(float(value) * RGB_STD * 255) for value in tensor[0, :, 0, 0]] == [22, 27, 32, 37]


def test_a_crop_of_rgb_and_flow_of_one_view_is_the_same_place():
    view = draw_view(np.random.default_rng(5), AUGMENT)
    place = np.indices((40, 60)).astype(np.float32)  # the pixel's own row and column
    images = np.broadcast_to(np.moveaxis(place, 0, -1), (4, 40, 60, 2)).copy()
    rgb_like = np.concatenate([images, images[..., :1]], axis=-1).astype(np.uint8)
    rgb = clip_tensor(InMemoryReader(rgb_like), 0, 4, make(height_px=10, width_px=10), view)
    flow = clip_tensor(InMemoryReader(images), 0, 5, make(stream="flow", height_px=10, width_px=10), view)
    rows_of_rgb = np.clip((rgb[0] * RGB_STD + RGB_MEAN - 0.5 - view.offset) / view.gain + 0.5, 0, 1) * 255
    crop_rows, crop_columns = round(view.crop[2] * 40), round(view.crop[3] * 60)
    unscaled = clip_tensor(InMemoryReader(images / 100), 0, 5, make(stream="flow", height_px=10, width_px=10), view)
    rows_of_flow = unscaled[1] * 0 + unscaled[0] * (-1 if view.flip else 1) / view.amplitude * crop_columns / 10 * 100
    middle = rows_of_rgb[:, 2:8, 2:8]
    unclipped = (middle > 2) & (middle < 38)
    assert np.abs(middle - rows_of_flow[:, 2:8, 2:8])[unclipped].max() < 1.5
    assert flow.shape == (2, 4, 10, 10) and crop_rows >= 1


def test_a_view_without_augmentation_is_the_whole_clip():
    nothing = Augment(flip=False, crop_scale_min=1.0, brightness=0.0, amplitude=0.0, time_jitter=0.0)
    view = draw_view(np.random.default_rng(0), nothing)
    assert (view.start, view.length, view.crop, view.gain, view.amplitude) == (0, 1, (0, 0, 1, 1), 1, 1)


def test_what_does_not_move_vanishes_with_its_background():
    images = np.full((8, 6, 8, 3), 200, np.uint8)
    images[5:, 2, 3] = 40  # one pixel changes, in half of the sampled frames
    tensor = clip_tensor(InMemoryReader(images), 0, 8, make(subtract_background=True), View())
    moved = np.zeros((3, 4, 6, 8), np.float32)
    moved[:, :2, 2, 3], moved[:, 2:, 2, 3] = 80 / 255 / RGB_STD, -80 / 255 / RGB_STD
    np.testing.assert_allclose(tensor, moved, atol=1e-5)


def test_an_empty_clip_is_an_error():
    with pytest.raises(DataError, match="is empty"):
        clip_tensor(numbered_frames(4), 3, 3, make(), View())


def test_json_round_trip_and_other_versions():
    preprocessing = make(stream="flow", flow={"bound_px": 8.0})
    assert Preprocessing.from_json(preprocessing.to_json(), where="a") == preprocessing
    before = {name: value for name, value in preprocessing.to_json().items() if name != "pose"}
    assert Preprocessing.from_json(before | {"schema_version": 2}, where="a") == preprocessing
    with pytest.raises(DataError, match="version 99"):
        Preprocessing.from_json(preprocessing.to_json() | {"schema_version": 99}, where="a")
