"""The bars of the whole graph, by plain `dvc repro` with no server running (but for the S3 that a clone pulls from)."""

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
import numpy as np
import pandas as pd
import pytest
import yaml

from kineflow.params import STREAM_NAMES
from kineflow.stages import STAGES, paths
from kineflow.store import ResultStore
from kineflow.video.result_index import read_index
from tests.conftest import Built, make_workspace
from tests.graph import (
    GIT,
    change_params,
    contents,
    copy_workspace,
    dvc,
    report_of,
    run_command,
    run_stages,
    stages_run,
)
from tests.s3_server import KEY, SECRET, serve_bucket

STORES = ("data/frames", "data/flow", "data/pose", "data/embeddings")
OUTS = ("data/tables", *STORES, "data/splits", "models", "reports/gates")
SCORES = ("metrics.json", "reports/plots")
SECOND_BUILD_SEC = 10.0  # the bar is 3 s on a machine that does nothing else
CLIP = "arena1_clip001.mp4"


@pytest.fixture
def project(built: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the built workspace whose clips are the user's own, and the current folder in it."""
    root = copy_workspace(built.root, tmp_path / "workspace")
    change_params(root, sample=None)  # or a changed clip would be rendered again
    monkeypatch.chdir(root)
    monkeypatch.delenv("KINEFLOW_HOME", raising=False)
    return root


def reencode(path: Path) -> None:
    """The same video in a mirror: as many frames at the same times, other content."""
    with av.open(str(path)) as container:
        images = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        rate = container.streams.video[0].average_rate
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate)
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        for image in images:
            mirrored = av.VideoFrame.from_ndarray(np.ascontiguousarray(image[:, ::-1]), format="rgb24")
            container.mux(stream.encode(mirrored))
        container.mux(stream.encode(None))


def test_a_second_build_runs_only_sync(built: Built, capsys: pytest.CaptureFixture[str], record_property: Any) -> None:
    trained = [f"train@{stream}" for stream in STREAM_NAMES]
    expected = [name for stage in STAGES for name in (trained if stage == "train" else (stage,))]
    assert stages_run(built.output) == expected
    output, seconds = dvc_timed(built.root, "repro")
    assert stages_run(output) == ["sync"]
    assert seconds < SECOND_BUILD_SEC
    record_property("second_build_sec", seconds)
    with capsys.disabled():
        print(f"\nwhole tiny graph by dvc repro: {built.seconds:.1f} s; a second time: {seconds:.1f} s")


def dvc_timed(root: Path, *arguments: str) -> tuple[str, float]:
    started = time.monotonic()
    output = dvc(root, *arguments)
    return output, time.monotonic() - started


