"""Everything that varies clips, and many views of each, through the real stages up to prediction from a file."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from kineflow.cli import app
from kineflow.data.probabilities import to_probs
from kineflow.errors import ParamsError
from kineflow.inference.predict import label_videos
from kineflow.stages import STAGES, paths
from kineflow.tables import LOGITS, VIDEOS, read_table
from tests.graph import change_params, run_stages

AUGMENT = {
    "crop_scale_min": None,
    "crop_scales": [1.0, 0.875, 0.75, 0.66],
    "rotation_deg": 20.0,
    "zoom": 0.1,
    "shift": 0.05,
    "contrast": 0.2,
    "saturation": 0.3,
    "hue": 0.05,
    "segment_frame": "random",
    "mixup": 0.4,
    "cutmix": 1.0,
}
BEFORE_EVALUATION = STAGES[: STAGES.index("evaluate") + 1]


def test_many_views_score_alike_in_training_and_in_prediction(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dense = {f"streams__{stream}__sampling": "dense" for stream in ("rgb", "flow")}
    short = {f"streams__{stream}__num_frames": 4 for stream in ("rgb", "flow")}
    views = {"train__num_views": "all", "train__crops": "ten", "train__crop_scale": 0.875}
    difference = {"streams__rgb__input": "difference", "streams__rgb__subtract_background": False}
    change_params(workspace, **dense, **short, **views, **difference)
    change_params(workspace, **{f"train__augment__{key}": value for key, value in AUGMENT.items()})
    run_stages(monkeypatch, BEFORE_EVALUATION)
    for stream in ("rgb", "flow"):
        done = CliRunner().invoke(
            app, ["contact-sheet", "--as-trained", stream, "--columns", "2", "--out", "sheet.png"]
        )
        assert done.exit_code == 0 and "drawn: sheet.png, 6 of 6 classes in 2 epochs" in done.output, done.output
    refused = CliRunner().invoke(app, ["contact-sheet", "--as-trained", "pose"])
    assert isinstance(refused.exception, ParamsError) and "streams.pose is off" in str(refused.exception)
    streams = list(json.loads(paths.METRICS.read_text())["test"])
    assert {"rgb", "flow"} < set(streams)
    uri_of = read_table(paths.VIDEOS, VIDEOS).set_index("video_id")["uri"]
    for stream in ("rgb", "flow"):
        release = paths.MODELS / stream / "release"
        made = json.loads((release / "bundle.json").read_text())["members"][0]["preprocessing"]
        assert (made["num_views"], made["crops"], made["crop_scale"]) == ("all", "ten", 0.875)
        assert made["input"] == ("difference" if stream == "rgb" else "stored")
        logits = read_table(paths.MODELS / stream / "test.parquet", LOGITS)
        classes = [column for column in logits.columns if column not in dict(LOGITS.columns)]
        wanted = to_probs(logits[classes].to_numpy(), "exclusive")[:2]
        files = [Path(uri_of[video_id]) for video_id in logits["video_id"][:2]]
        found = label_videos(release, files)[classes].to_numpy()
        np.testing.assert_allclose(found, wanted, atol=1e-5)
