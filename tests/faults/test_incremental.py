"""Whatever happens to the videos, and wherever a stage is killed: the outs end as a clean build makes them."""

import hashlib
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
from contextlib import chdir
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

STAGES = ("sync", "ingest", "extract_frames", "compute_flow")
OUTS = ("data/sources.tsv", "data/tables", "data/raw", "data/frames", "data/flow")
NAMES = ("a.mp4", "b #!().avi", "day1/c.mp4", "day1/d.mkv", "day2/e.mp4")
NUM_CONTENTS = 6
# Workers with everything imported: a stage then takes some tens of milliseconds, so a kill falls into its work.
STARTER = multiprocessing.get_context("forkserver")
STARTER.set_forkserver_preload(["kineflow.stages.stage", *(f"kineflow.stages.{name}" for name in STAGES), "cv2", "av"])


@pytest.fixture(scope="module")
def contents(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Short videos of different lengths, sizes and pixels."""
    folder = tmp_path_factory.mktemp("contents")
    paths = []
    for seed in range(NUM_CONTENTS):
        path = folder / f"{seed}.mkv"
        noise = np.random.default_rng(seed)
        size_px = (48, 64, 96)[seed % 3]
        with av.open(str(path), "w") as container:
            stream = container.add_stream("mpeg4", rate=Fraction(10))
            stream.width = stream.height = size_px
            for _ in range(5 + seed):
                image = noise.integers(0, 256, (size_px, size_px, 3), np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            container.mux(stream.encode(None))
        paths.append(path)
    return paths


# put a content under a name (adds or changes), take a name away, or rename; then build, killed after so many seconds
changes = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.sampled_from(NAMES), st.integers(0, NUM_CONTENTS - 1)),
        st.tuples(st.just("remove"), st.sampled_from(NAMES), st.none()),
        st.tuples(st.just("rename"), st.sampled_from(NAMES), st.sampled_from(NAMES)),
    ),
    min_size=1,
    max_size=4,
)
kills = st.lists(st.tuples(st.sampled_from(STAGES), st.floats(0.0, 0.15)), max_size=3)


histories = st.lists(st.tuples(changes, kills), min_size=1, max_size=3)
History = list[tuple[list[tuple[str, str, object]], list[tuple[str, float]]]]


@given(history=histories)
@settings(max_examples=4, deadline=None)
def test_incremental_equals_clean(contents: list[Path], repository: Path, history: History) -> None:
    check(contents, repository, history)


@pytest.mark.soak
@given(history=histories)
@settings(max_examples=100, deadline=None)
def test_incremental_equals_clean_whatever_happens(contents: list[Path], repository: Path, history: History) -> None:
    check(contents, repository, history)


def check(contents: list[Path], repository: Path, history: History) -> None:
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        Path("params.yaml").write_text(params(repository))
        put("kept.mp4", contents[0])  # a source is never empty
        for some_changes, some_kills in history:
            for kind, name, argument in some_changes:
                change(kind, name, argument, contents)
            for stage, delay_sec in some_kills:
                kill(stage, delay_sec)
            build()
        grown = digests()
        shutil.rmtree("data")
        os.environ["KINEFLOW_HOME"] = str(Path(folder, "clean"))
        try:
            build()
        finally:
            del os.environ["KINEFLOW_HOME"]
        assert digests() == grown


def params(repository: Path) -> str:
    values = yaml.safe_load((repository / "params" / "tiny.yaml").read_text())
    values["data"] |= {"source": "videos", "annotations": "labels.csv", "format": "manifest", "group_from": "video"}
    values["sample"] = None
    return yaml.safe_dump(values)


def put(name: str, content: Path) -> None:
    path = Path("videos", name)
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(content, path)


def change(kind: str, name: str, argument: object, contents: list[Path]) -> None:
    path = Path("videos", name)
    if kind == "put":
        assert isinstance(argument, int)
        put(name, contents[argument])
    elif kind == "remove":
        path.unlink(missing_ok=True)
    elif path.exists():
        target = Path("videos", str(argument))
        target.parent.mkdir(parents=True, exist_ok=True)
        path.rename(target)


def label_all() -> None:
    """The annotations: every video there is, as a user would keep them."""
    keys = sorted(path.relative_to("videos").as_posix() for path in Path("videos").rglob("*") if path.is_file())
    Path("labels.csv").write_text("".join(["path,label\n", *(f'"{key}",{"ab"[len(key) % 2]}\n' for key in keys)]))


def run_stage(name: str, folder: str, home: str | None) -> None:
    from kineflow.stages import stage

    os.chdir(folder)
    os.environ.pop("KINEFLOW_HOME", None)
    if home is not None:
        os.environ["KINEFLOW_HOME"] = home
    with Path(os.devnull).open("w") as silent:
        sys.stdout = silent
        sys.exit(stage.main(name))


def started(name: str) -> multiprocessing.process.BaseProcess:
    process = STARTER.Process(target=run_stage, args=(name, str(Path.cwd()), os.environ.get("KINEFLOW_HOME")))
    process.start()
    return process


def kill(name: str, delay_sec: float) -> None:
    label_all()
    for earlier in STAGES[: STAGES.index(name)]:
        process = started(earlier)
        process.join()
        assert process.exitcode == 0, earlier
    process = started(name)
    process.join(delay_sec)
    process.kill()
    process.join()
    assert process.exitcode in (0, -signal.SIGKILL)


def build() -> None:
    label_all()
    for name in STAGES:
        process = started(name)
        process.join()
        assert process.exitcode == 0, name


def digests() -> dict[str, str]:
    files = [path for out in OUTS for path in ([Path(out)] if Path(out).is_file() else sorted(Path(out).rglob("*")))]
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files if path.is_file()}
