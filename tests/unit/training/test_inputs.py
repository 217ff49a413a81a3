"""What batches become on the device: colour against torchvision, geometry on analytic images and fields, mixtures."""

import math
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

from kineflow.data.dataset import Batch, Sample, collate
from kineflow.data.mixing import Mixing, draw_mixing
from kineflow.data.preprocessing import RGB_MEAN, RGB_STD, Preprocessing, clip_pixels
from kineflow.data.readers import DecodedImages
from kineflow.data.views import Augment, View, draw_view
from kineflow.models.torchvision_compat import declare_missing_torchvision_ops
from kineflow.training.inputs import clip_lengths, model_input
from kineflow.video.flow_store import FlowRule

CPU = torch.device("cpu")
RULE = FlowRule("dis_fast", bound_px=127 / 8)


def made(stream: str = "rgb", height: int = 24, width: int = 24, **changes) -> Preprocessing:
    values = {
        "task": "frame",
        "stream": stream,
        "fps": 10.0,
        "frames": {},
        "flow": {"rule": asdict(RULE)},
        "sampling": "dense",
        "num_frames": 2,
        "frame_stride": 1,
        "height_px": height,
        "width_px": width,
        "decode_height_px": height,
        "decode_width_px": width,
        "subtract_background": False,
        "flow_scale_px": 1.0,
        "num_views": 1,
    }
    return Preprocessing(**(values | changes))


def sample(images_NHWC: np.ndarray, preprocessing: Preprocessing, view: View | None = None) -> Sample:
    clip = clip_pixels(DecodedImages(images_NHWC), 0, len(images_NHWC), preprocessing, view or View())
    return Sample(clip, 0, 0)


def tensor(images_NHWC: np.ndarray, preprocessing: Preprocessing, view: View | None = None) -> np.ndarray:
    return model_input(collate([sample(images_NHWC, preprocessing, view)]), preprocessing, CPU)[0].numpy()


def random_images(count: int = 2, height: int = 24, width: int = 24) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, height, width, 3), np.uint8)


def colours(tensor_CTHW: np.ndarray) -> np.ndarray:
    """In 0..1."""
    return tensor_CTHW * RGB_STD + RGB_MEAN


@pytest.mark.parametrize("factor", [0.0, 0.4, 1.7])
def test_saturation_is_that_of_torchvision(factor):
    declare_missing_torchvision_ops()
    from torchvision.transforms.v2.functional import adjust_saturation

    images = random_images()
    ours = colours(tensor(images, made(), View(saturation=factor)))
    theirs = adjust_saturation(torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255, factor)
    np.testing.assert_allclose(ours, theirs.permute(1, 0, 2, 3).numpy(), atol=2e-4)  # they weigh red by 0.2989


@pytest.mark.parametrize("third", [1 / 3, -1 / 3])
def test_a_third_of_the_colour_circle_is_that_of_torchvision(third):
    declare_missing_torchvision_ops()
    from torchvision.transforms.v2.functional import adjust_hue

    images = random_images()
    ours = colours(tensor(images, made(), View(hue=third)))
    theirs = adjust_hue(torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255, third)
    np.testing.assert_allclose(ours, theirs.permute(1, 0, 2, 3).numpy(), atol=1e-4)


def test_hue_turns_round_greys_and_there_and_back():
    grey = np.repeat(np.arange(0, 240, 10, dtype=np.uint8), 24 * 3).reshape(1, 24, 24, 3)
    np.testing.assert_allclose(
        tensor(grey, made(), View(hue=0.2, saturation=0.3)), tensor(grey, made()), rtol=0, atol=1e-5
    )
    there = sample(random_images(), made(), View(hue=0.15)).clip.matrix_CC
    back = sample(random_images(), made(), View(hue=-0.15)).clip.matrix_CC
    np.testing.assert_allclose(there @ back, np.eye(3), atol=1e-6)


def test_contrast_and_brightness_come_after_colour():
    images = random_images()
    plain = colours(tensor(images, made(), View(saturation=0.5)))
    lit = colours(tensor(images, made(), View(saturation=0.5, gain=1.2, offset=-0.1)))
    np.testing.assert_allclose(lit, np.clip((plain - 0.5) * 1.2 + 0.4, 0, 1), atol=1e-5)


@pytest.mark.parametrize(("quarters", "turn_deg"), [(3, 90), (2, 180), (1, -90)])
def test_quarter_turns_are_those_of_numpy(quarters, turn_deg):
    images = random_images()
    turned = tensor(images, made(), View(turn_deg=turn_deg))
    np.testing.assert_allclose(turned, np.rot90(tensor(images, made()), quarters, axes=(2, 3)), atol=2e-4)


def test_a_shift_by_whole_pixels_leaves_nothing_behind():
    plain = tensor(random_images(), made())
    shifted = tensor(random_images(), made(), View(shift=(6 / 24, -3 / 24)))
    np.testing.assert_allclose(shifted[:, :, 6:, :-3], plain[:, :, :-6, 3:], atol=2e-4)
    assert np.abs(shifted[:, :, :6]).max() < 1e-4 and np.abs(shifted[:, :, :, -3:]).max() < 1e-4


