"""How much of a device training uses: `PYTHONPATH=src python benchmarks/gpu.py [--device cpu] [--json FILE]`.

For three 3D networks: clips a second of whole training steps (forward, backward, AdamW) on clips that lie on the
device as uint8, in plain fp32 and as training does it (bf16 autocast, channels-last-3d, `torch.compile`); the
floating-point operations that this is, as a share of what a large bf16 matrix product reaches in the same run; how busy
the GPU, or the CPU's threads, were. Beside it how many clips a second come from a video through PyAV's decoder and one
copy.

Needs torch, torchvision, numpy and PyAV alone. Runs on a CPU too, with small clips.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import av
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from kineflow.models.layout import use_channels_last
from kineflow.models.registry import create_model

NUM_CLASSES = 400
MODELS = {"r3d_18.avg": 16, "r2plus1d_34.avg": 16, "slowfast_50.avg": 32}  # frames of a clip
WARM_UP_STEPS, LEAST_STEPS = 3, 5


@dataclass(frozen=True)
class Plan:
    """One way of training: its precision, layout, and whether it is compiled."""

    name: str
    bf16: bool
    channels_last: bool
    compiled: bool


PLANS = (
    Plan("fp32", bf16=False, channels_last=False, compiled=False),
    Plan("bf16, channels-last", bf16=True, channels_last=True, compiled=False),
    Plan("bf16, channels-last, compiled", bf16=True, channels_last=True, compiled=True),
)


@dataclass(frozen=True)
class Row:
    """One measurement; `share_of_bf16` is of the matrix product's rate, `utilisation` as the system says."""

    model: str
    plan: str
    clips_per_sec: float
    times_fp32: float
    tflops: float
    share_of_bf16: float
    utilisation: float | None
    memory_gb: float | None


def main(arguments: list[str] | None = None) -> int:
    """Measure, print a table, and write it as JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--models", nargs="+", default=list(MODELS), metavar="NAME", help="backbone.pooling")
    parser.add_argument("--batch", type=int, help="clips of a step; default 32 on a GPU, 2 on a CPU")
    parser.add_argument("--size", type=int, help="height and width in pixels; default 112 on a GPU, 56 on a CPU")
    parser.add_argument("--sec", type=float, default=6.0, help="seconds for each measurement")
    parser.add_argument("--no-compile", action="store_true", help="leave the compiled plan out")
    parser.add_argument("--json", type=Path, help="file to write")
    given = parser.parse_args(arguments)
    device = torch.device(given.device)
    on_gpu = device.type == "cuda"
    batch, size = given.batch or (32 if on_gpu else 2), given.size or (112 if on_gpu else 56)
    print(f"{device_name(device)}, torch {torch.__version__}; {batch} clips of {size} x {size} px a step")
    peak = matrix_product_tflops(device)
    print(f"a large bf16 matrix product: {peak:.2f} TFLOP/s")
    rows = []
    for name in given.models:
        num_frames = MODELS.get(name, 16)
        rows += measure_model(name, (batch, 3, num_frames, size, size), device, peak, given.sec, not given.no_compile)
    decoding = decoded_clips_per_sec(size, MODELS["r3d_18.avg"], device, given.sec)
    print(f"decoding, scaling and copying by one thread: {decoding:.1f} clips/s of 16 frames")
    if given.json:
        found = {"device": device_name(device), "bf16_tflops": peak, "decoded_clips_per_sec": decoding}
        given.json.write_text(json.dumps(found | {"rows": [asdict(row) for row in rows]}, indent=1) + "\n")
        print(f"{given.json}: written")
    return 0


def device_name(device: torch.device) -> str:
    """The GPU's name, or `CPU` with its threads."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"


def matrix_product_tflops(device: torch.device, *, num_rounds: int = 10) -> float:
    """What the best of some large bf16 matrix products reaches."""
    side = 8192 if device.type == "cuda" else 2048
    left, right = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    times = [timed(lambda: left @ right, device) for _ in range(num_rounds)]
    return 2 * side**3 / min(times[1:]) / 1e12


def timed(work: Callable[[], object], device: torch.device) -> float:
    """Seconds until the device has done `work`."""
    synchronise(device)
    started = time.perf_counter()
    work()
    synchronise(device)
    return time.perf_counter() - started


