"""`benchmarks/gpu.py` in miniature on a CPU, where only what it says it needs can be imported."""

import json
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import torch
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from torch.utils.flop_counter import FlopCounterMode

from kineflow.models.registry import create_model

REPOSITORY = Path(__file__).resolve().parents[2]
NEEDED = ("torch", "torchvision", "numpy", "av")
ALONE = """
import runpy, sys
from importlib.machinery import PathFinder
program, missing, *arguments = sys.argv[1:]
class Fewer(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return super().find_spec(name, path, target) if path is not None or name not in missing.split() else None
sys.meta_path = [Fewer if finder is PathFinder else finder for finder in sys.meta_path]
sys.argv = [program, *arguments]
runpy.run_path(program, run_name="__main__")
"""


def required(names: tuple[str, ...]) -> set[str]:
    """These distributions and those that they need, here and without extras."""
    found, waiting = set[str](), [*names]
    while waiting:
        name = canonicalize_name(waiting.pop())
        if name in found:
            continue
        try:
            requirements = [Requirement(line) for line in metadata.requires(name) or ()]
        except metadata.PackageNotFoundError:  # as a library for GPUs beside a torch that has none
            continue
        found.add(name)
        waiting += [one.name for one in requirements if one.marker is None or one.marker.evaluate({"extra": ""})]
    return found


def missing() -> set[str]:
    """The modules of all other distributions that are installed here, but for ours."""
    distributions = {*required(NEEDED), "kineflow"}
    installed = metadata.packages_distributions()
    return {name for name, of in installed.items() if distributions.isdisjoint(map(canonicalize_name, of))}


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("gpu") / "found.json"
    options = "--device cpu --models r3d_mini.avg --batch 1 --size 32 --sec 0.1 --no-compile --json"
    command = [sys.executable, "-c", ALONE, str(REPOSITORY / "benchmarks" / "gpu.py")]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY / "src")}
    subprocess.run(
        [*command, " ".join(sorted(missing())), *options.split(), str(out)], check=True, env=environment, cwd=out.parent
    )
    found: dict[str, Any] = json.loads(out.read_text())
    return found


def test_it_needs_no_package_that_it_does_not_name(measured: dict[str, Any]) -> None:
    """It ran without what the rest of kineflow needs."""
    assert measured["rows"]
    assert missing() >= {"pandas", "pydantic", "ray", "scipy", "sklearn", "cv2", "yaml", "mlflow"}


def test_its_rows_are_rates_of_whole_steps(measured: dict[str, Any]) -> None:
    plain, mixed = measured["rows"]
    assert [row["plan"] for row in (plain, mixed)] == ["fp32", "bf16, channels-last"]
    assert plain["times_fp32"] == 1.0
    assert mixed["times_fp32"] == pytest.approx(mixed["clips_per_sec"] / plain["clips_per_sec"])
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        create_model("r3d_mini.avg", num_classes=400, in_channels=3, task="clip")(torch.zeros(1, 3, 16, 32, 32))
    for row in (plain, mixed):
        assert row["model"] == "r3d_mini.avg" and row["memory_gb"] is None
        assert row["clips_per_sec"] > 0 < row["utilisation"]
        assert row["share_of_bf16"] == pytest.approx(row["tflops"] / measured["bf16_tflops"])
        of_clip = row["tflops"] * 1e12 / row["clips_per_sec"]
        assert 2.5 < of_clip / counter.get_total_flops() < 3  # backward twice, but for the gradient of the pixels
    assert measured["device"].startswith("CPU") and measured["decoded_clips_per_sec"] > 0
