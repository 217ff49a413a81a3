"""From files to tables: decode every video once, read the annotations, and hold the one against the other."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from kineflow import annotations as annotation_formats
from kineflow import storage
from kineflow.annotations import Annotations
from kineflow.annotations.groups import assign_groups
from kineflow.annotations.locate import fetch_annotations
from kineflow.annotations.timing import check_times, fit_frame_tables, label_frames, row_differences
from kineflow.errors import DataError, ParamsError
from kineflow.params import Params
from kineflow.stages import paths, raw_videos
from kineflow.stages.source_manifest import Source, read_sources
from kineflow.stages.stage import StageReport
from kineflow.store import home
from kineflow.tables import EVENTS, FRAME_LABELS, NEAR_COPIES, RESERVED_LABELS, VIDEOS, write_table
from kineflow.video.near_copies import find_near_copies
from kineflow.video.probe_cache import Probed, VideoFile, probe_all

if TYPE_CHECKING:
    import pandas as pd

PARAMS = ("task", "data")
MAX_NAMED = 5
INTEGERS = ("num_bytes", "width", "height", "rotation_deg", "fps_num", "fps_den", "num_frames", "num_corrupt_frames")


def run(params: Params, report: StageReport) -> None:
    """Write the tables videos, events, frame_labels and near_copies, and `data/raw`.

    Raises:
        AnnotationError: the annotations are malformed or do not fit the videos; names file and row.
        DataError: a source changed since sync, or no video can be decoded.
        ParamsError: the format does not serve the task.
    """
    sources = read_sources(paths.SOURCES)
    videos = [source for source in sources if source.kind == "video"]
    keys = [source.key for source in videos]
    hashes = {source.key: source.sha256 for source in sources if source.kind == "annotation"}
    local_annotations = fetch_annotations(params.data.annotations, hashes, home=home())
    annotations = annotation_formats.read(params.data.format, local_annotations, videos=keys)
    _check_task(params.task, params.data.format, annotations)
    groups = assign_groups(params.data.group_from, keys, annotations)
    uris = raw_videos.place(params.data.source, videos, keep=params.data.keep)
    files = [
        VideoFile(item.key, storage.join(params.data.source, item.key), item.sha256, item.num_bytes) for item in videos
    ]
    probed, num_decoded = probe_all(files, home=home(), label="ingest")
    report.skipped = len(videos) - num_decoded
    good = {key: info for key, info in probed.items() if info.reason is None}
    if not good:
        first = next(iter(probed.items()))
        raise DataError(f"none of {len(videos)} videos can be decoded ({first[0]}: {first[1].reason}); replace them")
    check_times(
        annotations.events,
        {key: float(info.values["duration_sec"]) for key, info in good.items()},
        {key: info.values["duration_sec"] / info.values["num_frames"] for key, info in good.items()},
    )
    write_table(paths.VIDEOS, VIDEOS, videos_table(videos, uris, probed, groups, annotations.roles))
    write_table(paths.EVENTS, EVENTS, events_table(annotations))
    labels = frame_labels_table(annotations, good) if params.task == "frame" else _empty_frame_labels()
    write_table(paths.FRAME_LABELS, FRAME_LABELS, labels)
    write_table(paths.NEAR_COPIES, NEAR_COPIES, near_copies_table(videos, good, groups))
    _report(report, videos, probed, annotations, params.task)
    for note in row_differences(
        annotations.frame_tables, {key: info.values["num_frames"] for key, info in good.items()}
    ):
        report.note(note)


def videos_table(
    videos: Sequence[Source],
    uris: Mapping[str, str],
    probed: Mapping[str, Probed],
    groups: Mapping[str, str],
    roles: Mapping[str, str],
) -> "pd.DataFrame":
    """The videos table, in the order of `videos`."""
    import pandas as pd

    rows = []
    for video in videos:
        info = probed[video.key]
        row = {name: info.values.get(name) for name, _ in VIDEOS.columns}
        row |= {"video_id": video.key, "uri": uris[video.key], "sha256": video.sha256, "num_bytes": video.num_bytes}
        row |= {"group": groups[video.key], "official_role": roles.get(video.key)}
        row |= {"status": "ok" if info.reason is None else "quarantined", "reason": info.reason}
        rows.append(row)
    table = pd.DataFrame(rows, columns=[name for name, _ in VIDEOS.columns])
    return table.astype(dict.fromkeys(INTEGERS, "Int64") | {"duration_sec": "Float64", "variable_rate": "boolean"})


def events_table(annotations: Annotations) -> "pd.DataFrame":
    """The events table: by video, time, label and subject."""
    import pandas as pd

    rows = sorted(
        annotations.events,
        key=lambda event: (event.video_id, event.start_sec or 0.0, event.stop_sec or 0.0, event.label, event.subject),
    )
    table = pd.DataFrame([asdict(event) for event in rows], columns=[name for name, _ in EVENTS.columns])
    return table.astype({"start_sec": "Float64", "stop_sec": "Float64"})


def frame_labels_table(annotations: Annotations, probed: Mapping[str, Probed]) -> "pd.DataFrame":
    """One row for each decoded frame of each annotated video; behaviours are 0, 1 or null.

    Raises:
        AnnotationError: a per-frame table does not fit its video.
    """
    import pandas as pd

    fitted = fit_frame_tables(
        annotations.frame_tables, {key: int(info.values["num_frames"]) for key, info in probed.items()}
    )
    behaviours = _behaviours(annotations)
    by_video: dict[str, list[annotation_formats.Event]] = {}
    for event in annotations.events:
        by_video.setdefault(event.video_id, []).append(event)
    labelled = {
        key: fitted[key] if key in fitted else label_frames(by_video[key], info.timestamps_sec(), behaviours)
        for key, info in probed.items()
        if key in fitted or key in by_video
    }
    if not labelled:
        return _empty_frame_labels()
    counts = [len(values) for values in labelled.values()]
    values_NK = np.concatenate(list(labelled.values()))
    columns: dict[str, Any] = {
        "video_id": np.repeat(np.array(list(labelled), dtype=object), counts),
        "frame": np.concatenate([np.arange(count) for count in counts]),
    }
    for k, name in enumerate(behaviours):
        columns[name] = pd.arrays.IntegerArray(np.maximum(values_NK[:, k], 0), values_NK[:, k] < 0)
    return pd.DataFrame(columns)


def near_copies_table(
    videos: Sequence[Source], probed: Mapping[str, Probed], groups: Mapping[str, str]
) -> "pd.DataFrame":
    """The pairs of videos of different groups that show the same, but not by the same bytes."""
    import pandas as pd

    hashes = {video.key: video.sha256 for video in videos}
    keys = sorted(probed)
    found = find_near_copies(
        [probed[key].moments() for key in keys],
        [groups[key] for key in keys],
        lambda number: probed[keys[number]].fingerprint(),
    )
    rows = [(keys[copy.first], keys[copy.second], copy.shift_sec, round(copy.similarity, 3)) for copy in found]
    rows = [row for row in rows if hashes[row[0]] != hashes[row[1]]]
    return pd.DataFrame(rows, columns=[name for name, _ in NEAR_COPIES.columns])


def _behaviours(annotations: Annotations) -> tuple[str, ...]:
    if annotations.frame_tables:
        return annotations.labels
    return tuple(sorted({event.label for event in annotations.events if event.stop_sec is not None}))


def _empty_frame_labels() -> "pd.DataFrame":
    import pandas as pd

    return pd.DataFrame({"video_id": pd.Series([], dtype=object), "frame": pd.Series([], dtype="int64")})


def _check_task(task: str, format_name: str, annotations: Annotations) -> None:
    reserved = sorted(RESERVED_LABELS & set(annotations.labels))
    if reserved:
        raise DataError(f"a class is named {reserved[0]!r}, as a column of the tables is; rename it")
    if task == "frame" and not annotations.frame_tables and all(e.stop_sec is None for e in annotations.events):
        raise ParamsError(f"task: frame needs labels with start and stop, which {format_name} does not give here")
    if task == "clip" and annotations.frame_tables:
        raise ParamsError(f"data.format: {format_name} labels frames; set task: frame")


def _report(
    report: StageReport, videos: Sequence[Source], probed: Mapping[str, Probed], annotations: Annotations, task: str
) -> None:
    quarantined = [(key, info.reason) for key, info in probed.items() if info.reason is not None]
    annotated = {event.video_id for event in annotations.events} | set(annotations.frame_tables)
    report.items, report.quarantined = len(videos), len(quarantined)
    _note_first(report, [f"{key} is quarantined: {reason}" for key, reason in quarantined], column="reason")
    damaged = [(key, info.values) for key, info in probed.items() if info.values.get("num_corrupt_frames")]
    _note_first(
        report,
        [f"{key} is damaged in {of['num_corrupt_frames']} of {of['num_frames']} frames" for key, of in damaged],
        column="num_corrupt_frames",
    )
    if unlabelled := len(videos) - len(annotated):
        report.note(f"{unlabelled} videos have no annotation and are not used")
    points = sum(event.start_sec is not None and event.stop_sec is None for event in annotations.events)
    if task == "frame" and points:
        report.note(f"{points} point events last no time and label no frame")


def _note_first(report: StageReport, notes: Sequence[str], *, column: str) -> None:
    for note in notes[:MAX_NAMED]:
        report.note(note)
    if len(notes) > MAX_NAMED:
        report.note(f"and {len(notes) - MAX_NAMED} more; see the column {column} of {paths.VIDEOS}")