def synchronise(device: torch.device) -> None:
    """Wait for the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def measure_model(
    name: str, shape: tuple[int, int, int, int, int], device: torch.device, peak: float, sec: float, compiles: bool
) -> list[Row]:
    """Every plan on one network, printed as they come."""
    pixels_BCTHW = torch.randint(0, 256, shape, dtype=torch.uint8, device=device)
    targets_B = torch.randint(0, NUM_CLASSES, shape[:1], device=device)
    flops, rows = 0, list[Row]()
    for plan in PLANS:
        if plan.compiled and not compiles:
            continue
        torch.manual_seed(0)
        network = create_model(name, num_classes=NUM_CLASSES, in_channels=3, task="clip").to(device)
        step = training_step(network, plan, pixels_BCTHW, targets_B)
        if not flops:
            with FlopCounterMode(display=False) as counter:
                step()
            flops = counter.get_total_flops()
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        try:
            seconds, utilisation = steady(step, device, sec)
        except Exception as err:  # a compiler that is not there is a finding, not the end of the run
            print(f"{name:<18} {plan.name:<31} not measured: {' '.join(str(err).split())[:160]}")
            continue
        memory = torch.cuda.max_memory_allocated(device) / 1e9 if device.type == "cuda" else None
        clips_per_sec, tflops = shape[0] / seconds, flops / seconds / 1e12
        times = clips_per_sec / rows[0].clips_per_sec if rows else 1.0
        row = Row(name, plan.name, clips_per_sec, times, tflops, tflops / peak, utilisation, memory)
        rows.append(row)
        print_row(row)
        torch.compiler.reset()
    return rows


def print_row(row: Row) -> None:
    """One line of the table."""
    busy = "" if row.utilisation is None else f"  {row.utilisation:4.0%} busy"
    memory = "" if row.memory_gb is None else f"  {row.memory_gb:5.1f} GB"
    print(
        f"{row.model:<18} {row.plan:<31} {row.clips_per_sec:9.2f} clips/s  {row.times_fp32:5.2f} x fp32  "
        f"{row.tflops:7.2f} TFLOP/s  {row.share_of_bf16:6.1%} of the product{busy}{memory}"
    )


def training_step(network: nn.Module, plan: Plan, pixels_BCTHW: Tensor, targets_B: Tensor) -> Callable[[], None]:
    """A whole step: pixels to floats, forward, backward, AdamW."""
    if plan.channels_last:
        network = use_channels_last(network, everywhere=True)  # type: ignore[arg-type]
    network.train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4)
    forward = torch.compile(network) if plan.compiled else network
    layout = torch.channels_last_3d if plan.channels_last else torch.contiguous_format

    def step() -> None:
        clips_BCTHW = pixels_BCTHW.float().sub_(114.75).div_(57.375).contiguous(memory_format=layout)
        with torch.autocast(pixels_BCTHW.device.type, dtype=torch.bfloat16, enabled=plan.bf16):
            logits_BK = forward(clips_BCTHW).logits
        F.cross_entropy(logits_BK.float(), targets_B).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def steady(step: Callable[[], None], device: torch.device, sec: float) -> tuple[float, float | None]:
    """Median seconds of a step after warm-up, and the share of the time that the GPU or the threads were busy."""
    for _ in range(WARM_UP_STEPS if device.type == "cuda" else 1):
        step()
    times, busy = list[float](), list[float]()
    started, started_cpu = time.perf_counter(), time.process_time()
    stop = started + sec
    while len(times) < LEAST_STEPS or time.perf_counter() < stop:
        times.append(timed(step, device))
        if device.type == "cuda" and len(times) % 20 == 5:
            busy.append(gpu_utilisation())
        if device.type == "cpu" and len(times) >= 2 and time.perf_counter() > stop:
            break
    if device.type == "cpu":
        cpu_sec = time.process_time() - started_cpu
        busy = [cpu_sec / (time.perf_counter() - started) / torch.get_num_threads()]
    return statistics.median(times), statistics.mean(busy) if busy else None


def gpu_utilisation() -> float:
    """The share of the last moments in which a kernel ran, as the driver says."""
    query = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"]
    return float(subprocess.run(query, check=True, capture_output=True, text=True).stdout.splitlines()[0]) / 100


def decoded_clips_per_sec(size: int, num_frames: int, device: torch.device, sec: float) -> float:
    """Clips a second that one thread decodes from an H.264 video, scales, and copies to the device."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "noise.mp4"
        write_video(path, num_frames=num_frames * 4)
        num_clips, started = 0, time.perf_counter()
        while time.perf_counter() < started + sec:
            frames = list[np.ndarray]()
            with av.open(str(path)) as container:
                container.streams.video[0].thread_count = 1
                for frame in container.decode(video=0):
                    frames.append(frame.to_ndarray(width=size, height=size, format="rgb24"))
                    if len(frames) == num_frames:
                        torch.from_numpy(np.stack(frames)).to(device)
                        num_clips, frames = num_clips + 1, []
        synchronise(device)
        return num_clips / (time.perf_counter() - started)


def write_video(path: Path, *, num_frames: int, height: int = 240, width: int = 320) -> None:
    """A drifting texture, so that the decoder has something to do."""
    texture = (
        np.random.default_rng(0).integers(0, 256, (height // 8, width // 4, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    )
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30)
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        for index in range(num_frames):
            image = np.ascontiguousarray(texture[:, index : index + width])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())


if __name__ == "__main__":
    sys.exit(main())
