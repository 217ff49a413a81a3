"""How a clip is looked at once: drawn at random in training, the same every time in a test.

A view holds fractions of a clip's time and of its image, so that one view is the same place at the same time in every
stream: a teacher and its student look at the same thing.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import Literal, NamedTuple

import numpy as np

Crops = Literal["whole", "mirrored", "center", "three", "ten"]
TEST_WINDOW = 0.85  # of a clip, where it is looked at in several windows
MAX_DISTORTION = 1  # height and width of a multi-scale crop are at most this many scales apart
QUARTERS = (0.25, 0.75)
CORNERS = tuple(product((0.0, 1.0), repeat=2))
CROP_PLACES = (*product((0.0, 0.5, 1.0), repeat=2), *product(QUARTERS, repeat=2))  # (down, right), 13 of them


@dataclass(frozen=True)
class Augment:
    """Ranges of the random changes of a training clip, see `AugmentParams`; by default there is none.

    Args:
        crop_scales: of multi-scale crops at 13 places; empty: crops of `crop_scale_min` and more, anywhere.
        any_frame: of its segment, instead of the one in the middle.
        mixup, cutmix: of whole batches, see `kineflow.data.mixing`.
    """

    flip: bool = False
    crop_scale_min: float = 1.0
    crop_scales: tuple[float, ...] = ()
    rotation_deg: float = 0.0
    zoom: float = 0.0
    shift: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    amplitude: float = 0.0
    time_jitter: float = 0.0
    any_frame: bool = False
    mixup: float = 0.0
    cutmix: float = 0.0

    @property
    def smallest_crop(self) -> float:
        """Smallest side that is looked at, as a fraction."""
        return min((self.crop_scale_min, *self.crop_scales)) * math.exp(-self.zoom)


@dataclass(frozen=True)
class FittedCrop:
    """A crop that is measured by the largest rectangle of the tensor's shape that the image has room for.

    Args:
        height, width: fractions of that rectangle.
        down, right: its place, fractions of the room that the crop leaves in the image; 0.5 is the centre.
        one_way: it moves only where there is more room, and is centred the other way.
    """

    height: float
    width: float
    down: float = 0.5
    right: float = 0.5
    one_way: bool = False


@dataclass(frozen=True)
class View:
    """How one clip is looked at once.

    Args:
        start: first instant, as a fraction of the clip.
        length: of the window, as a fraction of the clip.
        jitter_seed: seeds what is random in time; None: nothing is.
        jitter: largest shift of a segment's border, as a fraction of a segment; or of the free room of a dense clip.
        any_frame: of its segment, drawn by `jitter_seed`; else the one in the middle.
        crop: top, left, height, width as fractions of the image; or a fitted crop.
        flip: mirror left and right (x of the flow changes its sign).
        turn_deg: turns the crop round its centre, clockwise. zoom: makes what it shows this many times as large.
        shift: moves it down and to the right, as fractions of the crop.
        gain: of rgb values around the middle. offset: added to them (0..1 scale).
        saturation: distance of rgb from grey, times this. hue: turns it by this fraction of the colour circle.
        amplitude: multiplies flow.
    """

    start: float = 0.0
    length: float = 1.0
    jitter_seed: int | None = None
    jitter: float = 0.0
    any_frame: bool = False
    crop: tuple[float, float, float, float] | FittedCrop = (0.0, 0.0, 1.0, 1.0)
    flip: bool = False
    turn_deg: float = 0.0
    zoom: float = 1.0
    shift: tuple[float, float] = (0.0, 0.0)
    gain: float = 1.0
    offset: float = 0.0
    saturation: float = 1.0
    hue: float = 0.0
    amplitude: float = 1.0

    @property
    def is_moved(self) -> bool:
        """Whether the crop is turned, zoomed or shifted."""
        return self.turn_deg != 0 or self.zoom != 1 or self.shift != (0, 0)


def draw_view(rng: np.random.Generator, augment: Augment) -> View:
    """A random training view."""
    length = 1.0 - augment.time_jitter * rng.random()
    start = (1.0 - length) * rng.random()
    crop = _corner_crop(rng, augment.crop_scales) if augment.crop_scales else _random_crop(rng, augment.crop_scale_min)
    view = View(
        start=start,
        length=length,
        jitter_seed=int(rng.integers(2**31)),
        jitter=augment.time_jitter,
        any_frame=augment.any_frame,
        crop=crop,
        flip=augment.flip and bool(rng.random() < 0.5),
        gain=1.0 + augment.contrast * rng.uniform(-1, 1),
        offset=augment.brightness * rng.uniform(-1, 1),
        amplitude=float(np.exp(augment.amplitude * rng.uniform(-1, 1))),
    )
    turn, zoom, down, right, saturation, hue = rng.uniform(-1, 1, 6).tolist()
    return replace(
        view,
        turn_deg=augment.rotation_deg * turn,
        zoom=math.exp(augment.zoom * zoom),
        shift=(augment.shift * down, augment.shift * right),
        saturation=1.0 + augment.saturation * saturation,
        hue=augment.hue * hue,
    )


def _random_crop(rng: np.random.Generator, scale_min: float) -> tuple[float, float, float, float]:
    scale = scale_min + (1.0 - scale_min) * rng.random()
    aspect = float(np.exp(rng.uniform(-0.2, 0.2))) if scale_min < 1 else 1.0
    height, width = min(1.0, scale * aspect), min(1.0, scale / aspect)
    return (1.0 - height) * rng.random(), (1.0 - width) * rng.random(), height, width


def _corner_crop(rng: np.random.Generator, scales: tuple[float, ...]) -> FittedCrop:
    """Multi-scale corner cropping; source: Wang et al. 2015, Towards Good Practices; BERT thesis, 3.2.1."""
    sizes = [
        (height, width)
        for (i, height), (j, width) in product(enumerate(scales), repeat=2)
        if abs(i - j) <= MAX_DISTORTION
    ]
    height, width = sizes[rng.integers(len(sizes))]
    down, right = CROP_PLACES[rng.integers(len(CROP_PLACES))]
    return FittedCrop(height, width, down, right)


def fixed_views(num_windows: int, crops: Crops = "whole", crop_scale: float = 1.0) -> Iterator[View]:
    """The test-time views of a clip: each crop of each window in time.

    Args:
        num_windows: one sees all of the clip, several see parts of it.
        crops: the whole image, made to fit the tensor; with `mirrored` as it is and mirrored; its centre; `three` along
            its longer side; or `ten`: the four corners, the centre, and these five mirrored.
        crop_scale: of the crops, as a fraction of the largest rectangle of the tensor's shape in the image.

    Source: BERT thesis, 3.2.1 and C.2.
    """
    for window in range(num_windows):
        view = View()
        if num_windows > 1:
            view = View(start=(1 - TEST_WINDOW) * window / (num_windows - 1), length=TEST_WINDOW)
        yield from _crops_of(view, crops, crop_scale)


def _crops_of(view: View, crops: Crops, scale: float) -> Iterator[View]:
    if crops == "whole":
        yield view
    elif crops == "mirrored":
        yield from (view, replace(view, flip=True))
    elif crops == "center":
        yield replace(view, crop=FittedCrop(scale, scale))
    elif crops == "three":
        for along in (0.0, 0.5, 1.0):
            yield replace(view, crop=FittedCrop(scale, scale, along, along, one_way=True))
    else:
        for flip, (down, right) in product((False, True), (*CORNERS, (0.5, 0.5))):
            yield replace(view, crop=FittedCrop(scale, scale, down, right), flip=flip)


class Box(NamedTuple):
    """A crop of images of one size, in whole pixels."""

    top: int
    left: int
    rows: int
    columns: int

    def of(self, image_HWC: np.ndarray) -> np.ndarray:
        """What the image shows inside."""
        return image_HWC[self.top : self.top + self.rows, self.left : self.left + self.columns]


def crop_box(view: View, height: int, width: int, *, tensor_height: int, tensor_width: int) -> Box:
    """The crop of `view` in images of `height` x `width`, for a tensor of `tensor_height` x `tensor_width`."""
    crop = view.crop
    if isinstance(crop, FittedCrop):
        fit = min(height / tensor_height, width / tensor_width)
        rows, columns = (
            max(1, round(size)) for size in (crop.height * fit * tensor_height, crop.width * fit * tensor_width)
        )
        below, beside = height - rows, width - columns
        down = 0.5 if crop.one_way and below < beside else crop.down
        right = 0.5 if crop.one_way and beside <= below else crop.right
        return Box(round(down * below), round(right * beside), rows, columns)
    top, left = round(crop[0] * height), round(crop[1] * width)
    rows, columns = max(1, round(crop[2] * height)), max(1, round(crop[3] * width))
    return Box(top, left, min(rows, height - top), min(columns, width - left))
