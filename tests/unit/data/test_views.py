"""Views of a clip: what is drawn, where crops lie by hand, and ten crops against torchvision's."""

import math
from collections import Counter
from dataclasses import asdict

import numpy as np
import pytest
import torch

from kineflow.data.dataset import Sample, collate
from kineflow.data.preprocessing import RGB_MEAN, RGB_STD, Preprocessing, clip_pixels
from kineflow.data.readers import DecodedImages
from kineflow.data.sampling import dense_frames, every_frame, segment_frames, segment_spans
from kineflow.data.views import CROP_PLACES, Augment, Box, FittedCrop, View, crop_box, draw_view, fixed_views
from kineflow.models.torchvision_compat import declare_missing_torchvision_ops
from kineflow.training.inputs import model_input
from kineflow.video.flow_store import FlowRule

RULE = FlowRule("dis_fast", bound_px=127 / 8)
SCALES = (1.0, 0.875, 0.75, 0.66)
EVERYTHING = Augment(
    flip=True,
    crop_scale_min=0.6,
    rotation_deg=30,
    zoom=0.2,
    shift=0.1,
    brightness=0.2,
    contrast=0.3,
    saturation=0.4,
    hue=0.1,
    amplitude=0.3,
    time_jitter=0.2,
    any_frame=True,
)


def made(**changes) -> Preprocessing:
    values = {
        "task": "clip",
        "stream": "rgb",
        "fps": 10.0,
        "frames": {},
        "flow": {"rule": asdict(RULE)},
        "sampling": "dense",
        "num_frames": 2,
        "frame_stride": 1,
        "height_px": 24,
        "width_px": 24,
        "decode_height_px": 24,
        "decode_width_px": 24,
        "subtract_background": False,
        "flow_scale_px": 1.0,
        "num_views": 1,
    }
    return Preprocessing(**(values | changes))


def tensors(images_NHWC: np.ndarray, preprocessing: Preprocessing) -> list[np.ndarray]:
    """What the model is given of a video, in every test-time view; (C, T, H, W) each."""
    length = len(images_NHWC)
    clips = [
        clip_pixels(DecodedImages(images_NHWC), 0, length, preprocessing, view)
        for view in preprocessing.test_views(length)
    ]
    return [model_input(collate([Sample(c, 0, 0)]), preprocessing, torch.device("cpu"))[0].numpy() for c in clips]


def draws(augment: Augment, count: int) -> list[View]:
    return [draw_view(np.random.default_rng(seed), augment) for seed in range(count)]


def test_thirteen_places_and_neighbouring_scales():
    crops = [view.crop for view in draws(Augment(crop_scales=SCALES), 4000)]
    assert all(isinstance(crop, FittedCrop) for crop in crops)
    sizes = Counter((crop.height, crop.width) for crop in crops)
    steps = {(SCALES[i], SCALES[j]) for i in range(4) for j in range(4) if abs(i - j) < 2}
    assert set(sizes) == steps and len(steps) == 10
    places = Counter((crop.down, crop.right) for crop in crops)
    assert set(places) == set(CROP_PLACES) and len(places) == 13
    for counts in (sizes, places):  # each as likely as another, within five standard deviations
        expected = 4000 / len(counts)
        assert all(abs(count - expected) < 5 * math.sqrt(expected) for count in counts.values())


