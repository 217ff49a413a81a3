"""From what was found and the machine to values of params.yaml, each with its reason."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kineflow.params import NETWORK_NAMES
from kineflow.setup.survey import Survey
from kineflow.setup.yaml_text import Change

SMALL_CLIPS = 300  # from scratch: fewer clips want the small model and many epochs
MAX_CLIP_FPS, MAX_FRAME_FPS = 30.0, 15.0
SHORT_SIDE_PX = 112
STEP_PX = 16
POINT_WINDOW_SEC = 2.0  # point events are over in a moment; some room before and after, as nobody marks them exactly
MIN_GROUPS_FOR_TEST, MIN_CLIPS_FOR_TEST = 8, 150


@dataclass(frozen=True)
class Machine:
    """What training may use: CPU cores, and whether a CUDA GPU answers."""

    num_cores: int
    has_gpu: bool


def look_at_machine() -> Machine:
    """The machine this runs on; torch is asked only where a driver's device is there."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if not any(Path("/dev").glob("nvidia[0-9]*")):
        return Machine(cores, has_gpu=False)
    import torch

    return Machine(cores, has_gpu=torch.cuda.is_available())


def choose(found: Survey, machine: Machine, *, task: str) -> list[Change]:
    """Values for the keys of params.yaml that depend on the data or the machine; comments are the reasons."""
    fps = _fps(found, task)
    folds, splits = _splits(found)
    return [
        fps,
        *_sizes(found, machine),
        *_clips(found, task, float(fps.value)),
        *splits,
        *_model(found, machine, task, float(fps.value)),
        *_resources(machine, folds),
        *_labels(found, task),
    ]


def _fps(found: Survey, task: str) -> Change:
    own = round(found.fps, 3)
    most = MAX_CLIP_FPS if task == "clip" else MAX_FRAME_FPS
    if own <= most:
        return Change("frames.fps", own, "the videos' own rate")
    reason = "the videos have more" if task == "clip" else "long videos: labels last longer than that"
    return Change("frames.fps", most, f"{reason} ({own:g})")


