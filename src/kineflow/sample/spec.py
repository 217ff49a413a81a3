"""What the sample holds: the spec, the list of its videos and the bouts inside each of them.

Everything here is arithmetic on the spec: no pixel is drawn, so that tables can be written before any video.

The two behaviours of a motion pair are counterbalanced: the clips that share arena and number also share duration,
light, camera, place and pose law, and differ in nothing but how the pose moves.
"""

import hashlib
from dataclasses import dataclass

import numpy as np

from kineflow.errors import ParamsError

MOTION_PAIRS: tuple[tuple[str, str], ...] = (
    ("circling_left", "circling_right"),
    ("approach", "retreat"),
    ("groom", "rest"),
)
BEHAVIOURS: tuple[str, ...] = tuple(behaviour for pair in MOTION_PAIRS for behaviour in pair)

# One round of all behaviours takes about this long in a long video of ordinary length.
ROUND_SEC = 22.0
GAP_SHARE = 0.35
DURATION_JITTER = 0.15


@dataclass(frozen=True, kw_only=True)
class SampleSpec:
    """The size and the seed of a rendered sample.

    Args:
        seed: everything random follows from it.
        num_groups: arenas, each with its own floor, light, camera and animal.
        clips_per_class_per_group: short clips of each behaviour in each arena.
        clip_sec: mean duration of a short clip; each is up to 15% shorter or longer, alike for all behaviours.
        fps: frames per second, constant.
        size_px: height and width of every frame; even, because of 4:2:0 chroma.
        long_videos_per_group: videos with successive bouts, for the frame task; may be 0.
        long_sec: duration of a long video.
        behaviours: which of `BEHAVIOURS` to show, in the order of the class list.

    Raises:
        ParamsError: a number is out of range, or a behaviour is unknown.
    """

    seed: int = 0
    num_groups: int = 6
    clips_per_class_per_group: int = 4
    clip_sec: float = 2.0
    fps: int = 20
    size_px: int = 96
    long_videos_per_group: int = 1
    long_sec: float = 24.0
    behaviours: tuple[str, ...] = BEHAVIOURS

    def __post_init__(self) -> None:
        lowest = {"num_groups": 1, "clips_per_class_per_group": 0, "long_videos_per_group": 0, "fps": 1}
        for key, least in lowest.items():
            if getattr(self, key) < least:
                raise ParamsError(f"sample.{key} is {getattr(self, key)}; give {least} or more.")
        if self.size_px < 32 or self.size_px % 2:
            raise ParamsError(f"sample.size_px is {self.size_px}; give an even number of 32 or more.")
        unknown = [behaviour for behaviour in self.behaviours if behaviour not in BEHAVIOURS]
        if unknown:
            raise ParamsError(f"sample.behaviours names {unknown[0]!r}; the sample can show {', '.join(BEHAVIOURS)}.")
        if not self.behaviours or len(set(self.behaviours)) != len(self.behaviours):
            raise ParamsError("sample.behaviours must name at least one behaviour, and none of them twice.")
        if self.clip_sec * self.fps * (1 - DURATION_JITTER) < 4:
            raise ParamsError(f"sample.clip_sec is {self.clip_sec} at {self.fps} fps; clips need 5 frames or more.")
        if self.long_videos_per_group and self.long_sec * self.fps < 8 * len(self.behaviours):
            raise ParamsError(
                f"sample.long_sec is {self.long_sec} at {self.fps} fps; bouts of {len(self.behaviours)} behaviours "
                f"need at least {8 * len(self.behaviours) / self.fps:g} s."
            )


@dataclass(frozen=True)
class Bout:
    """One behaviour from `start_frame` to `stop_frame` (exclusive)."""

    behaviour: str
    start_frame: int
    stop_frame: int