@pytest.mark.parametrize(
    ("crop", "box"),
    [
        # 256 x 340 as in the BERT thesis: the largest square is 256, and 0.875 of it 224
        (FittedCrop(1.0, 1.0), Box(0, 42, 256, 256)),
        (FittedCrop(0.875, 0.875), Box(16, 58, 224, 224)),
        (FittedCrop(0.875, 0.75, 0.0, 1.0), Box(0, 148, 224, 192)),
        (FittedCrop(0.75, 0.66, 0.25, 0.75), Box(16, 128, 192, 169)),  # of rooms of 64 and 171
        (FittedCrop(0.75, 0.75, 1.0, 0.5), Box(64, 74, 192, 192)),
        (FittedCrop(0.875, 0.875, 1.0, 1.0, one_way=True), Box(16, 116, 224, 224)),
    ],
)
def test_fitted_crops_by_hand(crop, box):
    assert crop_box(View(crop=crop), 256, 340, tensor_height=224, tensor_width=224) == box
    upright = Box(box.left, box.top, box.columns, box.rows)
    turned = FittedCrop(crop.width, crop.height, crop.right, crop.down, crop.one_way)
    assert crop_box(View(crop=turned), 340, 256, tensor_height=224, tensor_width=224) == upright


def test_a_fitted_crop_has_the_shape_of_the_tensor():
    box = crop_box(View(crop=FittedCrop(1.0, 1.0)), 90, 200, tensor_height=30, tensor_width=40)
    assert box == Box(0, 40, 90, 120)


def test_three_crops_lie_along_the_longer_side():
    views = list(fixed_views(1, "three", 1.0))
    wide = [crop_box(view, 50, 100, tensor_height=10, tensor_width=10) for view in views]
    assert wide == [Box(0, 0, 50, 50), Box(0, 25, 50, 50), Box(0, 50, 50, 50)]
    tall = [crop_box(view, 100, 60, tensor_height=10, tensor_width=10) for view in fixed_views(1, "three", 0.5)]
    assert tall == [Box(0, 15, 30, 30), Box(35, 15, 30, 30), Box(70, 15, 30, 30)]


@pytest.mark.parametrize("size", [(40, 60), (61, 33)])
def test_ten_crops_are_those_of_torchvision(size):
    declare_missing_torchvision_ops()
    from torchvision.transforms.v2 import TenCrop

    images = np.random.default_rng(0).integers(0, 256, (2, *size, 3), np.uint8)
    side = round(0.75 * min(size))
    preprocessing = made(height_px=side, width_px=side, crops="ten", crop_scale=0.75)
    ours = [np.rint((tensor * RGB_STD + RGB_MEAN) * 255) for tensor in tensors(images, preprocessing)]
    frames_TCHW = torch.from_numpy(images).permute(0, 3, 1, 2)
    theirs = [crop.permute(1, 0, 2, 3).numpy() for crop in TenCrop(side)(frames_TCHW)]
    theirs = [theirs[i] for i in (0, 1, 2, 3, 4, 6, 5, 8, 7, 9)]  # they mirror first, so left is right
    assert len(ours) == len(theirs) == 10
    for our, their in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(our, their)


def test_ten_crops_of_flow_negate_x_in_the_mirrored_five():
    codes = np.random.default_rng(0).integers(1, 256, (2, 40, 60, 2), np.uint8)
    views = tensors(codes, made(stream="flow", height_px=30, width_px=30, crops="ten", crop_scale=0.75))
    flows = RULE.table()[codes[:, :30, :30]].transpose(3, 0, 1, 2)  # the upper left corner
    np.testing.assert_allclose(views[0], np.clip(flows, -6, 6), atol=1e-5)
    mirrored = np.clip(flows[..., ::-1] * np.array([-1, 1])[:, None, None, None], -6, 6)
    np.testing.assert_allclose(views[5], mirrored, atol=1e-5)


def test_the_whole_image_is_seen_as_it_is_and_mirrored():
    codes = np.random.default_rng(0).integers(1, 256, (2, 40, 60, 2), np.uint8)
    plain, mirrored = tensors(codes, made(stream="flow", height_px=40, width_px=60, crops="mirrored"))
    np.testing.assert_allclose(plain, np.clip(RULE.table()[codes].transpose(3, 0, 1, 2), -6, 6), atol=1e-5)
    np.testing.assert_allclose(mirrored, plain[..., ::-1] * np.array([-1, 1])[:, None, None, None], atol=1e-5)


