"""Tables of events in the form that BORIS exports: one row for each START and each STOP.

Source: BORIS user guide, "Export events > Tabular events" (long format, one row per event).
"""

import csv
import io
from collections.abc import Sequence

from kineflow.sample.spec import PlannedVideo, SampleSpec, arena_name

COLUMNS: tuple[str, ...] = (
    "Observation id",
    "Observation date",
    "Description",
    "Observation duration",
    "Observation type",
    "Source",
    "Time offset (s)",
    "Media duration (s)",
    "FPS (frame/s)",
    "arena",
    "Subject",
    "Behavior",
    "Behavioral category",
    "Modifiers",
    "Behavior type",
    "Time",
    "Media file name",
    "Image index",
    "Image file path",
    "Comment",
)
CATEGORIES = {
    "circling_left": "locomotion",
    "circling_right": "locomotion",
    "approach": "object",
    "retreat": "object",
    "groom": "stationary",
    "rest": "stationary",
}


def events_csv(spec: SampleSpec, videos: Sequence[PlannedVideo]) -> str:
    """Write the events of the videos as a BORIS table; media file names are relative to the sample folder."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for video in videos:
        media_sec = video.num_frames / spec.fps
        for bout in video.bouts:
            for kind, frame in (("START", bout.start_frame), ("STOP", bout.stop_frame)):
                writer.writerow(
                    {
                        "Observation id": video.name.rsplit("/", 1)[1].removesuffix(".mp4"),
                        "Observation date": "2026-01-05 09:00:00",
                        "Description": f"rendered sample, seed {spec.seed}",
                        "Observation duration": f"{media_sec:.3f}",
                        "Observation type": "Media file(s)",
                        "Source": f"player #1:{video.name}",
                        "Time offset (s)": "0.0",
                        "Media duration (s)": f"{media_sec:.3f}",
                        "FPS (frame/s)": f"{spec.fps:.3f}",
                        "arena": arena_name(video.group),
                        "Subject": f"mouse{video.group + 1}",
                        "Behavior": bout.behaviour,
                        "Behavioral category": CATEGORIES[bout.behaviour],
                        "Modifiers": "",
                        "Behavior type": kind,
                        "Time": f"{frame / spec.fps:.3f}",
                        "Media file name": video.name,
                        "Image index": str(frame),
                        "Image file path": "",
                        "Comment": "",
                    }
                )
    return text.getvalue()
