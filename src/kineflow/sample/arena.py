"""The places: floor, wall, object, light and camera of each arena, and how a camera sees one video.

A frame is painted on a canvas of `SUPERSAMPLE` times its size with a margin all round, so that a shifted or
turned camera never looks past the painted world.
"""

from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from kineflow.sample.animal import COATS, Coat
from kineflow.sample.spec import SampleSpec, arena_name, generator

SUPERSAMPLE = 3
MARGIN = 0.08
SUBPIXEL_BITS = 4

Colour = tuple[float, float, float]
ImageHW3 = NDArray[np.uint8]


@dataclass(frozen=True)
class Style:
    """What a designer chose for an arena; the rest is drawn from the seed."""

    floor: str
    base: Colour
    accent: Colour
    wall: Colour
    is_round: bool
    target: Colour
    coat: Coat


STYLES: tuple[Style, ...] = (
    Style("shavings", (203, 176, 134), (232, 214, 178), (120, 108, 96), False, (214, 70, 48), COATS["black"]),
    Style("tiles", (104, 122, 134), (86, 101, 112), (196, 202, 206), False, (240, 186, 44), COATS["white"]),
    Style("planks", (150, 104, 66), (118, 79, 48), (66, 56, 50), False, (56, 150, 196), COATS["hooded"]),
    Style("sand", (212, 190, 150), (190, 160, 116), (150, 138, 120), True, (44, 128, 92), COATS["agouti"]),
    Style("rubber", (58, 92, 78), (46, 74, 62), (30, 38, 36), True, (232, 120, 160), COATS["cream"]),
    Style("paper", (214, 220, 226), (190, 199, 209), (104, 124, 150), False, (122, 84, 190), COATS["grey"]),
    Style("gravel", (96, 92, 90), (140, 134, 128), (176, 168, 156), True, (96, 200, 90), COATS["white"]),
    Style("shavings", (150, 136, 112), (186, 170, 140), (206, 200, 190), True, (40, 70, 160), COATS["black"]),
)


@dataclass(frozen=True)
class Arena:
    """One place with its light, its camera and its animal; the same for all videos of a group.

    Args:
        floor: the painted canvas without animal and object.
        light_HW1: gain of the light for each pixel of a frame, float32.
        cast_3: gain of each colour channel, float32.
        noise_sigma: standard deviation of the sensor noise, in grey levels.
        blur_px: sigma of the lens at frame resolution.
        shake_px: standard deviation of the camera's place from frame to frame.
        flicker: amplitude of the light's flicker, relative.
        flicker_hz: its frequency.
        shadow_xy: where shadows fall, in frame widths.
        animal_scale: length of the animal over the usual length.
    """

    style: Style
    floor: ImageHW3
    light_HW1: NDArray[np.float32]
    cast_3: NDArray[np.float32]
    noise_sigma: float
    blur_px: float
    shake_px: float
    flicker: float
    flicker_hz: float
    shadow_xy: tuple[float, float]
    animal_scale: float


@dataclass(frozen=True)
class View:
    """What changes from video to video in one arena: camera, brightness, place of the object."""

    turn_rad: float
    zoom: float
    shift_xy: tuple[float, float]
    gain: float
    target_xy: tuple[float, float]


def canvas_px(size_px: int) -> int:
    """Side of the canvas that frames of `size_px` are painted on."""
    return round(size_px * SUPERSAMPLE * (1 + 2 * MARGIN))


def to_canvas(xy: tuple[float, float], size_px: int) -> tuple[float, float]:
    """Turn frame widths into canvas pixels."""
    scale = size_px * SUPERSAMPLE
    return (xy[0] + MARGIN) * scale, (xy[1] + MARGIN) * scale


def fixed_point(*values: float) -> tuple[int, ...]:
    """Coordinates for OpenCV's drawing calls with `shift=SUBPIXEL_BITS`."""
    return tuple(round(float(value) * (1 << SUBPIXEL_BITS)) for value in values)


