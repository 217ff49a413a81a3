"""One small module for each DVC stage: `PARAMS`, the sections it receives, and `run(params, report, ...)`."""

STAGES = (
    "sync",
    "ingest",
    "validate_raw",
    "extract_frames",
    "compute_flow",
    "compute_pose",
    "embed",
    "make_splits",
    "validate_dataset",
    "train",
    "distill",
    "evaluate",
    "register",
)