@dataclass(frozen=True)
class PlannedVideo:
    """One video of the sample.

    Args:
        name: path inside the sample folder, with forward slashes.
        group: arena, counted from 0.
        num_frames: exact.
        bouts: in order of time; frames in no bout show the animal walking to the next place.
        scene_key: videos of equal key share every nuisance (the clips of a motion pair).
    """

    name: str
    group: int
    num_frames: int
    bouts: tuple[Bout, ...]
    scene_key: str

    @property
    def is_long(self) -> bool:
        """Whether it serves the frame task."""
        return self.name.startswith("videos/")


def arena_name(group: int) -> str:
    """Name of a group as the tables show it, such as `arena3`; names count from 1."""
    return f"arena{group + 1}"


def generator(spec: SampleSpec, key: str) -> np.random.Generator:
    """A random generator that depends on the seed and the key only, the same in every process."""
    digest = hashlib.sha256(f"{spec.seed}/{key}".encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest[:16], "big")))


def plan_videos(spec: SampleSpec) -> tuple[PlannedVideo, ...]:
    """List every video of the sample: the clips of all arenas, then the long videos of all arenas."""
    clips = [clip for group in range(spec.num_groups) for clip in _plan_clips(spec, group)]
    long_videos = [
        _plan_long_video(spec, group, number)
        for group in range(spec.num_groups)
        for number in range(spec.long_videos_per_group)
    ]
    return tuple(clips + long_videos)


def _pair_of(behaviour: str) -> str:
    """Name the motion pair of a behaviour."""
    return next("+".join(pair) for pair in MOTION_PAIRS if behaviour in pair)


def _plan_clips(spec: SampleSpec, group: int) -> list[PlannedVideo]:
    """Plan the clips of an arena, in an order that does not tell the behaviour."""
    arena = arena_name(group)
    rng = generator(spec, f"plan/{arena}")
    jitter_N = rng.uniform(-DURATION_JITTER, DURATION_JITTER, spec.clips_per_class_per_group)
    num_frames_N = [max(5, round(spec.clip_sec * spec.fps * (1 + jitter))) for jitter in jitter_N]
    shown = [(number, behaviour) for number in range(len(num_frames_N)) for behaviour in spec.behaviours]
    clips = []
    for position, index in enumerate(rng.permutation(len(shown))):
        number, behaviour = shown[index]
        clips.append(
            PlannedVideo(
                name=f"clips/{arena}_clip{position + 1:03d}.mp4",
                group=group,
                num_frames=num_frames_N[number],
                bouts=(Bout(behaviour, 0, num_frames_N[number]),),
                scene_key=f"{arena}/{_pair_of(behaviour)}/{number}",
            )
        )
    return clips


def _plan_long_video(spec: SampleSpec, group: int, number: int) -> PlannedVideo:
    """Plan one long video: rounds of all behaviours in random order, a gap before each bout and at the end."""
    name = f"videos/{arena_name(group)}_video{number + 1:02d}.mp4"
    rng = generator(spec, f"plan/{name}")
    num_frames = round(spec.long_sec * spec.fps)
    num_rounds = max(1, round(spec.long_sec / ROUND_SEC))
    order = [behaviour for _ in range(num_rounds) for behaviour in rng.permutation(spec.behaviours)]
    bout_shares = rng.uniform(0.6, 1.4, len(order))
    gap_shares = rng.uniform(0.6, 1.4, len(order) + 1)
    shares = np.empty(2 * len(order) + 1)
    shares[1::2] = (1 - GAP_SHARE) * bout_shares / bout_shares.sum()
    shares[0::2] = GAP_SHARE * gap_shares / gap_shares.sum()
    edges = np.round(np.cumsum(shares) * num_frames).astype(int)
    bouts = tuple(Bout(str(behaviour), int(edges[2 * i]), int(edges[2 * i + 1])) for i, behaviour in enumerate(order))
    return PlannedVideo(name=name, group=group, num_frames=num_frames, bouts=bouts, scene_key=name)