def make_arena(spec: SampleSpec, group: int) -> Arena:
    """Build the arena of a group; the first eight are designed by hand, further ones are their variations."""
    rng = generator(spec, f"arena/{arena_name(group)}")
    style = STYLES[group % len(STYLES)]
    floor = _paint_floor(style, spec.size_px, rng)
    floor = _paint_wall(floor, style, spec.size_px)
    if group >= len(STYLES):
        floor = _shift_hue(floor, float(rng.uniform(20, 160)))
    angle = rng.uniform(0, 2 * np.pi)
    axis = np.linspace(-1, 1, spec.size_px, dtype=np.float32)
    x_HW, y_HW = np.meshgrid(axis, axis)
    light_HW = 1 + rng.uniform(0.06, 0.2) * (np.cos(angle) * x_HW + np.sin(angle) * y_HW)
    light_HW -= rng.uniform(0.03, 0.12) * (x_HW**2 + y_HW**2)
    return Arena(
        style=style,
        floor=floor,
        light_HW1=light_HW[..., None].astype(np.float32),
        cast_3=(1 + rng.uniform(-0.06, 0.06, 3)).astype(np.float32),
        noise_sigma=float(rng.uniform(1.2, 2.6)),
        blur_px=float(rng.uniform(0.0, 0.5)),
        shake_px=float(rng.uniform(0.005, 0.03)),
        flicker=float(rng.uniform(0.0, 0.015)),
        flicker_hz=float(rng.uniform(0.5, 4.0)),
        shadow_xy=(float(-0.022 * np.cos(angle)), float(-0.022 * np.sin(angle))),
        animal_scale=float(rng.uniform(0.93, 1.1)),
    )


def make_view(rng: np.random.Generator) -> View:
    """Draw the nuisances of one video."""
    return View(
        turn_rad=float(rng.uniform(-0.06, 0.06)),
        zoom=float(rng.uniform(0.97, 1.04)),
        shift_xy=(float(rng.uniform(-0.02, 0.02)), float(rng.uniform(-0.02, 0.02))),
        gain=float(rng.uniform(0.9, 1.1)),
        target_xy=(float(rng.uniform(0.83, 0.87)), float(rng.uniform(0.4, 0.6))),
    )


def paint_target(canvas: ImageHW3, arena: Arena, view: View, size_px: int) -> None:
    """Paint the object into the canvas, in place: a shaded ball on a dish, with its shadow."""
    scale = size_px * SUPERSAMPLE
    centre = np.array(to_canvas(view.target_xy, size_px))
    radius = 0.048 * scale
    shadow = np.zeros(canvas.shape[:2], np.uint8)
    _disc(shadow, centre + np.array(arena.shadow_xy) * scale * 1.3, radius * 1.1, (255,))
    shadow_HW1 = cv2.GaussianBlur(shadow, (0, 0), radius * 0.25)[..., None].astype(np.float32) / 255
    canvas[:] = (canvas * (1 - 0.5 * shadow_HW1)).astype(np.uint8)
    dish = np.array(arena.style.wall) * 0.5 + 60
    _disc(canvas, centre, radius * 1.25, dish)
    _disc(canvas, centre, radius * 1.08, dish * 0.72)
    colour = np.array(arena.style.target)
    towards_light = -np.array(arena.shadow_xy) / 0.022
    for layer in np.linspace(0, 1, 9):
        _disc(
            canvas,
            centre + towards_light * radius * 0.35 * layer,
            radius * (1 - 0.85 * layer),
            colour * (0.7 + 0.3 * layer) + 70 * layer**3,
        )


def see(
    canvas: ImageHW3, arena: Arena, view: View, *, size_px: int, shake_xy: NDArray[np.float64], gain: float
) -> NDArray[np.float32]:
    """Turn a canvas into what the camera sees, before sensor noise.

    Args:
        canvas: uint8 (canvas_px, canvas_px, 3), RGB.
        shake_xy: place of the camera in this frame, in frame pixels.
        gain: light of this frame.

    Returns:
        float32 (size_px, size_px, 3) in grey levels, not clipped.
    """
    side = size_px * SUPERSAMPLE
    middle = canvas.shape[0] / 2
    cos, sin = np.cos(view.turn_rad) / view.zoom, np.sin(view.turn_rad) / view.zoom
    matrix = np.array([[cos, -sin, 0.0], [sin, cos, 0.0]])
    offset = np.array(view.shift_xy) * side + shake_xy * SUPERSAMPLE
    matrix[:, 2] = middle + offset - matrix[:, :2] @ np.array([side / 2 - 0.5, side / 2 - 0.5])
    seen = cv2.warpAffine(
        canvas, matrix, (side, side), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REFLECT
    )
    frame = cv2.resize(seen, (size_px, size_px), interpolation=cv2.INTER_AREA).astype(np.float32)
    if arena.blur_px > 0.2:
        frame = cv2.GaussianBlur(frame, (0, 0), arena.blur_px * size_px / 96)
    lit: NDArray[np.float32] = frame * (arena.light_HW1 * (arena.cast_3 * np.float32(view.gain * gain)))
    return lit


