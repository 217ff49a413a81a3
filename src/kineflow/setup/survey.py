"""What a pair of videos and annotations holds: counts, sizes, groups, and everything that is wrong."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from kineflow import annotations as annotation_formats
from kineflow import storage
from kineflow.annotations import Annotations, Format, MalformedAnnotationsError
from kineflow.annotations.boris_csv import OBSERVATION
from kineflow.annotations.groups import assign_groups
from kineflow.annotations.locate import hash_files, list_videos, local_annotations
from kineflow.annotations.timing import check_times, fit_frame_tables, label_frames, row_differences
from kineflow.data.held_out import official_test_role
from kineflow.errors import AnnotationError
from kineflow.store import home
from kineflow.tables import RESERVED_LABELS
from kineflow.video.probe_cache import Probed, VideoFile, probe_all

GROUP_NAMES = re.compile(
    r"(?i)^(group|subject|animal|individual|mouse|rat|fish|bird|nest|arena|cage|pen|colony|session|recording|camera|site)"
)
UCF_GROUP = r"_g(\d+)_c\d+"


@dataclass(frozen=True)
class Survey:
    """What was found.

    Args:
        num_videos: in the source, those that cannot be decoded included.
        total_sec: of the videos that can be decoded.
        duration_sec, fps, width, height: medians over those.
        aspect_spread: largest over smallest ratio of width to height.
        unit: `events` (task clip) or `seconds` (task frame).
        label_counts: so many of that unit, by label.
        label_groups: in how many groups each label occurs.
        group_sizes: annotated videos by group.
        group_rule: as in data.group_from; `group_reason` says why it was chosen.
        whole_videos: whether each annotated video is one clip.
        shortest_event_sec, event_sec: of the labelled pieces that last, the shortest and the median; 0 without any.
        num_points: events that last no time.
        official_test: `test` or `val`, the official role that is tested on; None: the annotations state no two sides.
        official_groups: so many are left to train on then.
        quarantined: reason by key, of the videos that cannot be decoded.
        unannotated: keys of the videos that no annotation names.
        problems: what must be corrected before a run, with file and row.
        warnings: what should be looked at.
    """

    num_videos: int
    total_sec: float
    duration_sec: float
    fps: float
    width: int
    height: int
    aspect_spread: float
    unit: str
    label_counts: Mapping[str, float]
    label_groups: Mapping[str, int]
    group_sizes: Mapping[str, int]
    group_rule: str
    group_reason: str
    whole_videos: bool
    shortest_event_sec: float
    event_sec: float
    num_points: int
    official_test: str | None
    official_groups: int
    quarantined: Mapping[str, str]
    unannotated: Sequence[str]
    problems: Sequence[str] = field(default_factory=list)
    warnings: Sequence[str] = field(default_factory=list)


def survey(videos: str, annotations: str, format_: Format, *, task: str, group_from: str | None = None) -> Survey:
    """Decode every video, read every annotation, and hold the one against the other.

    Decoding is kept in the workspace's store, so that `ingest` need not do it again.

    Raises:
        DataError: there are no videos or no annotation files.
        ServiceError: S3 is out of reach.
    """
    infos = list_videos(videos)
    keys = [info.key for info in infos]
    files = [
        VideoFile(info.key, storage.join(videos, info.key), sha256, info.num_bytes)
        for info, sha256 in zip(infos, hash_files(videos, infos, home=home()), strict=True)
    ]
    path = local_annotations(annotations, format_, home=home())
    probed, _ = probe_all(files, home=home(), label="init")
    good = {key: info for key, info in probed.items() if info.reason is None}
    problems: list[str] = []
    found = Annotations()
    try:
        found = annotation_formats.read(format_.name, path, videos=keys)
        _check(found, good)
    except MalformedAnnotationsError as err:
        problems += err.problems
    except AnnotationError as err:
        problems.append(str(err))
    rule, reason = (group_from, "as given") if group_from else choose_group_rule(keys, found)
    groups: dict[str, str] = {}
    try:
        groups = assign_groups(rule, keys, found)
    except MalformedAnnotationsError as err:
        problems += err.problems
    return _summary(found, probed, good, groups, task=task, rule=rule, reason=reason, problems=problems)


def choose_group_rule(keys: Sequence[str], found: Annotations) -> tuple[str, str]:
    """A rule for data.group_from, and why: what keeps one subject or recording out of two folds."""
    annotated = {event.video_id for event in found.events} | set(found.frame_tables)
    if annotated and annotated <= set(found.groups) and len(set(found.groups.values())) > 1:
        return "annotations", "the annotations state groups"
    names = sorted({name for row in found.columns.values() for name in row})
    for name in filter(GROUP_NAMES.match, names):
        values = {found.columns.get(key, {}).get(name, "") for key in annotated}
        if "" not in values and len(values) > 1:
            return f"column:{name}", f"the column {name} has {len(values)} values"
    observations = {found.columns.get(key, {}).get(OBSERVATION, "") for key in annotated}
    if "" not in observations and 1 < len(observations) < len(annotated):
        return f"column:{OBSERVATION}", f"{len(annotated)} videos come from {len(observations)} observations"
    if all(re.search(UCF_GROUP, key) for key in keys):
        return f"regex:{UCF_GROUP}", "the names hold gNN as those of UCF-101 do"
    folders = {key.rpartition("/")[0] for key in annotated or keys}
    labels = {event.label for event in found.events}
    if len(folders) > 1 and not folders <= labels:
        return "folder", f"the videos are in {len(folders)} folders that are not classes"
    return "video", "nothing says which videos belong together"


def _check(found: Annotations, good: Mapping[str, Probed]) -> None:
    durations = {key: float(info.values["duration_sec"]) for key, info in good.items()}
    num_frames = {key: int(info.values["num_frames"]) for key, info in good.items()}
    check_times(found.events, durations, {key: durations[key] / num_frames[key] for key in good})
    fit_frame_tables(found.frame_tables, num_frames)


def _summary(
    found: Annotations,
    probed: Mapping[str, Probed],
    good: Mapping[str, Probed],
    groups: Mapping[str, str],
    *,
    task: str,
    rule: str,
    reason: str,
    problems: list[str],
) -> Survey:
    durations = {key: float(info.values["duration_sec"]) for key, info in good.items()}
    frames = {key: int(info.values["num_frames"]) for key, info in good.items()}
    aspects = [info.values["width"] / info.values["height"] for info in good.values()]
    annotated = {event.video_id for event in found.events} | set(found.frame_tables)
    counts, carriers = _label_counts(found, good, task)
    lengths = _event_lengths(found, durations)
    quarantined = {key: info.reason or "" for key, info in probed.items() if info.reason is not None}
    per_video = Counter(event.video_id for event in found.events)
    longest = {event.video_id: _length(event, durations) for event in found.events}
    whole = all(per_video[key] == 1 and longest[key] >= 0.8 * durations.get(key, 0.0) for key in per_video)
    sizes = Counter(groups[key] for key in groups if key in annotated)
    problems = problems or _misfits(found, good, sizes, task, rule)  # without annotations they would mean nothing
    tested, development, misfit = _official_sides(found, groups, annotated & set(good))
    label_groups = {label: len({groups[key] for key in keys if key in groups}) for label, keys in carriers.items()}
    return Survey(
        num_videos=len(probed),
        total_sec=sum(durations.values()),
        duration_sec=median(durations.values()) if durations else 0.0,
        fps=median(info.values["fps_num"] / info.values["fps_den"] for info in good.values()) if good else 0.0,
        width=int(median(info.values["width"] for info in good.values())) if good else 0,
        height=int(median(info.values["height"] for info in good.values())) if good else 0,
        aspect_spread=max(aspects) / min(aspects) if aspects else 1.0,
        unit="events" if task == "clip" else "seconds",
        label_counts=counts,
        label_groups=label_groups,
        group_sizes=dict(sorted(sizes.items())),
        group_rule=rule,
        group_reason=reason,
        whole_videos=whole,
        shortest_event_sec=min(lengths, default=0.0),
        event_sec=median(lengths) if lengths else 0.0,
        num_points=sum(event.start_sec is not None and event.stop_sec is None for event in found.events),
        official_test=tested,
        official_groups=len(development),
        quarantined=quarantined,
        unannotated=sorted(set(probed) - annotated),
        problems=problems,
        warnings=[
            *_warnings(counts, label_groups, rule, reason),
            *misfit,
            *row_differences(found.frame_tables, frames),
        ],
    )


def _misfits(
    found: Annotations, good: Mapping[str, Probed], group_sizes: Mapping[str, int], task: str, rule: str
) -> list[str]:
    problems = []
    if not good:
        problems.append("no video can be decoded; see the reasons")
    if task == "clip" and found.frame_tables:
        problems.append("the annotations label frames; choose --task frame")
    if task == "frame" and not found.frame_tables and all(event.stop_sec is None for event in found.events):
        problems.append("the annotations give no start and stop; choose --task clip")
    if not found.labels:
        return [*problems, "the annotations hold no row with a label; fill them in"]
    if task == "clip" and len(found.labels) == 1:
        text = (
            f"the only class is {found.labels[0]!r}; classification needs two (is --annotations or --format another?)"
        )
        problems.append(text)
    problems += [
        f"a class is named {name!r}, as a column of the tables is; rename it"
        for name in sorted(RESERVED_LABELS & set(found.labels))
    ]
    if len(group_sizes) < 2:
        problems.append(f"{rule} gives a single group; cross-validation needs two (see --group-from)")
    return problems


def _warnings(counts: Mapping[str, float], label_groups: Mapping[str, int], rule: str, reason: str) -> list[str]:
    warnings = []
    if rule == "video" and reason != "as given":
        warnings.append("each video is a group of its own; if several show one subject, name it by --group-from")
    for label in counts:
        if counts[label] == 0:
            warnings.append(f"{label} never occurs; it cannot be learnt")
        elif label_groups.get(label) == 1:
            warnings.append(f"{label} occurs in one group only; it cannot be cross-validated")
    return warnings


def _official_sides(
    found: Annotations, groups: Mapping[str, str], labelled: Set[str]
) -> tuple[str | None, set[str], list[str]]:
    """The official role that is tested on, the groups of the others, and why there is none where roles are stated."""
    roles = {key: found.roles.get(key) for key in sorted(labelled)}
    if not any(roles.values()):
        return None, set(), []
    unlisted = [key for key, role in roles.items() if not role]
    tested = official_test_role(set(roles.values()))
    development = {groups[key] for key, role in roles.items() if role != tested and key in groups}
    if unlisted:
        lack = f"{len(unlisted)} annotated videos have none ({unlisted[0]})"
    elif tested not in roles.values():
        lack = "none is test or val"
    elif len(development) < 2:
        lack = f"the other side of {tested} has {len(development)} groups, and validation needs one of two"
    else:
        return tested, development, []
    return None, set(), [f"the official roles are not used: {lack}"]


def _label_counts(
    found: Annotations, good: Mapping[str, Probed], task: str
) -> tuple[dict[str, float], dict[str, set[str]]]:
    """Events or seconds of each label, and the videos that have it."""
    counts = dict.fromkeys(found.labels, 0.0)
    carriers: dict[str, set[str]] = {label: set() for label in found.labels}
    for event in found.events:
        if task == "clip":
            counts[event.label] += 1
            carriers[event.label].add(event.video_id)
    if task == "frame":
        by_video: dict[str, list[annotation_formats.Event]] = {}
        for event in found.events:
            by_video.setdefault(event.video_id, []).append(event)
        for key, info in good.items():
            if key in found.frame_tables:
                values_NK, names = found.frame_tables[key].values, found.frame_tables[key].behaviours
            elif key in by_video:
                names = found.labels
                values_NK = label_frames(by_video[key], info.timestamps_sec(), names)
            else:
                continue
            frame_sec = info.values["duration_sec"] / info.values["num_frames"]
            for name, num_frames in zip(names, (values_NK == 1).sum(axis=0).tolist(), strict=True):
                counts[name] += num_frames * frame_sec
                if num_frames:
                    carriers[name].add(key)
    return counts, carriers


def _event_lengths(found: Annotations, durations: Mapping[str, float]) -> list[float]:
    return [length for event in found.events if (length := _length(event, durations)) > 0]


def _length(event: annotation_formats.Event, durations: Mapping[str, float]) -> float:
    if event.start_sec is None:
        return durations.get(event.video_id, 0.0)
    return 0.0 if event.stop_sec is None else event.stop_sec - event.start_sec


def data_name(videos: str) -> str:
    """A name for the data set: that of its folder, in letters that every tool takes."""
    last = videos.rstrip("/").rpartition("/")[2] or Path(videos).absolute().name
    if last.lower() in ("videos", "clips", "data", "raw", "."):
        last = Path(videos).absolute().parent.name if not storage.is_s3(videos) else last
    return re.sub(r"[^a-z0-9]+", "_", last.lower()).strip("_") or "videos"
