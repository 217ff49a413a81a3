"""The animal: a coat painted once as flat sprites, then bent, turned and laid on the canvas for every pose.

The body is a strip along a circular arc: pixels are mapped back to (distance along the spine, distance from
it) in closed form and looked up in the straight sprite. The head is a second, rigid sprite at the end of the
arc. Tail and paws are drawn.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from kineflow.sample.motion import BODY_LENGTH

SUBPIXEL_BITS = 4
Colour = tuple[float, float, float]


@dataclass(frozen=True)
class Coat:
    """Colours of an animal; `pattern` is one of plain, hooded, ticked."""

    fur: Colour
    mark: Colour
    skin: Colour
    pattern: str
    width: float = 0.33


COATS: dict[str, Coat] = {
    "black": Coat((52, 46, 44), (74, 66, 62), (176, 128, 120), "plain"),
    "white": Coat((232, 228, 220), (206, 198, 188), (236, 170, 166), "plain"),
    "hooded": Coat((228, 222, 210), (58, 48, 44), (222, 158, 148), "hooded"),
    "agouti": Coat((104, 78, 54), (66, 48, 34), (196, 146, 130), "ticked"),
    "cream": Coat((224, 190, 140), (198, 156, 104), (232, 164, 150), "ticked"),
    "grey": Coat((104, 106, 114), (78, 80, 90), (206, 160, 158), "plain"),
}


@dataclass(frozen=True)
class Sprites:
    """An animal ready to be drawn at one size.

    Args:
        body: uint8 (rows, columns, 4), premultiplied RGBA; columns run from rump to neck, the spine is the middle row.
        head: the same for the head, from nape to nose.
        length_px: length of the body at ease, in canvas pixels.
        half_width_px: greatest distance of the flank from the spine.
        head_px: length of the head.
        coat: for what is drawn without sprites.
    """

    body: NDArray[np.uint8]
    head: NDArray[np.uint8]
    length_px: float
    half_width_px: float
    head_px: float
    coat: Coat


def make_sprites(coat: Coat, *, scale_px: float, rng: np.random.Generator) -> Sprites:
    """Paint body and head of an animal whose frame is `scale_px` canvas pixels wide."""
    length_px = 0.74 * BODY_LENGTH * scale_px
    half_width_px = coat.width * length_px * 0.78
    head_px = 0.40 * BODY_LENGTH * scale_px
    return Sprites(
        body=_paint_body(coat, length_px, half_width_px, rng),
        head=_paint_head(coat, head_px, rng),
        length_px=length_px,
        half_width_px=half_width_px,
        head_px=head_px,
        coat=coat,
    )


def draw_animal(
    canvas: NDArray[np.uint8],
    pose: np.void,
    sprites: Sprites,
    *,
    centre_px: tuple[float, float],
    scale_px: float,
    shadow_px: tuple[float, float],
) -> None:
    """Draw the animal in a pose onto the canvas, in place.

    Args:
        canvas: uint8 (H, W, 3), RGB.
        pose: one element of `motion.POSE_DTYPE`.
        centre_px: the middle of the body, x and y.
        scale_px: width of the frame in canvas pixels.
        shadow_px: offset of the shadow, x and y.
    """
    spine = _Spine(pose, sprites.length_px, centre_px)
    top, left, body = _bent_body(canvas, pose, sprites, spine)
    head_top, head_left, head = _turned_head(canvas, pose, sprites, spine, scale_px)
    _cast_shadow(canvas, (top, left, body), (head_top, head_left, head), shadow_px)
    _draw_tail(canvas, pose, sprites, spine, scale_px)
    _draw_paws(canvas, pose, sprites, spine, scale_px, front=False)
    _lay_over(canvas, body, top, left)
    _lay_over(canvas, head, head_top, head_left)
    _draw_paws(canvas, pose, sprites, spine, scale_px, front=True)


class _Spine:
    """The arc that a body lies along, in canvas pixels; `s` from the middle towards the head, `d` to its right."""

    def __init__(self, pose: np.void, length_px: float, centre_px: tuple[float, float]) -> None:
        self.centre = np.array(centre_px)
        self.half = 0.5 * length_px * float(pose["stretch"])
        curvature = float(pose["bend"]) / (2 * self.half)
        self.side = 1.0 if curvature >= 0 else -1.0
        self.radius = 1 / max(abs(curvature), 1e-3 / self.half)
        self.forward = np.array([np.cos(pose["heading"]), np.sin(pose["heading"])])
        self.right = np.array([-self.forward[1], self.forward[0]])

    def point(self, s: float, d: float) -> NDArray[np.float64]:
        """Canvas place of a point given along and beside the spine."""
        along, across = np.sin(s / self.radius), np.cos(s / self.radius)
        reach = self.radius - self.side * d
        place: NDArray[np.float64] = (
            self.centre + self.forward * (reach * along) + self.right * (self.side * (self.radius - reach * across))
        )
        return place

    def heading(self, s: float) -> float:
        """Direction of the spine at `s`, in radians."""
        return float(np.arctan2(self.forward[1], self.forward[0]) + self.side * s / self.radius)

    def unbend(self, x: NDArray[np.float32], y: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Inverse of `point`, for whole arrays of canvas places."""
        dx, dy = x - np.float32(self.centre[0]), y - np.float32(self.centre[1])
        forward = dx * np.float32(self.forward[0]) + dy * np.float32(self.forward[1])
        inward = np.float32(self.radius) - np.float32(self.side) * (
            dx * np.float32(self.right[0]) + dy * np.float32(self.right[1])
        )
        s = np.arctan2(forward, inward) * np.float32(self.radius)
        d = np.float32(self.side) * (np.float32(self.radius) - np.hypot(forward, inward))
        return s, d