def _disc(
    image: NDArray[np.uint8],
    centre: NDArray[np.float64],
    radius: float,
    colour: NDArray[np.float64] | tuple[float, ...],
) -> None:
    shade = tuple(float(np.clip(value, 0, 255)) for value in colour)
    cv2.circle(image, fixed_point(*centre), fixed_point(radius)[0], shade, -1, cv2.LINE_AA, SUBPIXEL_BITS)


def _paint_floor(style: Style, size_px: int, rng: np.random.Generator) -> ImageHW3:
    """Paint the floor: a base with slow blotches, the pattern of its kind, fine grain."""
    side = canvas_px(size_px)
    image = np.empty((side, side, 3), np.uint8)
    image[:] = np.array(style.base, np.uint8)
    painter = {
        "shavings": _paint_shavings,
        "tiles": _paint_tiles,
        "planks": _paint_planks,
        "sand": _paint_sand,
        "rubber": _paint_rubber,
        "paper": _paint_paper,
        "gravel": _paint_gravel,
    }[style.floor]
    painter(image, style, rng)
    blotches = _smooth_noise(side, 5, rng) * 7 + _smooth_noise(side, 14, rng) * 4
    grain = rng.normal(0, 3.0, (side, side)).astype(np.float32)
    return np.clip(image + (blotches + grain)[..., None], 0, 255).astype(np.uint8)


