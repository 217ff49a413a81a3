import math
from dataclasses import asdict

import cv2
import numpy as np
import pytest
import torch

from kineflow.data.dataset import Sample, collate
from kineflow.data.preprocessing import (
    FLOW_CLAMP,
    RGB_MEAN,
    RGB_STD,
    Preprocessing,
    clip_pixels,
    decode_px,
    estimate_flow_scale,
)
from kineflow.data.readers import DecodedImages
from kineflow.data.sampling import segment_borders
from kineflow.data.views import Augment, View, draw_view, fixed_views
from kineflow.errors import DataError
from kineflow.training.inputs import model_input
from kineflow.video.flow_store import FlowRule

RULE = FlowRule("dis_fast", bound_px=127 / 8)  # a step of the codes is an eighth of a pixel
AUGMENT = Augment(flip=True, crop_scale_min=0.6, brightness=0.2, contrast=0.2, amplitude=0.3, time_jitter=0.2)


def make(**changes) -> Preprocessing:
    values = {
        "task": "clip",
        "stream": "rgb",
        "fps": 10.0,
        "frames": {},
        "flow": {"rule": asdict(RULE)},
        "sampling": "segments",
        "num_frames": 4,
        "frame_stride": 1,
        "height_px": 6,
        "width_px": 8,
        "decode_height_px": 6,
        "decode_width_px": 8,
        "subtract_background": False,
        "flow_scale_px": 1.0,
        "num_views": 1,
    }
    return Preprocessing(**(values | changes))


def numbered_frames(count: int, height: int = 6, width: int = 8) -> np.ndarray:
    """Every pixel of frame i is i."""
    shape = (count, height, width, 3)
    return np.broadcast_to(np.arange(count, dtype=np.uint8)[:, None, None, None], shape).copy()


def random_codes(count: int, height: int = 6, width: int = 8) -> np.ndarray:
    """Flow as it is stored, of up to a few pixels."""
    return np.random.default_rng(0).integers(108, 149, (count, height, width, 2), np.uint8)


def in_pixels(codes: np.ndarray) -> np.ndarray:
    return RULE.table()[codes]


def clip_tensor(
    images_NHWC: np.ndarray, start: int, stop: int, preprocessing: Preprocessing, view: View, *, eighths: int = 8
) -> np.ndarray:
    """What the model is given of one clip."""
    clip = clip_pixels(DecodedImages(images_NHWC, eighths), start, stop, preprocessing, view)
    return model_input(collate([Sample(clip, 0, 0)]), preprocessing, torch.device("cpu"))[0].numpy()


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


@pytest.mark.parametrize(
    ("stop", "stride", "expected"),
    [(1, 1, [0]), (3, 1, [0, 1, 2]), (3, 2, [0, 2]), (7, 2, [0, 2, 4, 6]), (4, 1, [0, 1, 2, 3]), (10, 1, [3, 4, 5, 6])],
)
def test_short_clips_that_are_padded_show_their_own_frames_once(stop, stride, expected):
    preprocessing = make(sampling="dense", frame_stride=stride, short_clips="pad")
    assert shown(clip_tensor(numbered_frames(stop), 0, stop, preprocessing, View())) == expected
    assert preprocessing.num_images(stop) == len(expected)


def test_what_version_4_says_is_read():
    values = make().to_json()
    del values["short_clips"]
    assert Preprocessing.from_json(values | {"schema_version": 4}, where="b") == make()


def test_dense_views_run_from_the_first_to_the_last_position():
    preprocessing = make(sampling="dense", num_views=3)
    views = [shown(clip_tensor(numbered_frames(24), 0, 24, preprocessing, view)) for view in fixed_views(3)]
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
    codes = random_codes(12)
    tensor = clip_tensor(codes, 0, 13, make(stream="flow"), View())
    flows = in_pixels(codes)
    slow = [np.mean([flows[i] for i in range(3 * s, 3 * s + 3)], axis=0) for s in range(4)]
    np.testing.assert_allclose(tensor, np.moveaxis(np.stack(slow), -1, 0), atol=1 / 8 / 256)


def test_mirroring_flow_mirrors_the_image_and_negates_x():
    codes = random_codes(4)
    plain = clip_tensor(codes, 0, 5, make(stream="flow"), View())
    flipped = clip_tensor(codes, 0, 5, make(stream="flow"), View(flip=True))
    np.testing.assert_array_equal(flipped[0], -plain[0][:, :, ::-1])
    np.testing.assert_array_equal(flipped[1], plain[1][:, :, ::-1])


def test_mirroring_an_image_mirrors_the_tensor():
    images = np.random.default_rng(0).integers(0, 256, (4, 6, 8, 3), np.uint8)
    plain = clip_tensor(images, 0, 4, make(), View())
    np.testing.assert_array_equal(clip_tensor(images, 0, 4, make(), View(flip=True)), plain[..., ::-1])