def _sizes(found: Survey, machine: Machine) -> list[Change]:
    short = min(SHORT_SIDE_PX, max(STEP_PX, min(found.width, found.height) // STEP_PX * STEP_PX))
    aspect = min(2.0, max(0.5, found.width / found.height))
    height, width = (short, _to_step(short * aspect)) if aspect >= 1 else (_to_step(short / aspect), short)
    shape = "one shape for all" if found.aspect_spread > 1.05 else "their shape"
    reason = f"{shape}; the videos are {found.width}x{found.height} in the median"
    changes = [
        Change("frames.height_px", height, reason),
        Change("frames.width_px", width),
        Change("frames.short_side_px", None),
        Change("embed.height_px", height),
        Change("embed.width_px", width),
    ]
    scale = 1.0 if machine.has_gpu else 48 / 112
    model_height, model_width = (_to_step(side * scale) for side in (height, width))
    reason = "as extracted" if machine.has_gpu else "no GPU: motion shows at this size"
    for stream in NETWORK_NAMES:
        changes += [
            Change(f"streams.{stream}.height_px", model_height, reason),
            Change(f"streams.{stream}.width_px", model_width),
        ]
    return changes


def _clips(found: Survey, task: str, fps: float) -> list[Change]:
    if task == "frame":
        window_sec = float(min(10.0, max(2.0, round(2 * found.event_sec)))) if found.event_sec else 4.0
        reason = f"twice the median bout ({found.event_sec:.1f} s), 2 to 10 s" if found.event_sec else "a few seconds"
        return [
            Change("clips.from", "videos"),
            Change("clips.window_sec", window_sec, reason),
            *_plain_clips(),
            Change("clips.min_frames", 8),
            *(Change(f"streams.{stream}.sampling", "dense", "every frame of a window") for stream in NETWORK_NAMES),
            *(Change(f"streams.{stream}.num_frames", max(8, round(window_sec * fps))) for stream in NETWORK_NAMES),
        ]
    origin = "videos" if found.whole_videos else "events"
    reason = "each video is one clip" if found.whole_videos else "videos hold several events"
    window = _point_window(found, fps)
    shortest_sec = min(filter(None, (found.shortest_event_sec, window.value)), default=0.0)
    shortest = int(shortest_sec * fps)
    num_frames = 16 if shortest >= 16 else 8
    frames_reason = f"the shortest clip has {shortest} frames at {fps:g} fps"
    return [
        Change("clips.from", origin, reason),
        window,
        *_plain_clips(),
        Change("clips.min_frames", max(2, min(8, shortest)), frames_reason),
        *(Change(f"streams.{stream}.num_frames", num_frames, frames_reason) for stream in NETWORK_NAMES),
    ]


def _point_window(found: Survey, fps: float) -> Change:
    """The length of a clip around a point event, or none where there are no such events."""
    if not found.num_points:
        return Change("clips.window_sec", None)
    window_sec = max(POINT_WINDOW_SEC, round(8 / fps, 3))
    reason = f"around each of {found.num_points} point events, which last no time; set it to what they take"
    return Change("clips.window_sec", window_sec, reason)


def _plain_clips() -> list[Change]:
    """Whole events and windows side by side; what else there is, a person decides."""
    return [
        Change("clips.stride_sec", None),
        Change("clips.classes", None),
        Change("clips.negatives", None),
        Change("clips.without_support", "leave_out", "a class that one group alone shows cannot be validated"),
    ]


def _splits(found: Survey) -> tuple[int, list[Change]]:
    num_groups = len(found.group_sizes)
    if found.official_test is not None:
        folds = min(3, found.official_groups)
        sides = "test" if found.official_test == "test" else "val, and no test: val is tested on"
        return folds, [
            Change("splits.kind", "official", f"the annotations state train and {sides}"),
            Change("splits.num_folds", folds, f"validation comes out of the {found.official_groups} other groups"),
            Change("splits.test", "official"),
            Change("splits.test_fraction", 0.0),
        ]
    carried = [count for count in found.label_groups.values() if count > 1]
    num_labels = sum(found.label_counts.values())  # clips, or seconds
    with_test, test_reason = True, f"{num_groups} groups are enough to put some aside"
    if num_groups < MIN_GROUPS_FOR_TEST or num_labels < MIN_CLIPS_FOR_TEST:
        with_test, test_reason = False, "too little data to put some aside"
    elif min(carried, default=0) < 4:
        with_test, test_reason = False, "a class is in too few groups to put one aside"
    fraction = 0.2 if with_test else 0.0
    development = num_groups - round(num_groups * fraction)
    folds = max(2, min(5, development, min(carried, default=2)))
    return folds, [
        Change("splits.kind", "group_kfold"),
        Change("splits.num_folds", folds, f"{development} groups, and every class that can be in each fold"),
        Change("splits.test", "groups" if with_test else "none", test_reason),
        Change("splits.test_fraction", fraction),
    ]


def _model(found: Survey, machine: Machine, task: str, fps: float) -> list[Change]:
    if task == "frame":
        num_items = found.total_sec * fps / 64
        model = "resnet18.lstm" if machine.has_gpu else "resnet10_tiny.lstm"
    else:
        num_items = sum(found.label_counts.values())
        model = "r3d_tiny.avg" if num_items < SMALL_CLIPS else "r3d_mini.avg"
        model = "r3d_18.avg" if machine.has_gpu and num_items >= SMALL_CLIPS else model
    epochs = 50 if num_items < SMALL_CLIPS else 30 if num_items < 10 * SMALL_CLIPS else 15
    pieces = "windows" if task == "frame" else "clips"
    place = "a GPU" if machine.has_gpu else f"{machine.num_cores} CPU cores"
    changes = []
    for stream in NETWORK_NAMES:
        changes += [
            Change(f"streams.{stream}.model", model, f"some {num_items:.0f} {pieces} from scratch on {place}"),
            Change(f"streams.{stream}.epochs", epochs, "fewer clips need more"),
        ]
    if task == "frame":
        changes += [Change("train.num_views", 1, "windows cover the video once"), Change("train.batch_size", 4)]
    elif machine.has_gpu:
        changes.append(Change("train.batch_size", 32, "a GPU has room for them"))
    return [*changes, Change("distill.epochs", epochs)]


def _resources(machine: Machine, folds: int) -> list[Change]:
    threads = max(1, machine.num_cores // folds)
    reason = f"{folds} folds share {machine.num_cores} cores"
    return [Change("train.threads_per_fold", threads, reason)]


def _labels(found: Survey, task: str) -> list[Change]:
    sided = [label for label in found.label_counts if {"left", "right"} & set(_words(label))]
    flip_reason = f"{sided[0]} would become its opposite" if sided else "no class is named left or right"
    changes = [Change("train.augment.flip", not sided, flip_reason)]
    if task == "clip" and found.label_counts:
        fewest = int(min(found.label_counts.values()))
        changes.append(
            Change("validation.min_clips_per_class", max(1, min(4, fewest)), f"the rarest class has {fewest}")
        )
    return changes


def _words(label: str) -> list[str]:
    return "".join(letter if letter.isalpha() else " " for letter in label.lower()).split()


def _to_step(side_px: float) -> int:
    return max(STEP_PX, round(side_px / STEP_PX) * STEP_PX)


def reasons(changes: list[Change]) -> Mapping[str, tuple[object, str]]:
    """Value and reason of each choice that has one, for the report."""
    return {change.key: (change.value, change.comment) for change in changes if change.comment}
