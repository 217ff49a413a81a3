"""What the numbers were measured on: enough to judge them, nothing that names the machine."""

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

BF16_FLAGS = ("avx512_bf16", "amx_bf16")
LIBRARIES = ("torch", "numpy", "opencv-contrib-python-headless", "av", "prefect", "dvc", "ray", "mlflow")


def facts() -> dict[str, str]:
    """Processor, cores, bf16 units, load, versions, commit and date, ready to print."""
    model, flags = _processor()
    units = [flag for flag in BF16_FLAGS if flag in flags]
    load = f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": _commit(),
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "processor": f"{model}, {os.cpu_count()} cores, bf16 units: {', '.join(units) or 'none'}",
        "load average": f"{load} over the last minute",
        "libraries": ", ".join(f"{name} {version(name)}" for name in LIBRARIES),
    }


def _processor() -> tuple[str, set[str]]:
    model, flags = platform.processor() or "unknown", set[str]()
    if not Path("/proc/cpuinfo").is_file():
        return model, flags
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            model = value.strip()
        elif name.strip() == "flags":
            return model, set(value.split())
    return model, flags


def _commit() -> str:
    def git(*arguments: str) -> str:
        root = Path(__file__).resolve().parents[1]
        done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True)
        return done.stdout.strip() if done.returncode == 0 else ""

    commit = git("rev-parse", "--short", "HEAD")
    code = ("src", "flows", "benchmarks")
    return (commit or "outside git") + (" with changes" if commit and git("status", "--porcelain", "--", *code) else "")