@pytest.mark.parametrize("eighths", [8, 4])
def test_flow_is_rescaled_with_its_image(eighths):
    # a pixel of the whole flow, of 12 x 32 pixels at whole size
    codes = np.full((4, 12 * eighths // 8, 32 * eighths // 8, 2), RULE.zero + 8, np.uint8)
    tensor = clip_tensor(codes, 0, 5, make(stream="flow"), View(), eighths=eighths)
    np.testing.assert_allclose(tensor[0], 8 / 32)
    np.testing.assert_allclose(tensor[1], 6 / 12)


def test_where_nothing_moves_flow_is_exactly_zero():
    codes = np.full((9, 20, 30, 2), RULE.zero, np.uint8)
    view = draw_view(np.random.default_rng(1), AUGMENT)
    assert not clip_tensor(codes, 0, 10, make(stream="flow", flow_scale_px=0.3), view).any()


def test_flow_is_in_units_of_its_scale_and_clamped():
    codes = np.full((4, 6, 8, 2), RULE.zero + 24, np.uint8)  # 3 px
    assert clip_tensor(codes, 0, 5, make(stream="flow", flow_scale_px=1.5), View()).max() == 2.0
    assert clip_tensor(codes, 0, 5, make(stream="flow", flow_scale_px=0.1), View()).max() == FLOW_CLAMP


@pytest.mark.parametrize("task", ["clip", "frame"])
def test_in_units_of_its_own_motion_a_clip_looks_alike_however_strong_it_moves(task):
    rng = np.random.default_rng(7)
    offsets = rng.integers(-20, 21, (9, 12, 16, 2))
    made = make(task=task, stream="flow", motion_scale="clip")
    slow, fast = (clip_tensor((RULE.zero + by * offsets).astype(np.uint8), 0, 9, made, View()) for by in (1, 3))
    np.testing.assert_allclose(fast, slow, rtol=0, atol=2e-3)  # means are kept in parts of a code
    assert np.mean(np.square(slow)) == pytest.approx(1.0, abs=0.01)  # a little is clamped


def test_where_hardly_anything_moves_noise_stays_small():
    codes = np.full((9, 12, 16, 2), RULE.zero, np.uint8)
    made = make(stream="flow", motion_scale="clip")
    assert not clip_tensor(codes, 0, 9, made, View()).any()
    codes[4, 5, 5] += 1
    assert clip_tensor(codes, 0, 9, made, View()).max() < 0.5


def test_the_scale_of_flow_is_the_standard_deviation_of_the_tensor():
    preprocessing = make(stream="flow")
    views = [View(), View(flip=True, crop=(0.1, 0.2, 0.6, 0.7))]
    codes = random_codes(8)
    tensors = [clip_tensor(codes, 0, 9, preprocessing, view) for view in views]
    clips = (clip_pixels(DecodedImages(codes), 0, 9, preprocessing, view) for view in views)
    assert estimate_flow_scale(clips) == pytest.approx(math.sqrt(np.mean(np.square(tensors))), abs=1e-4)
    assert estimate_flow_scale([]) == 1.0


def test_frame_task_takes_every_frame_and_the_last_flow_twice():
    assert shown(clip_tensor(numbered_frames(9), 2, 7, make(task="frame"), View())) == [2, 3, 4, 5, 6]
    codes = np.full((4, 6, 8, 2), RULE.zero, np.uint8) + np.arange(0, 32, 8, np.uint8)[:, None, None, None]
    tensor = clip_tensor(codes, 0, 5, make(task="frame", stream="flow", flow_scale_px=2.0), View())
    assert (tensor[0, :, 0, 0] * 2).tolist() == [0, 1, 2, 3, 3]


def test_skeletons_on_black_are_zero_where_nothing_is_and_know_no_light():
    pictures = np.zeros((8, 6, 8, 3), np.uint8)
    pictures[:, 2, 1] = (255, 51, 0)
    made = make(stream="pose")
    plain = clip_tensor(pictures, 0, 8, made, View())
    assert plain.shape == (3, 4, 6, 8) and np.count_nonzero(plain) == 2 * 4
    np.testing.assert_allclose(plain[:, 0, 2, 1], np.array([1.0, 0.2, 0.0]) / RGB_STD, rtol=1e-5)
    lit = clip_tensor(pictures, 0, 8, made, View(gain=1.3, offset=0.2))
    np.testing.assert_array_equal(lit, plain)
    flipped = clip_tensor(pictures, 0, 8, made, View(flip=True))
    np.testing.assert_array_equal(flipped, plain[..., ::-1])  # hues stay with their limbs


def test_skeletons_are_sampled_like_frames():
    frames, made = numbered_frames(40), make(stream="pose", num_frames=4)
    tensor = clip_tensor(frames, 20, 40, made, View())
    assert [round(float(value) * RGB_STD * 255) for value in tensor[0, :, 0, 0]] == [22, 27, 32, 37]


def test_a_crop_of_rgb_and_flow_of_one_view_is_the_same_place():
    view = draw_view(np.random.default_rng(5), AUGMENT)
    row_and_column = np.moveaxis(np.indices((40, 60)), 0, -1)
    codes = np.broadcast_to(row_and_column + RULE.zero, (4, 40, 60, 2)).astype(np.uint8)  # each pixel's own place
    images = np.broadcast_to(row_and_column[..., [0, 1, 0]], (4, 40, 60, 3)).astype(np.uint8)
    size = {"height_px": 10, "width_px": 10}
    rgb = clip_tensor(images, 0, 4, make(**size), view)
    flow = clip_tensor(codes, 0, 5, make(stream="flow", flow_scale_px=10.0, **size), view)
    rows_of_rgb = np.clip((rgb[0] * RGB_STD + RGB_MEAN - 0.5 - view.offset) / view.gain + 0.5, 0, 1) * 255
    sign, width = (-1 if view.flip else 1), round(view.crop[3] * 60)
    rows_of_flow = flow[0] * sign / view.amplitude * 10 * 8 * width / 10
    middle = rows_of_rgb[:, 2:8, 2:8]
    unclipped = (middle > 2) & (middle < 38)
    assert unclipped.sum() > 50
    assert np.abs(middle - rows_of_flow[:, 2:8, 2:8])[unclipped].max() < 1.5


def slow_tensor(images_NHWC: np.ndarray, preprocessing: Preprocessing, view: View) -> np.ndarray:
    """The formula of the reference, for segments, one image and one channel after the other, in float64."""
    made, num_images = preprocessing, len(images_NHWC)
    _, whole_rows, whole_columns, num_channels = images_NHWC.shape
    top, left = round(view.crop[0] * whole_rows), round(view.crop[1] * whole_columns)
    rows, columns = round(view.crop[2] * whole_rows), round(view.crop[3] * whole_columns)
    borders = segment_borders(0, num_images, made.num_frames, view)
    tensor = np.empty((num_channels, made.num_frames, made.height_px, made.width_px))
    for t in range(made.num_frames):
        if made.stream == "flow":
            first = min(math.floor(borders[t] + 0.5), num_images - 1)
            last = max(first + 1, min(num_images, math.floor(borders[t + 1] + 0.5)))
            image = np.mean([in_pixels(images_NHWC[i]).astype(np.float64) for i in range(first, last)], axis=0)
        else:
            image = images_NHWC[min(num_images - 1, math.floor((borders[t] + borders[t + 1]) / 2))]
        for c in range(num_channels):
            crop = np.ascontiguousarray(image[top : top + rows, left : left + columns, c])
            far = rows >= 2 * made.height_px and columns >= 2 * made.width_px
            near = made.stream == "flow" and rows >= made.height_px and columns >= made.width_px
            filter_ = cv2.INTER_AREA if far or near else cv2.INTER_LINEAR
            values = cv2.resize(crop, (made.width_px, made.height_px), interpolation=filter_).astype(np.float64)
            if made.stream == "flow":
                towards = made.width_px / columns if c == 0 else made.height_px / rows
                values *= towards * (-1 if view.flip and c == 0 else 1)
            else:
                values = np.clip((values / 255 - 0.5) * view.gain + 0.5 + view.offset, 0, 1)
            tensor[c, t] = values[:, ::-1] if view.flip else values
    if made.stream == "flow":
        scale_px = math.sqrt(np.mean(tensor**2)) if made.motion_scale == "clip" else made.flow_scale_px
        tensor = np.clip(tensor * view.amplitude / scale_px, -FLOW_CLAMP, FLOW_CLAMP)
    if made.stream == "rgb":
        background = tensor.mean(axis=1, keepdims=True) if made.subtract_background else RGB_MEAN
        tensor = (tensor - background) / RGB_STD
    return tensor


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("subtract_background", [False, True])
def test_images_become_what_the_formula_says(seed, subtract_background):
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (21, 30, 41, 3), np.uint8)
    preprocessing = make(height_px=9 + 4 * seed, width_px=14, subtract_background=subtract_background)
    view = draw_view(rng, AUGMENT)
    tensor = clip_tensor(images, 0, 21, preprocessing, view)
    np.testing.assert_allclose(tensor, slow_tensor(images, preprocessing, view), rtol=0, atol=2e-6)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("motion_scale", ["training", "clip"])
def test_flow_becomes_what_the_formula_says(seed, motion_scale):
    rng = np.random.default_rng(seed)
    codes = rng.integers(1, 256, (21, 30, 41, 2), np.uint8)
    size = {"height_px": 9 + 4 * seed, "width_px": 14}
    preprocessing = make(stream="flow", flow_scale_px=2.5, motion_scale=motion_scale, **size)
    view = draw_view(rng, AUGMENT)
    tensor = clip_tensor(codes, 0, 22, preprocessing, view)
    half_a_part = 0.5 / 8 / 256 * math.exp(AUGMENT.amplitude) / 2.5 * 2
    np.testing.assert_allclose(tensor, slow_tensor(codes, preprocessing, view), rtol=0, atol=half_a_part)


def test_clips_of_one_batch_keep_to_themselves():
    rng = np.random.default_rng(2)
    images, preprocessing = rng.integers(0, 256, (20, 6, 8, 3), np.uint8), make(task="frame", subtract_background=True)
    views = [draw_view(rng, AUGMENT) for _ in range(3)]
    lengths = [5, 9, 7]
    clips = [
        clip_pixels(DecodedImages(images), 0, length, preprocessing, view)
        for length, view in zip(lengths, views, strict=True)
    ]
    batch = collate([Sample(clip, None, position) for position, clip in enumerate(clips)])
    together = model_input(batch, preprocessing, torch.device("cpu"))
    assert together.shape == (3, 3, 9, 6, 8)
    assert together.is_contiguous(memory_format=torch.channels_last_3d)
    for row, (length, view) in enumerate(zip(lengths, views, strict=True)):
        alone = clip_tensor(images, 0, length, preprocessing, view)
        np.testing.assert_array_equal(together[row, :, :length].numpy(), alone)
        np.testing.assert_array_equal(together[row, :, -1].numpy(), alone[:, -1])  # padded with its last frame


def test_features_pass_as_they_are():
    features_ND = np.random.default_rng(0).normal(size=(7, 5)).astype(np.float32)
    preprocessing = make(task="frame", stream="embedding")
    tensor = clip_tensor(features_ND[:, None, None, :], 1, 6, preprocessing, View())
    np.testing.assert_array_equal(tensor[:, :, 0, 0], features_ND[1:6].T)


def test_images_are_decoded_so_large_that_the_smallest_crop_has_the_pixels():
    assert decode_px(112, smallest_crop=0.875) == 128
    assert decode_px(24, smallest_crop=0.9) == 27
    assert decode_px(63, smallest_crop=0.9) == 70  # 63 / 0.9 is a little more than 70 in floating point
    assert decode_px(112, smallest_crop=1.0) == 112


def test_how_many_images_a_view_reads():
    assert make().num_images(100) == 4
    assert make(stream="flow", sampling="dense").num_images(100) == 4
    assert make(stream="flow").num_images(100) == 100  # the mean of all of them
    assert make(task="frame").num_images(100) == 100


def test_a_view_without_augmentation_is_the_whole_clip():
    nothing = Augment()
    view = draw_view(np.random.default_rng(0), nothing)
    assert (view.start, view.length, view.crop, view.gain, view.amplitude) == (0, 1, (0, 0, 1, 1), 1, 1)


def test_what_does_not_move_vanishes_with_its_background():
    images = np.full((8, 6, 8, 3), 200, np.uint8)
    images[5:, 2, 3] = 40  # one pixel changes, in half of the sampled frames
    tensor = clip_tensor(images, 0, 8, make(subtract_background=True), View())
    moved = np.zeros((3, 4, 6, 8), np.float32)
    moved[:, :2, 2, 3], moved[:, 2:, 2, 3] = 80 / 255 / RGB_STD, -80 / 255 / RGB_STD
    np.testing.assert_allclose(tensor, moved, atol=1e-5)


def test_an_empty_clip_is_an_error():
    with pytest.raises(DataError, match="is empty"):
        clip_pixels(DecodedImages(numbered_frames(4)), 3, 3, make(), View())


def test_json_round_trip_and_other_versions():
    preprocessing = make(stream="flow", flow={"bound_px": 8.0})
    assert Preprocessing.from_json(preprocessing.to_json(), where="a") == preprocessing
    of_version_4 = preprocessing.to_json() | {"schema_version": 4}
    for later in ("input", "crops", "crop_scale"):
        del of_version_4[later]
    assert Preprocessing.from_json(of_version_4, where="a") == preprocessing
    for version in (3, 99):  # 3 decoded images whole
        with pytest.raises(DataError, match=f"version {version} "):
            Preprocessing.from_json(preprocessing.to_json() | {"schema_version": version}, where="a")