def test_a_warp_is_the_affine_of_torchvision_where_pixels_are_square():
    declare_missing_torchvision_ops()
    from torchvision.transforms.v2 import InterpolationMode
    from torchvision.transforms.v2.functional import affine

    view = View(turn_deg=-33, zoom=0.8, shift=(3 / 24, -2 / 24), crop=(0.1, 0.2, 0.7, 0.7))
    plain = torch.from_numpy(tensor(random_images(height=40, width=40), made(), View(crop=view.crop)))
    bilinear = InterpolationMode.BILINEAR
    theirs = affine(plain.transpose(0, 1), view.turn_deg, [-2, 3], view.zoom, [0.0, 0.0], interpolation=bilinear)
    ours = tensor(random_images(height=40, width=40), made(), view)
    np.testing.assert_allclose(ours, theirs.transpose(0, 1).numpy(), atol=2e-3)


@pytest.mark.parametrize("stream", ["rgb", "pose"])
def test_an_image_is_turned_in_its_own_pixels(stream):
    # a plane of light 60 x 90 px, for a tensor of 30 x 20: turned, zoomed, shifted, it is another plane
    y, x = np.mgrid[:60, :90] + 0.5
    slope_x, slope_y, middle = 1.1, -0.7, 120
    plane = np.rint(middle + slope_x * (x - 45) + slope_y * (y - 30)).astype(np.uint8)
    images = np.repeat(plane[None, :, :, None], 3, axis=3)
    view = View(turn_deg=25, zoom=1.4, shift=(0.1, -0.05))
    preprocessing = made(stream, 30, 20)
    shown = tensor(images, preprocessing, view)[0, 0] * RGB_STD + (RGB_MEAN if stream == "rgb" else 0)
    angle = math.radians(25)
    rows, columns = np.mgrid[:30, :20] + 0.5
    for row, column in np.ndindex(30, 20):
        out_x, out_y = columns[row, column] * 4.5 - 45 + 0.05 * 90, rows[row, column] * 2 - 30 - 0.1 * 60
        in_x = (math.cos(angle) * out_x + math.sin(angle) * out_y) / 1.4
        in_y = (-math.sin(angle) * out_x + math.cos(angle) * out_y) / 1.4
        if abs(in_x) < 45 - 4.5 and abs(in_y) < 30 - 2:
            expected = (middle + slope_x * in_x + slope_y * in_y) / 255
            assert shown[row, column] == pytest.approx(expected, abs=1.2 / 255)


@pytest.mark.parametrize("flip", [False, True])
def test_vectors_of_flow_turn_and_grow_with_their_image(flip):
    # the field v(p) = B p around the centre of 60 x 90 px becomes L B p' with p' where p came from
    turn_deg, zoom = 35, 1.25
    field = np.array([[0.05, -0.11], [0.08, 0.02]])
    y, x = np.mgrid[:60, :90] + 0.5
    flow = np.stack([x - 45, y - 30], axis=-1) @ field.T
    codes = np.stack(np.split(RULE.quantise(flow.astype(np.float32)), 2), axis=-1)[None]
    view = View(turn_deg=turn_deg, zoom=zoom, flip=flip, amplitude=0.8)
    shown = tensor(codes, made("flow", 30, 20), view)[:, 0]
    cos, sin = math.cos(math.radians(turn_deg)), math.sin(math.radians(turn_deg))
    turn = zoom * np.array([[cos, -sin], [sin, cos]]) @ np.diag([-1 if flip else 1, 1])
    to_tensor = np.array([20 / 90, 30 / 60])
    checked = 0
    for row, column in np.ndindex(30, 20):
        place = np.array([(column + 0.5) * 4.5 - 45, (row + 0.5) * 2 - 30])
        origin = np.linalg.solve(turn, place)
        if abs(origin[0]) < 45 - 5 and abs(origin[1]) < 30 - 3:
            expected = turn @ field @ origin * to_tensor * 0.8
            np.testing.assert_allclose(shown[:, row, column], expected, atol=0.06)
            checked += 1
    assert checked > 150


def test_where_nothing_moves_turned_flow_is_zero():
    codes = np.full((3, 40, 40, 2), RULE.zero, np.uint8)
    everything = Augment(crop_scale_min=0.6, flip=True, rotation_deg=90, zoom=0.3, shift=0.2)
    assert not tensor(codes, made("flow"), draw_view(np.random.default_rng(1), everything)).any()


def test_a_clip_is_the_same_alone_and_among_others():
    rng = np.random.default_rng(3)
    images = rng.integers(0, 256, (9, 30, 40, 3), np.uint8)
    augment = Augment(crop_scale_min=0.6, rotation_deg=40, shift=0.1, hue=0.2, saturation=0.3)
    views = [View(), draw_view(rng, augment), draw_view(rng, Augment()), draw_view(rng, augment)]
    samples = [sample(images[: 9 - i], made(), view) for i, view in enumerate(views)]
    together = model_input(collate(samples), made(), CPU)
    for i, (one, view) in enumerate(zip(together, views, strict=True)):
        alone = tensor(images[: 9 - i], made(), view)
        np.testing.assert_allclose(one[:, : 9 - i].numpy(), alone, atol=1e-4)