def _bent_body(
    canvas: NDArray[np.uint8], pose: np.void, sprites: Sprites, spine: _Spine
) -> tuple[int, int, NDArray[np.uint8]]:
    """Warp the body sprite; return the top, the left and the premultiplied RGBA of its box."""
    reach = spine.half + sprites.half_width_px * 1.1
    left, top = np.maximum(np.floor(spine.centre - reach), 0).astype(int)
    right, bottom = np.minimum(np.ceil(spine.centre + reach), canvas.shape[1::-1]).astype(int)
    x_HW, y_HW = np.meshgrid(np.arange(left, right, dtype=np.float32), np.arange(top, bottom, dtype=np.float32))
    s_HW, d_HW = spine.unbend(x_HW, y_HW)
    rows, columns = sprites.body.shape[:2]
    # A shorter body is a wider one: its area stays.
    wide = float(pose["breath"]) / np.sqrt(float(pose["stretch"]))
    column_HW = (s_HW / np.float32(2 * spine.half) + np.float32(0.5)) * np.float32(columns - 1)
    row_HW = d_HW * np.float32(0.5 * (rows - 1) / (1.1 * sprites.half_width_px * wide)) + np.float32(0.5 * (rows - 1))
    body = cv2.remap(sprites.body, column_HW, row_HW, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    return int(top), int(left), body


def _turned_head(
    canvas: NDArray[np.uint8], pose: np.void, sprites: Sprites, spine: _Spine, scale_px: float
) -> tuple[int, int, NDArray[np.uint8]]:
    """Turn the head sprite to its place; return the top, the left and the premultiplied RGBA of its box."""
    nape = spine.point(spine.half * 0.80, 0.0)
    angle = spine.heading(spine.half) + float(pose["head_yaw"])
    nape = nape + float(pose["head_reach"]) * scale_px * np.array([np.cos(angle), np.sin(angle)])
    reach = sprites.head_px * 1.25
    left, top = np.maximum(np.floor(nape - reach), 0).astype(int)
    right, bottom = np.minimum(np.ceil(nape + reach), canvas.shape[1::-1]).astype(int)
    rows, columns = sprites.head.shape[:2]
    zoom = (columns - 1) / sprites.head_px
    cos, sin = np.cos(angle) * zoom, np.sin(angle) * zoom
    matrix = np.array([[cos, sin, 0.0], [-sin, cos, 0.5 * (rows - 1)]])
    matrix[:, 2] += matrix[:, :2] @ (np.array([left, top]) - nape)
    head = cv2.warpAffine(
        sprites.head,
        matrix,
        (max(1, int(right - left)), max(1, int(bottom - top))),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_CONSTANT,
    )
    return int(top), int(left), head


def _lay_over(canvas: NDArray[np.uint8], rgba: NDArray[np.uint8], top: int, left: int) -> None:
    area = canvas[top : top + rgba.shape[0], left : left + rgba.shape[1]]
    clear_HW1 = (255 - rgba[..., 3:]).astype(np.uint16)
    area[:] = rgba[..., :3] + ((area * clear_HW1 + 127) // 255).astype(np.uint8)


def _cast_shadow(
    canvas: NDArray[np.uint8],
    body: tuple[int, int, NDArray[np.uint8]],
    head: tuple[int, int, NDArray[np.uint8]],
    shadow_px: tuple[float, float],
) -> None:
    """Darken the floor beside the animal."""
    pad = int(max(abs(shadow_px[0]), abs(shadow_px[1])) * 2) + 2
    top, left = min(body[0], head[0]) - pad, min(body[1], head[1]) - pad
    bottom = max(part[0] + part[2].shape[0] for part in (body, head)) + pad
    right = max(part[1] + part[2].shape[1] for part in (body, head)) + pad
    mask = np.zeros((bottom - top, right - left), np.uint8)
    for part_top, part_left, rgba in (body, head):
        area = mask[
            part_top - top : part_top - top + rgba.shape[0],
            part_left - left : part_left - left + rgba.shape[1],
        ]
        np.maximum(area, rgba[..., 3], out=area)
    shift = np.array([[1.0, 0.0, shadow_px[0]], [0.0, 1.0, shadow_px[1]]])
    mask = cv2.warpAffine(mask, shift, mask.shape[::-1])
    width = 2 * (pad // 3) + 1
    mask = cv2.blur(cv2.blur(mask, (width, width)), (width, width))
    rows = slice(max(top, 0), min(bottom, canvas.shape[0]))
    columns = slice(max(left, 0), min(right, canvas.shape[1]))
    mask_HW1 = mask[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left, None]
    area = canvas[rows, columns]
    area[:] = (area * (255 - mask_HW1 * np.float32(0.55)) / 255).astype(np.uint8)


def _disc(canvas: NDArray[np.uint8], place: NDArray[np.float64], radius: float, colour: NDArray[np.float64]) -> None:
    one = 1 << SUBPIXEL_BITS
    cv2.circle(
        canvas,
        (round(float(place[0]) * one), round(float(place[1]) * one)),
        max(1, round(radius * one)),
        tuple(np.clip(colour, 0.0, 255.0).tolist()),
        -1,
        cv2.LINE_AA,
        SUBPIXEL_BITS,
    )


def _draw_tail(canvas: NDArray[np.uint8], pose: np.void, sprites: Sprites, spine: _Spine, scale_px: float) -> None:
    """Draw the tail from the rump backwards: a tapering line with a curl and a wave."""
    num_points = 14
    u = np.linspace(0, 1, num_points)
    curl, wave = float(pose["tail_curl"]), float(pose["tail_wave"])
    angle = spine.heading(-spine.half) + np.pi + curl * u + 0.5 * np.sin(2 * np.pi * u + wave) * u
    step = 0.24 * scale_px / num_points
    rump = spine.point(-spine.half * 0.93, 0.0)
    x = rump[0] + np.cumsum(np.cos(angle)) * step
    y = rump[1] + np.cumsum(np.sin(angle)) * step
    thickness = scale_px * (0.0125 - 0.0085 * u)
    skin = np.array(sprites.coat.skin) * 0.88
    points = np.stack([x, y], axis=1)
    normal = np.stack([-np.sin(angle), np.cos(angle)], axis=1) * thickness[:, None]
    for grow, dim in ((1.0, 0.72), (0.62, 1.0)):
        outline = np.concatenate([points + grow * normal, (points - grow * normal)[::-1]])
        fixed = np.round(outline * (1 << SUBPIXEL_BITS)).astype(np.int32)
        cv2.fillPoly(canvas, [fixed], tuple((skin * dim).tolist()), cv2.LINE_AA, SUBPIXEL_BITS)


def _draw_paws(
    canvas: NDArray[np.uint8],
    pose: np.void,
    sprites: Sprites,
    spine: _Spine,
    scale_px: float,
    *,
    front: bool,
) -> None:
    """Draw the walking paws (under the body) or the two raised ones (over the head)."""
    skin = np.array(sprites.coat.skin)
    up = float(pose["paws_up"])
    gait = float(pose["gait"])
    width = sprites.half_width_px
    if not front:
        feet = [(-0.55, 1.0, 0.0), (-0.55, -1.0, np.pi)]
        if up < 0.5:
            feet += [(0.62, 0.80, np.pi), (0.62, -0.80, 0.0)]
        for along, beside, phase in feet:
            s = spine.half * along + 0.022 * scale_px * np.sin(gait + phase) * (1 - up)
            _disc(canvas, spine.point(s, beside * width), 0.0165 * scale_px, skin * 0.9)
            _disc(canvas, spine.point(s + 0.014 * scale_px, beside * width), 0.010 * scale_px, skin)
    elif up >= 0.5:
        angle = spine.heading(spine.half) + float(pose["head_yaw"])
        ahead = np.array([np.cos(angle), np.sin(angle)])
        beside_head = np.array([-ahead[1], ahead[0]])
        nape = spine.point(spine.half * 0.80, 0.0) + float(pose["head_reach"]) * scale_px * ahead
        stroke = float(pose["paw_phase"])
        for side in (-1.0, 1.0):
            reach = sprites.head_px * (0.72 + 0.24 * np.sin(stroke + 0.5 * side))
            spread = sprites.head_px * (0.33 - 0.10 * np.sin(stroke + 0.5 * side))
            place = nape + ahead * reach + beside_head * side * spread
            _disc(canvas, place, 0.0175 * scale_px, skin * 0.82)
            _disc(canvas, place, 0.0135 * scale_px, skin)


def _furred(
    coat: Coat, height_HW: NDArray[np.float64], mark_HW: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.float64]:
    """Colour of fur at a height in [0, 1] above the flank: rounder light, streaks along the body."""
    rows, columns = height_HW.shape
    streaks = cv2.GaussianBlur(rng.normal(size=(rows, columns)), (0, 0), sigmaX=columns / 40, sigmaY=rows / 90)
    streaks /= streaks.std()
    tufts = cv2.GaussianBlur(rng.normal(size=(rows, columns)), (0, 0), sigmaX=columns / 16)
    tufts /= tufts.std()
    depth = 0.12 if coat.pattern == "ticked" else 0.09
    tone = (0.52 + 0.50 * np.sqrt(height_HW)) * (1 + depth * streaks + 0.03 * tufts)
    colour = np.array(coat.fur) * (1 - mark_HW[..., None]) + np.array(coat.mark) * mark_HW[..., None]
    furred: NDArray[np.float64] = colour * tone[..., None]
    return furred


def _premultiplied(colour_HW3: NDArray[np.float64], alpha_HW: NDArray[np.float64]) -> NDArray[np.uint8]:
    alpha_HW = np.clip(alpha_HW, 0, 1)
    rgba = np.dstack([np.clip(colour_HW3, 0, 255) * alpha_HW[..., None], 255 * alpha_HW])
    return np.round(rgba).astype(np.uint8)


def _paint_body(coat: Coat, length_px: float, half_width_px: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    rows, columns = 2 * round(1.1 * half_width_px) + 1, round(length_px) + 1
    u = np.linspace(0, 1, columns)
    knots = (0.0, 0.04, 0.14, 0.32, 0.5, 0.7, 0.88, 0.97, 1.0)
    widths = (0.0, 0.42, 0.82, 1.0, 0.95, 0.78, 0.66, 0.52, 0.0)
    width_W = np.maximum(np.interp(u, knots, widths), 1e-6)
    width_W = np.maximum(cv2.GaussianBlur(width_W[None], (0, 0), sigmaX=columns / 45)[0], 1e-3)
    d_H = np.linspace(-1.1, 1.1, rows)
    share_HW = np.abs(d_H)[:, None] / width_W[None]
    alpha_HW = (1 - share_HW) * width_W[None] * half_width_px / 1.5 + 0.5
    alpha_HW[:, [0, -1]] = 0
    height_HW = np.clip(1 - share_HW**2, 0, 1)
    if coat.pattern == "hooded":
        stripe_HW = np.exp(-((d_H[:, None] / (0.16 + 0.05 * np.sin(9 * u))) ** 2))
        mark_HW = np.clip(np.maximum(stripe_HW, (u[None] - 0.66) * 9), 0, 1)
    else:
        mark_HW = np.exp(-((d_H[:, None] / 0.22) ** 2)) * np.ones_like(u)
    return _premultiplied(_furred(coat, height_HW, mark_HW, rng), alpha_HW)


def _paint_head(coat: Coat, head_px: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Paint the head from above: skull, ears, eyes, snout."""
    columns, rows = round(head_px) + 1, 2 * round(0.52 * head_px) + 1
    u, v = np.meshgrid(np.linspace(0, 1, columns), np.linspace(-0.52, 0.52, rows))
    knots = (0.0, 0.1, 0.3, 0.5, 0.75, 0.92, 1.0)
    width = np.interp(u, knots, (0.10, 0.24, 0.29, 0.26, 0.15, 0.075, 0.0)) + 1e-6
    alpha = (1 - np.abs(v) / width) * width * head_px / 1.5 + 0.5
    alpha[:, -1] = 0
    height = np.clip(1 - (v / width) ** 2, 0, 1)
    mark = np.ones_like(u) if coat.pattern == "hooded" else 0.5 * np.exp(-((v / 0.08) ** 2))
    colour = _furred(coat, height, mark, rng)
    skin = np.array(coat.skin)
    own = np.array(coat.mark if coat.pattern == "hooded" else coat.fur)
    edge = 1.2 / head_px
    for side in (-1.0, 1.0):
        ear = np.hypot(u - 0.24, v - side * 0.32)
        for radius, shade in ((0.165, own * 0.62), (0.135, own * 0.85), (0.10, skin * 0.92)):
            share = np.clip((radius - ear) / edge + 0.5, 0, 1)
            colour = colour * (1 - share[..., None]) + shade * share[..., None]
            alpha = np.maximum(alpha, share)
        eye = np.clip((0.042 - np.hypot(u - 0.60, v - side * 0.155)) / edge + 0.5, 0, 1)[..., None]
        colour = colour * (1 - eye) + np.array([18.0, 10.0, 12.0]) * eye
    nose = np.clip((0.06 - np.hypot(u - 0.95, v)) / edge + 0.5, 0, 1)[..., None]
    colour = colour * (1 - nose) + skin * nose
    return _premultiplied(colour, alpha)