def _smooth_noise(side: int, cells: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Noise of unit variance with `cells` bumps across the canvas, whatever its size."""
    coarse = rng.normal(size=(cells, cells)).astype(np.float32)
    smooth: NDArray[np.float32] = cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC)
    return smooth


def _mix(style: Style, share: float, dim: float = 1.0) -> NDArray[np.float64]:
    mixed: NDArray[np.float64] = (np.array(style.base) * (1 - share) + np.array(style.accent) * share) * dim
    return mixed


def _paint_shavings(image: ImageHW3, style: Style, rng: np.random.Generator) -> None:
    side = image.shape[0]
    for _ in range(1100):
        centre, size = rng.uniform(0, side, 2), side * rng.uniform(0.006, 0.022)
        axes, turn = (size, size * rng.uniform(0.2, 0.5)), rng.uniform(0, 360)
        below, chip = _mix(style, 0.0, 0.72), _mix(style, rng.uniform(-0.5, 1.3), rng.uniform(0.9, 1.06))
        for lift, colour in ((side * 0.003, below), (0.0, chip)):
            cv2.ellipse(
                image,
                fixed_point(centre[0] + lift, centre[1] + lift),
                fixed_point(*axes),
                turn,
                0,
                360,
                tuple(np.clip(colour, 0.0, 255.0).tolist()),
                -1,
                cv2.LINE_AA,
                SUBPIXEL_BITS,
            )


def _paint_tiles(image: ImageHW3, style: Style, rng: np.random.Generator) -> None:
    side = image.shape[0]
    edges = np.round(np.linspace(0, side, 9) + rng.uniform(0, side / 16)).astype(int)
    edges = np.concatenate(([0], edges[edges < side], [side]))
    grout = max(1, round(side * 0.006))
    for top, bottom in pairwise(edges.tolist()):
        for left, right in pairwise(edges.tolist()):
            image[top:bottom, left:right] = np.clip(_mix(style, rng.uniform(-0.4, 0.4)), 0, 255)
            image[top : top + grout, left:right] = np.clip(_mix(style, 1.6), 0, 255)
            image[top:bottom, left : left + grout] = np.clip(_mix(style, 1.6), 0, 255)
            image[top + grout : top + 2 * grout, left + grout : right] = np.clip(_mix(style, -0.9), 0, 255)


def _paint_planks(image: ImageHW3, style: Style, rng: np.random.Generator) -> None:
    side = image.shape[0]
    edges = np.round(np.linspace(0, side, 8)).astype(int)
    for left, right in pairwise(edges.tolist()):
        coarse = rng.normal(size=(7, right - left)).astype(np.float32)
        grain = cv2.resize(coarse, (right - left, side), interpolation=cv2.INTER_CUBIC)
        grain = cv2.GaussianBlur(grain, (0, 0), sigmaX=side * 0.0025, sigmaY=0.1)
        tone = _mix(style, rng.uniform(-0.2, 0.5))
        image[:, left:right] = np.clip(tone + 22 * grain[..., None], 0, 255)
        joint = rng.integers(0, side)
        image[joint : joint + max(1, side // 180), left:right] = _mix(style, 1.0, 0.6)
        image[:, left : left + max(1, side // 130)] = _mix(style, 1.0, 0.55)


def _paint_sand(image: ImageHW3, style: Style, rng: np.random.Generator) -> None:
    side = image.shape[0]
    ripple = _smooth_noise(side, 22, rng) + _smooth_noise(side, 45, rng)
    image[:] = np.clip(_mix(style, 0.3) + 9 * ripple[..., None], 0, 255)
    for _ in range(500):
        colour = _mix(style, rng.uniform(0.5, 1.4), rng.uniform(0.7, 1.1))
        _disc(image, rng.uniform(0, side, 2), side * rng.uniform(0.0015, 0.005), colour)


def _paint_rubber(image: ImageHW3, style: Style, rng: np.random.Generator) -> None:
    side = image.shape[0]
    pitch = side / 22
    for row in range(24):
        for column in range(24):
            centre = np.array([column + 0.5 * (row % 2), row * 0.92]) * pitch
            _disc(image, centre + pitch * 0.07, pitch * 0.27, _mix(style, 1.4, 0.75))
            _disc(image, centre, pitch * 0.25, _mix(style, rng.uniform(-0.7, -0.2), 1.08))


def _paint_paper(image: ImageHW3, style: Style, rng: np.random.Generator) -> None:
    side = image.shape[0]
    x_HW, y_HW = np.meshgrid(np.arange(side), np.arange(side))
    weave = np.sin(2 * np.pi * 20 * (x_HW + y_HW) / side) * np.sin(2 * np.pi * 20 * (x_HW - y_HW) / side)
    image[:] = np.clip(_mix(style, 0.2) + 10 * weave[..., None], 0, 255)
    for _ in range(9):
        stain = _mix(style, rng.uniform(0.8, 1.5), rng.uniform(0.9, 1.0))
        _disc(image, rng.uniform(0, side, 2), side * rng.uniform(0.004, 0.015), stain)


def _paint_gravel(image: ImageHW3, style: Style, rng: np.random.Generator) -> None:
    side = image.shape[0]
    for _ in range(1500):
        centre, radius = rng.uniform(0, side, 2), side * rng.uniform(0.006, 0.016)
        tone = _mix(style, rng.uniform(-0.4, 0.9))
        _disc(image, centre + radius * 0.3, radius, tone * 0.55)
        _disc(image, centre, radius * 0.95, tone)
        _disc(image, centre - radius * 0.25, radius * 0.5, tone * 1.08)


def _paint_wall(floor: ImageHW3, style: Style, size_px: int) -> ImageHW3:
    """Put the wall round the floor: a bright rim, a darker outside, a soft shade at its foot."""
    side, scale = floor.shape[0], size_px * SUPERSAMPLE
    inside = _arena_mask(side, scale, 0.045, style.is_round)
    rim = _arena_mask(side, scale, 0.015, style.is_round)
    foot = cv2.GaussianBlur(_arena_mask(side, scale, 0.06, style.is_round), (0, 0), scale * 0.03)
    wall = np.array(style.wall, np.float32)
    image = floor.astype(np.float32) * (0.62 + 0.38 * foot[..., None])
    image = image * inside[..., None] + (wall * 0.8) * (1 - inside[..., None])
    ring = (rim - inside).clip(0, 1)[..., None]
    image = image * (1 - ring) + (wall * 1.12 + 8) * ring
    return np.clip(image, 0, 255).astype(np.uint8)


def _arena_mask(side: int, scale: int, inset: float, is_round: bool) -> NDArray[np.float32]:
    """1 inside the arena, 0 outside: a disc or a square with round corners."""
    mask = np.zeros((side, side), np.uint8)
    radius = (0.5 - inset) * scale
    corner = radius if is_round else 0.12 * scale
    if is_round:
        corner = radius * 1.06
        _disc(mask, np.array([side / 2, side / 2]), corner, (255,))
    else:
        lowest, highest = side / 2 - radius + corner, side / 2 + radius - corner
        square = np.array([[lowest, lowest], [highest, lowest], [highest, highest], [lowest, highest]])
        cv2.fillPoly(mask, [np.round(square).astype(np.int32)], 255)
        mask = cv2.dilate(mask, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * round(corner) + 1,) * 2))
        mask = cv2.GaussianBlur(mask, (0, 0), 0.8)
    share: NDArray[np.float32] = mask.astype(np.float32) / np.float32(255)
    return share


def _shift_hue(image: ImageHW3, degrees: float) -> ImageHW3:
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
    hsv[..., 0] = (hsv[..., 0].astype(int) + round(degrees / 2)) % 180
    shifted: ImageHW3 = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
    return shifted