def test_a_changed_video_alone_is_made_again(project: Path, built: Built, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = project / "data" / "sample" / "clips" / CLIP
    original = project / "original.mp4"
    shutil.copy2(clip, original)
    reencode(clip)
    output = dvc(project, "repro", "compute_flow")
    assert stages_run(output) == ["sync", "ingest", "validate_raw", "extract_frames", "compute_flow"]
    for stage in ("extract_frames", "compute_flow"):
        report = report_of(project, stage)
        assert (report["items"], report["skipped"]) == (24, 23), stage
    changed = {
        path
        for path, digest in contents(project, "data/frames", "data/flow").items()
        if contents(built.root, "data/frames", "data/flow")[path] != digest
    }
    assert changed == {f"data/{out}/{name}" for out in ("frames", "flow") for name in (f"{CLIP}.zip", "index.tsv")}
    stale = set(yaml.safe_load(dvc(project, "status", "--json")))
    assert {"make_splits", "validate_dataset", "train@rgb", "train@flow", "distill", "evaluate"} <= stale

    incremental = contents(project, "data/tables", "data/frames", "data/flow")
    monkeypatch.setenv("KINEFLOW_HOME", str(project / "clean"))  # an empty store, and nothing to fill it from
    for out in (paths.FRAMES, paths.FLOW):
        shutil.rmtree(out)
    run_stages(monkeypatch, ("sync", "ingest", "validate_raw", "extract_frames", "compute_flow"))
    assert report_of(project, "extract_frames")["skipped"] == 0
    assert contents(project, "data/tables", "data/frames", "data/flow") == incremental
    monkeypatch.delenv("KINEFLOW_HOME")

    original.replace(clip)
    output = dvc(project, "repro", "evaluate")
    assert set(stages_run(output)) <= {"sync"}, output
    assert contents(project, *OUTS, *SCORES) == contents(built.root, *OUTS, *SCORES)


@pytest.mark.soak
def test_after_a_changed_video_everything_downstream_runs(project: Path) -> None:
    reencode(project / "data" / "sample" / "clips" / CLIP)
    ran = stages_run(dvc(project, "repro"))
    assert set(ran) == {
        "sync", "ingest", "validate_raw", "extract_frames", "compute_flow", "compute_pose", "embed", "make_splits",
        "validate_dataset", "train@rgb", "train@flow", "train@pose", "train@fv", "distill", "evaluate", "register",
    }  # fmt: skip
    assert stages_run(dvc(project, "repro")) == ["sync"]


def test_a_result_is_on_the_disk_once(built: Built, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    if (
        shutil.which("cp")
        and not subprocess.run(
            ["cp", "--reflink=always", tmp_path / "a", tmp_path / "b"], capture_output=True
        ).returncode
    ):
        pytest.skip("this file system shares blocks between files instead")
    for out, kind in (("frames", "frames"), ("flow", "flow")):
        store = ResultStore(built.root / ".kineflow" / "store" / kind)
        for row in read_index(built.root / "data" / out):
            result = store.path(row.key)
            assert (built.root / "data" / out / f"{row.video_id}.zip").samefile(result)
            assert result.stat().st_nlink >= 3  # store, workspace, DVC's cache


@contextmanager
def pulled_clone(built: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A clone that has pulled what the build pushed; the remote is there while the context holds."""
    for name in ("KINEFLOW_HOME", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_REQUEST_CHECKSUM_CALCULATION", "when_required")
    monkeypatch.setenv("AWS_RESPONSE_CHECKSUM_VALIDATION", "when_required")
    pushed = copy_workspace(built.root, tmp_path / "pushed")
    with serve_bucket(make_folder(tmp_path / "s3")) as endpoint:
        point_at(pushed, endpoint)
        dvc(pushed, "push", "--run-cache")
        clone = tmp_path / "clone"
        run_command(*GIT, "clone", "-q", built.root, clone, cwd=tmp_path)
        point_at(clone, endpoint)
        dvc(clone, "pull", "--run-cache")
        yield clone


def test_a_fresh_clone_builds_from_the_remote_without_extracting_or_training(
    built: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pulled_clone(built, tmp_path, monkeypatch) as clone:
        from_lock = dvc(clone, "repro")
        (clone / "dvc.lock").unlink()  # what other branches and machines made: known to the run cache alone
        from_run_cache = dvc(clone, "repro", "evaluate")
    built_here = {"sync", "evaluate", "register"}  # these have outs that DVC is told not to cache
    assert set(stages_run(from_lock)) <= built_here
    assert set(stages_run(from_run_cache)) <= built_here
    assert not (clone / ".kineflow" / "store" / "train").exists()
    for stage in ("extract_frames", "compute_flow", "distill"):
        assert not (clone / "reports" / "stages" / f"{stage}.json").exists(), stage
    assert contents(clone, *OUTS, *SCORES) == contents(built.root, *OUTS, *SCORES)


def test_a_fresh_clone_that_pulled_computes_only_what_is_new(
    built: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pulled_clone(built, tmp_path, monkeypatch) as clone:
        pass  # and the remote is gone
    dvc(clone, "repro", "ingest")
    reencode(clone / "data" / "sample" / "clips" / CLIP)
    dvc(clone, "repro", "compute_flow")
    for stage in ("extract_frames", "compute_flow"):
        report = report_of(clone, stage)
        assert (report["items"] - report["skipped"], report["exit_code"]) == (1, 0), stage


def make_folder(path: Path) -> Path:
    path.mkdir()
    return path


def point_at(root: Path, endpoint: str) -> None:
    (root / ".dvc" / "config.local").write_text(
        f"""['remote "storage"']
    url = s3://bucket/dvc
    endpointurl = {endpoint}
    access_key_id = {KEY}
    secret_access_key = {SECRET}
    region = us-east-1
"""
    )


def test_six_real_clips_pass_through_every_stage(
    shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = shared_data / "ut_interaction"
    if not source.is_dir():
        pytest.skip("the real clips of UT-Interaction are not beside the repository")
    root = make_workspace(tmp_path / "workspace", "ut_interaction")
    chosen = six_clips(pd.read_csv(source / "MANIFEST.tsv", sep="\t"))
    for path in chosen["path"]:
        target = root / "data" / "ut_interaction" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to((source / path).resolve())
    chosen[["path", "label", "group"]].to_csv(root / "data" / "ut_interaction" / "MANIFEST.tsv", sep="\t", index=False)
    small = {"height_px": 24, "width_px": 32, "num_frames": 8, "epochs": 2}
    change_params(
        root,
        splits__num_folds=2,
        validation__min_clips_per_class=3,
        frames__fps=10.0,
        frames__height_px=56,
        frames__width_px=72,
        train__num_views=1,
        **{f"streams__{stream}__{key}": value for stream in ("rgb", "flow") for key, value in small.items()},
    )
    monkeypatch.chdir(root)
    monkeypatch.delenv("KINEFLOW_HOME", raising=False)
    run_stages(monkeypatch)
    metrics = yaml.safe_load(paths.METRICS.read_text())
    assert metrics["classes"] == sorted(chosen["label"].unique())
    assert list(metrics["cv"]) == ["rgb", "flow", "fusion"]
    assert metrics["test"] is None
    assert set(metrics["baselines"]) == {"majority", "metadata", "hof"}
    assert len(metrics["cv"]["fusion"]["video_top1_acc"]["folds"]) == 2
    assert report_of(root, "extract_frames")["items"] == 6
    registration = yaml.safe_load(paths.REGISTRATION.read_text())
    assert (registration["name"], registration["version"]) == ("kineflow-ut-interaction", "1")


def six_clips(manifest: pd.DataFrame) -> pd.DataFrame:
    """Two classes in the same three groups."""
    pairs = manifest.drop_duplicates(["label", "group"])
    labels = ("hugging", "punching")
    both = pairs[pairs["label"].isin(labels)].groupby("group").filter(lambda rows: len(rows) == len(labels))
    return both[both["group"].isin(sorted(both["group"].unique())[:3])].sort_values("path")