def test_views_are_windows_times_crops():
    views = list(fixed_views(3, "ten", 0.875))
    assert len(views) == 30 and len({(view.start, view.crop, view.flip) for view in views}) == 30
    assert [view.start for view in views[::10]] == pytest.approx([0.0, 0.075, 0.15])
    assert list(fixed_views(1)) == [View()]


def test_all_clips_that_fit_lie_beside_each_other():
    made_of = made(num_views="all", num_frames=4, frame_stride=2)
    for length, num in ((7, 1), (8, 1), (15, 1), (16, 2), (35, 4)):
        views = list(made_of.test_views(length))
        assert made_of.num_windows(length) == len(views) == num
        clips = [dense_frames(length, 0, length, view, num_frames=4, stride=2) for view in views]
        taken = [index for clip in clips for index in clip]
        if length >= 8:
            assert taken == sorted(set(taken)) and taken[-1] < length
    views = [dense_frames(35, 0, 35, view, num_frames=4, stride=2)[0] for view in made_of.test_views(35)]
    assert views == [0, 9, 18, 27]  # 35 frames less a span of 8, in three steps
    assert made(task="frame", num_views="all").num_windows(99) == 1


def test_a_dense_training_clip_lies_in_the_middle_of_its_room_as_far_as_jitter_says():
    def firsts(jitter: float) -> set[int]:
        views = draws(Augment(time_jitter=jitter), 400)
        return {dense_frames(50, 10, 50, view, num_frames=5, stride=4)[0] for view in views}

    assert firsts(0.0) == {20}
    assert (min(firsts(0.5)), max(firsts(0.5))) == (15, 25)  # of the room of 20 frames the middle 10
    assert firsts(1.0) == set(range(10, 31))


def test_the_last_frame_of_a_video_takes_the_flow_before_it():
    """A clip of the tenth of ten frames, which have nine flows."""
    assert dense_frames(9, 9, 10, View(), num_frames=3, stride=2) == [8, 8, 8]
    assert segment_frames(9, 9, 10, View(), num_segments=3) == [8, 8, 8]
    assert segment_spans(9, 9, 10, View(), num_segments=2) == [range(8, 9)] * 2
    assert every_frame(9, 9, 10) == [8]


def test_any_frame_of_each_segment_is_drawn_and_no_other():
    seen = [set() for _ in range(4)]
    for view in draws(Augment(any_frame=True), 300):
        for segment, index in enumerate(segment_frames(40, 4, 32, view, num_segments=4)):
            seen[segment].add(index)
    assert seen == [set(range(4 + 7 * s, 11 + 7 * s)) for s in range(4)]
    assert segment_frames(40, 4, 32, View(any_frame=True), num_segments=4) == [7, 14, 21, 28]  # a test has no seed


def test_a_new_kind_of_change_leaves_what_was_drawn_before():
    old = Augment(flip=True, crop_scale_min=0.6, brightness=0.2, contrast=0.3, amplitude=0.3, time_jitter=0.2)
    kept = ("start", "length", "jitter_seed", "crop", "flip", "gain", "offset", "amplitude")
    for before, after in zip(draws(old, 20), draws(EVERYTHING, 20), strict=True):
        assert [getattr(before, name) for name in kept] == [getattr(after, name) for name in kept]
        assert not before.is_moved and (before.saturation, before.hue) == (1, 0)
        assert after.is_moved and abs(after.turn_deg) <= 30 and math.exp(-0.2) <= after.zoom <= math.exp(0.2)
        assert max(map(abs, after.shift)) <= 0.1 and 0.6 <= after.saturation <= 1.4 and abs(after.hue) <= 0.1


def test_the_smallest_crop():
    assert Augment().smallest_crop == 1
    assert Augment(crop_scales=SCALES).smallest_crop == 0.66
    assert Augment(crop_scale_min=0.5, zoom=math.log(2)).smallest_crop == pytest.approx(0.25)
