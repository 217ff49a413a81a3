"""How the animal moves: one pose for each frame of each behaviour.

Lengths are in frame widths (1.0 is the side of the frame), x to the right, y down; angles in radians, so that a growing
heading turns to the animal's right.

What makes the pairs honest: `circling_right` and `retreat` are the trajectories of `circling_left` and
`approach` played backwards, and nothing in a trajectory has an arrow of time, so the frames of both have one and
the same law. `rest` holds one moment, at random, of the cycle that `groom` goes round. Bend, gait and tail follow
laws that do not know the direction.
"""

import numpy as np
from numpy.typing import NDArray

from kineflow.sample.spec import PlannedVideo

POSE_DTYPE = np.dtype(
    [
        ("x", "f8"),
        ("y", "f8"),
        ("heading", "f8"),
        ("bend", "f8"),  # angle between rump and neck
        ("stretch", "f8"),  # length of the body over its length at ease
        ("breath", "f8"),  # width of the body over its width at ease
        ("head_yaw", "f8"),
        ("head_reach", "f8"),
        ("gait", "f8"),  # phase of the step cycle
        ("paws_up", "f8"),  # 0 on the ground, 1 at the face
        ("paw_phase", "f8"),
        ("tail_curl", "f8"),
        ("tail_wave", "f8"),
    ]
)
Poses = NDArray[np.void]
BODY_LENGTH = 0.34
STEP_LENGTH = 0.09
BREATHS_PER_SEC = 1.6
# Where the middle of the body may be on the way from one bout to the next.
WALKABLE = {"x": (0.22, 0.68), "y": (0.22, 0.78)}


def poses_of(video: PlannedVideo, *, fps: int, target_xy: tuple[float, float], rng: np.random.Generator) -> Poses:
    """Lay out the pose of every frame of a video.

    Args:
        video: its bouts, and gaps between them in which the animal walks to the place of the next one.
        fps: frames per second.
        target_xy: the object that the animal approaches and retreats from.
        rng: to be made from the video's `scene_key`.

    Returns:
        A structured array of `POSE_DTYPE`, one element for each frame.
    """
    tracks = [
        _bout_poses(b.behaviour, b.stop_frame - b.start_frame, fps=fps, target_xy=target_xy, rng=rng)
        for b in video.bouts
    ]
    poses = np.zeros(video.num_frames, POSE_DTYPE)
    if video.bouts[0].start_frame > 0:
        first, rest = _place(tracks[0][0], rng), _place(tracks[-1][-1], rng)
        stops = [0, *(b.stop_frame for b in video.bouts)]
        starts = [*(b.start_frame for b in video.bouts), video.num_frames]
        befores = [first, *(track[-1] for track in tracks)]
        afters = [*(track[0] for track in tracks), rest]
        for start, stop, before, after in zip(stops, starts, befores, afters, strict=True):
            poses[start:stop] = _walk(before, after, stop - start)
    for bout, track in zip(video.bouts, tracks, strict=True):
        poses[bout.start_frame : bout.stop_frame] = track
    poses["breath"] = 1 + 0.035 * np.sin(
        2 * np.pi * BREATHS_PER_SEC * np.arange(video.num_frames) / fps + rng.uniform(0, 2 * np.pi)
    )
    return poses


def _bout_poses(
    behaviour: str, num_frames: int, *, fps: int, target_xy: tuple[float, float], rng: np.random.Generator
) -> Poses:
    time_sec = np.arange(num_frames) / fps
    if behaviour == "circling_left":
        return _circle_left(time_sec, rng)
    if behaviour == "circling_right":
        return _circle_left(time_sec, rng)[::-1]
    if behaviour == "approach":
        return _approach(time_sec, target_xy, rng)
    if behaviour == "retreat":
        return _approach(time_sec, target_xy, rng)[::-1]
    if behaviour == "groom":
        return _groom(time_sec, rng)
    if behaviour == "rest":
        poses = _groom(time_sec, rng)
        poses[:] = poses[rng.integers(num_frames)]
        return poses
    raise AssertionError(f"behaviour {behaviour!r} has no motion")