def test_differences_of_frames_by_hand():
    values = np.array([10, 30, 25, 25], np.uint8)
    images = np.broadcast_to(values[:, None, None, None], (4, 24, 24, 3)).copy()
    shown = tensor(images, made(input="difference"))
    by_hand = np.array([20, -5, 0, 0]) / 255 / RGB_STD  # the last as the one before it
    np.testing.assert_allclose(shown, np.broadcast_to(by_hand[:, None, None], (3, 4, 24, 24)), atol=1e-6)
    assert not tensor(images[:1], made(input="difference")).any()


def test_padding_plays_no_part_in_differences():
    images, preprocessing = random_images(6), made(input="difference")
    samples = [sample(images[:length], preprocessing) for length in (6, 3, 1)]
    together = model_input(collate(samples), preprocessing, CPU).numpy()
    alone = [tensor(images[:length], preprocessing) for length in (6, 3, 1)]
    for shown, whole in zip(together, alone, strict=True):
        np.testing.assert_array_equal(shown[:, : whole.shape[1]], whole)
        np.testing.assert_array_equal(shown[:, -1], whole[:, -1])  # padded with its last


def mixed(mixing: Mixing | None) -> np.ndarray:
    frames = [np.full((2, 24, 24, 3), value, np.uint8) for value in (0, 100, 200)]
    batch = collate([sample(images, made()) for images in frames])
    return np.rint(colours(model_input(batch._replace(mixing=mixing), made(), CPU).numpy()) * 255)


def test_mixup_averages_each_clip_with_the_one_before():
    assert mixed(None)[:, 0, 0, 0, 0].tolist() == [0, 100, 200]
    shown = mixed(Mixing(0.75))
    assert shown[:, 0, 0, 0, 0].tolist() == [50, 75, 175]  # 3/4 and 1/4 of 200, 0, 100
    assert (shown == shown[:, :1, :1, :1, :1]).all()


def test_cutmix_puts_a_box_of_the_one_before_into_every_frame():
    shown = mixed(Mixing(0.75, (0.25, 0.5, 0.5, 0.5)))
    inside = np.zeros((24, 24), bool)
    inside[6:18, 12:] = True
    for clip, own, other in zip(shown, (0, 100, 200), (200, 0, 100), strict=True):
        np.testing.assert_array_equal(clip, np.broadcast_to(np.where(inside, other, own), clip.shape))


def test_features_are_mixed_too():
    features = np.arange(12, dtype=np.float32).reshape(2, 2, 1, 1, 3)
    batch = Batch(features, np.ones((2, 3)), np.zeros((2, 3)), None, np.arange(2), np.array([2, 2]))
    shown = model_input(batch._replace(mixing=Mixing(0.25)), made("embedding"), CPU)
    np.testing.assert_allclose(shown[0, :, 0, 0, 0], [4.5, 5.5, 6.5])  # a quarter of 0, 1, 2 and 3/4 of 6, 7, 8


def test_the_share_of_a_mixture_is_what_is_shown_of_the_clip():
    rng = np.random.default_rng(0)
    assert draw_mixing(rng, Augment(), height_px=13, width_px=17) is None
    shares = []
    for _ in range(300):
        mixing = draw_mixing(rng, Augment(cutmix=1.0), height_px=13, width_px=17)
        top, left, rows, columns = np.array(mixing.box) * [13, 17, 13, 17]
        np.testing.assert_allclose([top, left, rows, columns], np.rint([top, left, rows, columns]), atol=1e-9)
        assert top >= 0 and top + rows < 13.001 and left >= 0 and left + columns < 17.001
        assert mixing.share == pytest.approx(1 - rows * columns / (13 * 17))
        shares.append(mixing.share)
    assert np.mean(shares) == pytest.approx(0.5, abs=0.06)  # uniform with parameter 1
    both = [draw_mixing(rng, Augment(mixup=0.2, cutmix=1.0), height_px=13, width_px=17) for _ in range(200)]
    assert 60 < sum(mixing.box is None for mixing in both) < 140
    far = [mixing.share for mixing in both if mixing.box is None]
    assert np.mean([min(share, 1 - share) < 0.1 for share in far]) > 0.5  # a small parameter seldom mixes evenly


def test_a_mixed_clip_is_as_long_as_the_longer_of_the_two():
    images = np.zeros((9, 24, 24, 3), np.uint8)
    padded = replace(made(), short_clips="pad", sampling="dense")
    batch = collate([sample(images[:length], made(), View()) for length in (4, 2, 3)])
    batch = batch._replace(num_frames=np.array([4, 2, 3]))
    assert clip_lengths(batch, padded, CPU).tolist() == [4, 2, 3]
    mixed = batch._replace(mixing=Mixing(0.3))
    assert clip_lengths(mixed, padded, CPU).tolist() == [4, 4, 3]  # the first with the last
