"""Where the stages put their outs, relative to the workspace: the other half of `dvc.yaml`."""

import shutil
from pathlib import Path

SOURCES = Path("data/sources.tsv")
WEIGHTS = Path("data/weights.tsv")
RAW = Path("data/raw")
TABLES = Path("data/tables")
VIDEOS = TABLES / "videos.parquet"
EVENTS = TABLES / "events.parquet"
FRAME_LABELS = TABLES / "frame_labels.parquet"
NEAR_COPIES = TABLES / "near_copies.parquet"
FRAMES = Path("data/frames")
FLOW = Path("data/flow")
POSE = Path("data/pose")
EMBEDDINGS = Path("data/embeddings")
STORES = {"rgb": FRAMES, "flow": FLOW, "pose": POSE, "embedding": EMBEDDINGS}  # what each kind of stream reads
ASSIGNMENTS = Path("data/assignments.csv")
FOLD_FILE = Path("data/folds.csv")
SPLITS = Path("data/splits")
CLIPS = SPLITS / "clips.parquet"
FOLDS = SPLITS / "folds.parquet"
MODELS = Path("models")  # rgb, flow, pose, fv, student
GATES = Path("reports/gates")
GATE_RAW = GATES / "raw.json"
GATE_DATASET = GATES / "dataset.json"
GATE_PREDICTIONS = GATES / "predictions.json"
STAGE_REPORTS = Path("reports/stages")
METRICS = Path("metrics.json")
PLOTS = Path("reports/plots")
REPORT_HTML = Path("reports/report.html")
MODEL_CARD = Path("reports/model_card.md")
REGISTRATION = Path("registration.json")
DISABLED = "disabled"  # the file that a disabled stage leaves in its out, alone


def is_disabled(out: Path) -> bool:
    """Whether the stage that owns the folder `out` was disabled by params."""
    return (out / DISABLED).is_file()


def write_disabled(out: Path, reason: str) -> None:
    """Make `out` the out of a disabled stage, and nothing else."""
    shutil.rmtree(out, ignore_errors=True)  # as DVC does, for a stage that is run by itself
    out.mkdir(parents=True)
    (out / DISABLED).write_text(reason + "\n")
