"""What many videos cost beside their own work: one more among a thousand, and nothing new among ten thousand.

The videos are a few tiny frames each, so that what is left is bookkeeping: listing, hashing, keys, links, tables and
gates.
"""

import os
import shutil
import sys
import tempfile
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import yaml

from benchmarks.overhead import children_processor_sec, make_workspace, run_in, stage_seconds
from benchmarks.timing import Comparison, elapsed_sec

STAGES = ("sync", "ingest", "validate_raw", "extract_frames", "compute_flow", "make_splits", "validate_dataset")
LATER_OUTS = {  # what the stages after the gates make, for DVC to look at: they do not grow with the videos
    "compute_pose": ("data/pose/disabled",),
    "embed": ("data/embeddings/disabled",),
    "train@rgb": ("models/rgb/disabled",),
    "train@flow": ("models/flow/disabled",),
    "train@pose": ("models/pose/disabled",),
    "train@fv": ("models/fv/disabled",),
    "distill": ("models/student/disabled",),
    "evaluate": (
        "metrics.json",
        "reports/gates/predictions.json",
        "reports/report.html",
        "reports/model_card.md",
        "reports/plots/curves.csv",
        "reports/plots/confusion.csv",
    ),
    "register": ("registration.json",),
}
NUM_BEFORE = 1_000
ONE_MORE_BAR_SEC = 2.0  # inside the commands of all stages, the video's own work included
NUM_UNCHANGED = 10_000
NOTHING_BAR_SEC = 5.0  # a whole `dvc repro`
OURS_BAR_SEC = 1.0  # of it, the command of `sync`, the start of Python included
NUM_ROUNDS = 3
NUM_GROUPS = 20
SIDE_PX = 32
NUM_FRAMES = 8


def main() -> list[Comparison]:
    """Print what one more video costs among a thousand, and what nothing new costs among ten thousand; minutes."""
    with tempfile.TemporaryDirectory() as name:
        return [*one_more(Path(name) / "small"), *nothing_new(Path(name) / "large")]


def one_more(root: Path, *, num_before: int = NUM_BEFORE, num_rounds: int = NUM_ROUNDS) -> list[Comparison]:
    """The seconds inside each stage's command after one video was added, and of all of them against the bar."""
    workspace = make_video_workspace(root, num_videos=num_before)
    run_stages(workspace)
    rounds, processor_sec = [], []
    for number in range(num_rounds):
        add_videos(workspace, range(num_before + number, num_before + number + 1))
        before_sec = children_processor_sec()
        run_stages(workspace)
        processor_sec.append(children_processor_sec() - before_sec)
        rounds.append(stage_seconds(workspace))
    named = f"one video added to {num_before:,}"
    found = [
        Comparison(
            f"{named}: {stage} / the bar of all", tuple(r[stage] for r in rounds), (ONE_MORE_BAR_SEC,) * num_rounds
        )
        for stage in STAGES
    ]
    total_sec = tuple(sum(r[stage] for stage in STAGES) for r in rounds)
    found.append(Comparison(f"{named}: all stages / the bar", total_sec, (ONE_MORE_BAR_SEC,) * num_rounds))
    named = f"{named}: processor seconds of all stages, their starts included"
    found.append(Comparison(f"{named} / the bar", tuple(processor_sec), (ONE_MORE_BAR_SEC,) * num_rounds))
    return shown(found)


def nothing_new(root: Path, *, num_videos: int = NUM_UNCHANGED, num_rounds: int = NUM_ROUNDS) -> list[Comparison]:
    """The seconds of a `dvc repro` that finds nothing to do, and those of our own part of it."""
    workspace = make_video_workspace(root, num_videos=num_videos)
    dvc = [sys.executable, "-m", "dvc"]
    run_in(workspace, [*dvc, "repro", "validate_dataset"])
    for outs in LATER_OUTS.values():
        for out in outs:
            (workspace / out).parent.mkdir(parents=True, exist_ok=True)
            (workspace / out).write_text("{}\n" if out.endswith("json") else "a,b\n1,2\n")
    run_in(workspace, [*dvc, "commit", "--force", *LATER_OUTS])
    run_in(workspace, [*dvc, "repro"])  # what was committed by hand is looked at once more
    whole = tuple(elapsed_sec(lambda: run_in(workspace, [*dvc, "repro"])) for _ in range(num_rounds))
    sync = [sys.executable, "-c", "from kineflow.cli import main; main()", "stage", "sync"]
    ours = tuple(elapsed_sec(lambda: run_in(workspace, sync)) for _ in range(num_rounds))
    named = f"nothing new among {num_videos:,} videos"
    return shown(
        [
            Comparison(f"{named}: dvc repro / the bar", whole, (NOTHING_BAR_SEC,) * num_rounds),
            Comparison(f"{named}: our part of it / the bar", ours, (OURS_BAR_SEC,) * num_rounds),
            Comparison(f"{named}: our part / DVC's", ours, tuple(w - o for w, o in zip(whole, ours, strict=True))),
        ]
    )


def shown(found: list[Comparison]) -> list[Comparison]:
    """Print comparisons, and give them back."""
    for comparison in found:
        print(comparison, flush=True)
    return found


def make_video_workspace(root: Path, *, num_videos: int) -> Path:
    """A workspace whose source holds so many tiny videos of two classes, in as many folders as there are groups."""
    workspace = make_workspace(root)
    params = yaml.safe_load((workspace / "params.yaml").read_text())
    params["data"] |= {"source": "videos", "annotations": "labels.csv", "format": "manifest", "group_from": "folder"}
    params["sample"] = None
    params["frames"] |= {"fps": 10.0, "height_px": SIDE_PX, "width_px": SIDE_PX}
    params["clips"]["min_frames"] = NUM_FRAMES // 2
    (workspace / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    add_videos(workspace, range(num_videos))
    return workspace


def add_videos(workspace: Path, numbers: range) -> None:
    """Write the videos of these numbers, each with pixels of its own, and label them."""
    labels = workspace / "labels.csv"
    rows = [] if labels.is_file() else ["path,label"]
    for number in numbers:
        key = f"g{number % NUM_GROUPS:02d}/{number:06d}.avi"
        path = workspace / "videos" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        write_tiny(path, seed=number)
        rows.append(f"{key},{'ab'[number // NUM_GROUPS % 2]}")
    with labels.open("a") as file:
        file.writelines(f"{row}\n" for row in rows)


def write_tiny(path: Path, *, seed: int) -> None:
    """A few frames of smooth noise that drifts, MJPEG."""
    scene = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=Fraction(10))
        stream.height, stream.width, stream.pix_fmt = SIDE_PX, SIDE_PX, "yuvj420p"
        for index in range(NUM_FRAMES):
            image = np.ascontiguousarray(scene[:SIDE_PX, index : index + SIDE_PX])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))


def run_stages(workspace: Path) -> None:
    """Run the command of each stage up to the last gate, as DVC does."""
    for stage in STAGES:
        out = {"extract_frames": "data/frames", "compute_flow": "data/flow", "make_splits": "data/splits"}.get(stage)
        if out is not None:
            shutil.rmtree(workspace / out, ignore_errors=True)
        run_in(workspace, [sys.executable, "-c", "from kineflow.cli import main; main()", "stage", stage])


if __name__ == "__main__":
    os.environ.setdefault("DVC_NO_ANALYTICS", "1")
    main()