def _slow_wave(time_sec: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """A smooth random signal in [-1, 1] whose law is the same forwards, backwards and negated."""
    waves = [np.sin(2 * np.pi * rng.uniform(0.25, 1.2) * time_sec + rng.uniform(0, 2 * np.pi)) for _ in range(3)]
    mean: NDArray[np.float64] = np.mean(waves, axis=0)
    return mean


def _circle_left(time_sec: NDArray[np.float64], rng: np.random.Generator) -> Poses:
    """Turn on the spot about a point of the spine, one half to one and a half turns in two seconds."""
    poses = np.zeros(len(time_sec), POSE_DTYPE)
    rate = rng.uniform(2.2, 4.2) * (1 + 0.3 * _slow_wave(time_sec, rng))
    step_sec = time_sec[1] - time_sec[0]
    turned = np.cumsum(rate) * step_sec
    heading = rng.uniform(0, 2 * np.pi) - turned
    pivot_x, pivot_y = rng.uniform(0.38, 0.58), rng.uniform(0.38, 0.62)
    lever = rng.uniform(-0.25, 0.25) * BODY_LENGTH
    poses["x"] = pivot_x + lever * np.cos(heading)
    poses["y"] = pivot_y + lever * np.sin(heading)
    poses["heading"] = heading
    poses["bend"] = 0.5 * _slow_wave(time_sec, rng)
    poses["stretch"] = 1.0 + 0.04 * _slow_wave(time_sec, rng)
    poses["head_yaw"] = 0.35 * _slow_wave(time_sec, rng)
    poses["gait"] = 2.2 * turned + rng.uniform(0, 2 * np.pi)
    poses["tail_curl"] = 1.1 * _slow_wave(time_sec, rng)
    poses["tail_wave"] = rng.uniform(0, 2 * np.pi) + _slow_wave(time_sec, rng)
    return poses


def _approach(time_sec: NDArray[np.float64], target_xy: tuple[float, float], rng: np.random.Generator) -> Poses:
    """Walk to the target, nose ahead, along a straight line."""
    poses = np.zeros(len(time_sec), POSE_DTYPE)
    bearing = rng.uniform(-0.45, 0.45) + 2.0 * (target_xy[1] - 0.5)
    far, near = rng.uniform(0.46, 0.53), rng.uniform(0.28, 0.32)
    done = np.linspace(0, 1, len(time_sec))
    strides = rng.integers(1, 3)
    hesitation = rng.uniform(0.2, 0.7)
    done = done + hesitation * np.sin(2 * np.pi * strides * done + rng.uniform(0, 2 * np.pi)) / (2 * np.pi * strides)
    done = (done - done[0]) / (done[-1] - done[0])
    distance = far + (near - far) * done
    sway = 0.006 * np.sin(2 * np.pi * distance / STEP_LENGTH + rng.uniform(0, 2 * np.pi))
    poses["x"] = target_xy[0] - distance * np.cos(bearing) - sway * np.sin(bearing)
    poses["y"] = target_xy[1] - distance * np.sin(bearing) + sway * np.cos(bearing)
    poses["heading"] = bearing + 0.08 * _slow_wave(time_sec, rng)
    poses["bend"] = 0.2 * _slow_wave(time_sec, rng)
    poses["stretch"] = 1.12 + 0.03 * _slow_wave(time_sec, rng)
    poses["head_yaw"] = 0.15 * _slow_wave(time_sec, rng)
    poses["head_reach"] = 0.01
    poses["gait"] = 2 * np.pi * distance / STEP_LENGTH + rng.uniform(0, 2 * np.pi)
    poses["tail_curl"] = 0.8 * _slow_wave(time_sec, rng)
    poses["tail_wave"] = rng.uniform(0, 2 * np.pi) + _slow_wave(time_sec, rng)
    return poses


def _groom(time_sec: NDArray[np.float64], rng: np.random.Generator) -> Poses:
    """Sit hunched; nod, and stroke the face with both paws, one and a half to two and a half times a second."""
    poses = np.zeros(len(time_sec), POSE_DTYPE)
    phase = 2 * np.pi * rng.uniform(1.5, 2.5) * time_sec + rng.uniform(0, 2 * np.pi)
    side = rng.choice((-1.0, 1.0))
    poses["x"], poses["y"] = rng.uniform(0.28, 0.62), rng.uniform(0.28, 0.72)
    poses["heading"] = rng.uniform(0, 2 * np.pi) + 0.10 * np.sin(phase)
    poses["bend"] = side * rng.uniform(0.2, 0.6) + 0.25 * np.sin(phase)
    poses["stretch"] = 0.82 + 0.03 * np.cos(phase)
    poses["head_yaw"] = side * 0.2 + 0.40 * np.sin(phase)
    poses["head_reach"] = -0.012 + 0.014 * np.cos(phase)
    poses["gait"] = rng.uniform(0, 2 * np.pi)
    poses["paws_up"] = 1.0
    poses["paw_phase"] = phase
    poses["tail_curl"] = side * rng.uniform(0.8, 1.6)
    poses["tail_wave"] = rng.uniform(0, 2 * np.pi)
    return poses


def _place(like: np.void, rng: np.random.Generator) -> np.void:
    """Stand at ease at a random place, as a start or an end of a video."""
    pose = like.copy()
    pose["x"], pose["y"], pose["heading"] = (
        rng.uniform(0.3, 0.6),
        rng.uniform(0.3, 0.7),
        rng.uniform(0, 2 * np.pi),
    )
    pose["bend"], pose["head_yaw"], pose["paws_up"], pose["stretch"] = 0.0, 0.0, 0.0, 1.0
    placed: np.void = pose
    return placed


def _walk(before: np.void, after: np.void, num_frames: int) -> Poses:
    """Walk from one pose to another along a cubic Bezier curve that leaves and arrives with the right heading."""
    poses = np.zeros(num_frames, POSE_DTYPE)
    # The ends belong to the bouts: the walk takes the moments strictly between them.
    u = np.linspace(0, 1, num_frames + 2)
    ease = (u * u * (3 - 2 * u))[1:-1]
    for name in POSE_DTYPE.names or ():
        poses[name] = before[name] + (after[name] - before[name]) * ease
    pull = max(0.3 * np.hypot(after["x"] - before["x"], after["y"] - before["y"]), 0.05)
    path = {}
    for name, direction in (("x", np.cos), ("y", np.sin)):
        # A Bezier curve never leaves the hull of its control points, so keeping those inside keeps the animal inside.
        leaving, arriving = np.clip(
            [before[name] + pull * direction(before["heading"]), after[name] - pull * direction(after["heading"])],
            *WALKABLE[name],
        )
        path[name] = (
            (1 - u) ** 3 * before[name]
            + 3 * (1 - u) ** 2 * u * leaving
            + 3 * (1 - u) * u**2 * arriving
            + u**3 * after[name]
        )
    step_x, step_y = np.gradient(path["x"]), np.gradient(path["y"])
    heading = _turn_gently(np.unwrap(np.arctan2(step_y, step_x)), float(before["heading"]), float(after["heading"]), u)
    poses["x"], poses["y"], poses["heading"] = path["x"][1:-1], path["y"][1:-1], heading[1:-1]
    poses["gait"] = before["gait"] + 2 * np.pi * np.cumsum(np.hypot(step_x, step_y))[1:-1] / STEP_LENGTH
    poses["bend"] += 0.5 * np.clip(np.gradient(heading)[1:-1] * 4, -1, 1)
    return poses


def _turn_gently(
    tangent: NDArray[np.float64], first: float, last: float, u: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Smooth the direction of a path, and lead it from one heading to another the shorter way round."""
    half = max(1, len(tangent) // 6)
    padded = np.pad(tangent, half, mode="edge")
    smooth = np.convolve(padded, np.full(2 * half + 1, 1 / (2 * half + 1)), mode="valid")
    offset_first = _wrapped(first - smooth[0])
    offset_last = _wrapped(last - smooth[-1])
    gentle: NDArray[np.float64] = smooth + offset_first + _wrapped(offset_last - offset_first) * u
    return gentle


def _wrapped(angle: float) -> float:
    """The same direction as an angle in [-pi, pi)."""
    return float((angle + np.pi) % (2 * np.pi) - np.pi)
