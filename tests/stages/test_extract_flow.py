import hashlib
import os
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from kineflow.errors import DataError, DecodeError, ParamsError
from kineflow.models.frame_features import BACKBONE_FILE, Embedder, embed_frames
from kineflow.params import Params, only, parse_params
from kineflow.stages import compute_flow, compute_pose, embed, extract_frames, paths
from kineflow.stages.source_manifest import write_sources
from kineflow.stages.stage import StageReport
from kineflow.stages.weights_manifest import write_weights
from kineflow.store import file_sha256
from kineflow.tables import VIDEOS, read_table, write_table
from kineflow.video.feature_store import FeatureReader
from kineflow.video.flow_store import FlowReader
from kineflow.video.frame_store import FrameReader
from kineflow.video.probe import probe
from kineflow.video.result_index import read_index

NAMES = ("a.mp4", "sub folder/b #!().mp4", "sub folder/c.avi")


def encode(path: Path, *, seed: int, num_frames: int = 9, size_px: int = 64) -> None:
    """Blobs that drift by a pixel and a half a frame, at 10 frames per second."""
    path.parent.mkdir(parents=True, exist_ok=True)
    canvas = np.random.default_rng(seed).integers(0, 256, (size_px, 2 * size_px, 3), np.uint8)
    canvas = cv2.resize(cv2.GaussianBlur(canvas, (0, 0), 3), None, fx=1, fy=1)
    canvas = cv2.normalize(canvas, None, 0, 255, cv2.NORM_MINMAX)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width = stream.height = size_px
        stream.options = {"qscale": "2"}
        for index in range(num_frames):
            left = int(1.5 * index)
            image = np.ascontiguousarray(canvas[:, left : left + size_px])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))


def make_params(repository: Path, **changes: Any) -> Params:
    values = yaml.safe_load((repository / "params" / "tiny.yaml").read_text())
    for key, value in changes.items():
        section = values
        *sections, name = key.split("__")
        for part in sections:
            section = section[part]
        section[name] = value
    return parse_params(values, where="test")


def write_videos(names: tuple[str, ...] = NAMES, *, quarantined: tuple[str, ...] = ()) -> None:
    """The videos table of what lies under `videos/`, as ingest would make it."""
    rows = []
    for name in sorted(names):
        path = Path("videos") / name
        info = probe(path)
        row = {column: getattr(info, column, None) for column, _ in VIDEOS.columns}
        row |= {"video_id": name, "uri": str(path), "sha256": file_sha256(path), "num_bytes": path.stat().st_size}
        bad = name in quarantined
        rows.append(row | {"group": name, "status": "quarantined" if bad else "ok", "reason": "bad" if bad else None})
    write_table(paths.VIDEOS, VIDEOS, pd.DataFrame(rows))


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("KINEFLOW_HOME", raising=False)
    for seed, name in enumerate(NAMES):
        encode(Path("videos") / name, seed=seed)
    write_videos()
    return tmp_path


def run(stage: Any, params: Params) -> StageReport:
    report = StageReport(stage.__name__.rpartition(".")[2])
    stage.run(only(params, stage.PARAMS), report)
    return report


def contents(out: Path) -> dict[str, str]:
    files = sorted(path for path in out.rglob("*") if path.is_file())
    return {str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_each_video_becomes_one_file_of_frames_and_one_of_flow(project: Path, repository: Path) -> None:
    params = make_params(repository)
    report = run(extract_frames, params)
    assert (report.items, report.skipped, report.quarantined) == (3, 0, 0)
    assert set(contents(paths.FRAMES)) == {*(f"{name}.zip" for name in NAMES), "index.tsv"}
    run(compute_flow, params)
    assert set(contents(paths.FLOW)) == set(contents(paths.FRAMES))
    for name in NAMES:
        frames, flow = FrameReader(paths.FRAMES / f"{name}.zip"), FlowReader(paths.FLOW / f"{name}.zip")
        assert (frames.num_frames, frames.height, frames.width) == (9, 48, 48)
        assert (flow.num_flows, flow.rule.method, flow.rule.bound_px) == (8, "dis_fast", 8.0)
        # The scene moves to the left by 1.5 px a frame on average at 64 px, which is 1.125 px at 48.
        assert np.median(flow.read(np.arange(8))[..., 0]) == pytest.approx(-1.125, abs=0.4)
    assert [(row.video_id, row.num_frames) for row in read_index(paths.FRAMES)] == [(name, 9) for name in sorted(NAMES)]
    assert [row.num_frames for row in read_index(paths.FLOW)] == [8, 8, 8]


def test_a_second_run_computes_nothing_and_changes_no_byte(project: Path, repository: Path) -> None:
    params = make_params(repository)
    for stage, out in ((extract_frames, paths.FRAMES), (compute_flow, paths.FLOW)):
        run(stage, params)
        before = contents(out)
        assert run(stage, params).skipped == 3
        assert contents(out) == before


def test_incremental_equals_clean_byte_for_byte(
    project: Path, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = make_params(repository)
    run(extract_frames, params)
    run(compute_flow, params)
    encode(Path("videos/a.mp4"), seed=7, num_frames=12)  # changed
    encode(Path("videos/d.mp4"), seed=8)  # added
    Path("videos/sub folder/c.avi").rename("videos/renamed.avi")  # renamed
    (Path("videos") / NAMES[1]).unlink()  # removed
    write_videos(("a.mp4", "d.mp4", "renamed.avi"))
    reports = [run(extract_frames, params), run(compute_flow, params)]
    assert [report.skipped for report in reports] == [1, 1]  # the renamed one
    incremental = contents(paths.FRAMES), contents(paths.FLOW)
    monkeypatch.setenv("KINEFLOW_HOME", str(project / "another"))
    run(extract_frames, params)
    run(compute_flow, params)
    assert (contents(paths.FRAMES), contents(paths.FLOW)) == incremental


def test_what_a_result_depends_on_makes_it_again(
    project: Path, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(extract_frames, make_params(repository))
    run(compute_flow, make_params(repository))
    assert run(extract_frames, make_params(repository, flow__bound_px=4.0)).skipped == 3
    assert run(compute_flow, make_params(repository, flow__bound_px=4.0)).skipped == 0
    assert run(extract_frames, make_params(repository, frames__jpeg_quality=80)).skipped == 0
    assert run(compute_flow, make_params(repository)).skipped == 0  # other frames
    monkeypatch.setattr(extract_frames, "CODE_VERSION", 99)
    assert run(extract_frames, make_params(repository)).skipped == 0


def test_what_was_cut_off_in_the_store_is_made_again(project: Path, repository: Path) -> None:
    params = make_params(repository)
    for stage, out in ((extract_frames, paths.FRAMES), (compute_flow, paths.FLOW)):
        run(stage, params)
        before = contents(out)
        cut = next(path for path in Path(".kineflow/store", out.name).glob("??/*") if path.is_file())
        os.truncate(cut, cut.stat().st_size // 2)
        assert run(stage, params).skipped == 2
        assert contents(out) == before


def test_two_videos_of_the_same_content_are_computed_once(project: Path, repository: Path) -> None:
    Path("videos/copy.mp4").write_bytes(Path("videos/a.mp4").read_bytes())
    write_videos((*NAMES, "copy.mp4"))
    report = run(extract_frames, make_params(repository))
    assert report.items == 4
    assert contents(paths.FRAMES)["copy.mp4.zip"] == contents(paths.FRAMES)["a.mp4.zip"]
    assert len([path for path in Path(".kineflow/store/frames").rglob("*") if path.is_file()]) == 3


def test_quarantined_videos_are_left_out_and_counted(project: Path, repository: Path) -> None:
    write_videos(quarantined=("a.mp4",))
    report = run(extract_frames, make_params(repository))
    assert (report.items, report.quarantined) == (2, 1)
    assert "a.mp4.zip" not in contents(paths.FRAMES)


def test_a_video_that_breaks_after_ingest_is_named_and_the_others_are_kept(project: Path, repository: Path) -> None:
    good = Path("videos/a.mp4").read_bytes()
    Path("videos/a.mp4").write_bytes(b"no video")
    with pytest.raises(DataError, match=r"a\.mp4: .*changed since sync"):
        run(extract_frames, make_params(repository))
    table = pd.read_parquet(paths.VIDEOS)
    table.loc[table["video_id"] == "a.mp4", "sha256"] = file_sha256(Path("videos/a.mp4"))
    write_table(paths.VIDEOS, VIDEOS, table)
    with pytest.raises(DecodeError, match=r"a\.mp4: the container cannot be read"):
        run(extract_frames, make_params(repository))
    assert not paths.FRAMES.exists()
    assert not list(Path(".kineflow").rglob(".partial-*"))
    Path("videos/a.mp4").write_bytes(good)
    write_videos()
    assert run(extract_frames, make_params(repository)).items == 3


def test_a_video_gone_or_other_than_the_tables_say_is_refused(project: Path, repository: Path) -> None:
    table = pd.read_parquet(paths.VIDEOS)
    table.loc[0, "duration_sec"] += 1.0
    write_table(paths.VIDEOS, VIDEOS, table)
    with pytest.raises(DataError, match=r"a\.mp4: 9 frames made, 19 expected"):
        run(extract_frames, make_params(repository))
    Path("videos/a.mp4").unlink()
    with pytest.raises(DataError, match="not there any more"):
        run(extract_frames, make_params(repository))


def test_flow_is_disabled_only_where_nothing_needs_it(project: Path, repository: Path) -> None:
    off = {"streams__flow__enabled": False, "distill__enabled": False, "release__stream": "rgb"}
    run(extract_frames, make_params(repository))
    run(compute_flow, make_params(repository, **off, evaluate__baselines=["hof"]))
    assert not paths.is_disabled(paths.FLOW)
    report = run(compute_flow, make_params(repository, **off, evaluate__baselines=["majority"]))
    assert set(contents(paths.FLOW)) == {"disabled"}
    assert "disabled" in report.notes[0]
    run(compute_flow, make_params(repository))
    assert not paths.is_disabled(paths.FLOW)


def test_flow_says_which_video_is_too_small_and_what_is_missing(project: Path, repository: Path) -> None:
    with pytest.raises(DataError, match=r"index\.tsv is not there; run the stage"):
        run(compute_flow, make_params(repository))
    run(extract_frames, make_params(repository, frames__height_px=8, frames__width_px=8))
    with pytest.raises(DataError, match=r"a\.mp4: flow needs frames of at least 12 pixels"):
        run(compute_flow, make_params(repository))


def embed_params(repository: Path, **changes: Any) -> Params:
    frame = {"task": "frame", "clips__window_sec": 0.5, "promotion__metric": "frame_macro_f1"}
    frame |= {"embed__enabled": True, "embed__backbone": "resnet10_tiny"}
    return make_params(repository, **frame | changes)


def test_embeddings_are_the_features_of_each_frame_by_itself(project: Path, repository: Path) -> None:
    params = embed_params(repository, embed__precision="fp32")
    run(extract_frames, params)
    report = run(embed, params)
    assert (report.items, report.skipped) == (3, 0)
    features_ND = np.load(paths.EMBEDDINGS / "a.mp4.npy")
    assert features_ND.dtype == np.float32
    assert len(features_ND) == 9
    frames = FrameReader(paths.FRAMES / "a.mp4.zip").read([4])
    embedder = Embedder.read(paths.EMBEDDINGS)
    assert embedder == Embedder("resnet10_tiny", 48, 48, "fp32")
    for backbone in (
        embedder.make_backbone(None, seed=params.seed),
        embedder.load_backbone(paths.EMBEDDINGS / BACKBONE_FILE),
    ):
        np.testing.assert_allclose(embed_frames(backbone, frames, size=(48, 48))[0], features_ND[4], atol=1e-5)
    before = contents(paths.EMBEDDINGS)
    assert run(embed, params).skipped == 3
    assert contents(paths.EMBEDDINGS) == before


def test_embeddings_in_half_the_room_are_the_same_but_rounded(project: Path, repository: Path) -> None:
    params = {name: embed_params(repository, embed__precision=name) for name in ("fp32", "fp16", "bf16")}
    run(extract_frames, params["fp32"])
    read = {}
    for name, of_name in params.items():
        assert run(embed, of_name).skipped == 0  # each has keys of its own
        assert run(embed, of_name).skipped == 3
        assert Embedder.read(paths.EMBEDDINGS).precision == name
        read[name] = FeatureReader(paths.EMBEDDINGS / "a.mp4.npy").read(range(9))
    num_features = read["fp32"].shape[1]
    header_bytes = 128
    assert (paths.EMBEDDINGS / "a.mp4.npy").stat().st_size == header_bytes + 9 * num_features * 2
    exact = torch.from_numpy(read["fp32"])
    np.testing.assert_array_equal(read["bf16"], exact.bfloat16().float().numpy())
    np.testing.assert_array_equal(read["fp16"], exact.half().float().numpy())
    assert np.abs(read["bf16"] - read["fp32"]).max() > np.abs(read["fp16"] - read["fp32"]).max() > 0


def test_features_beyond_the_precision_leave_nothing_behind(project: Path, repository: Path) -> None:
    run(extract_frames, embed_params(repository))
    loud = Embedder("resnet10_tiny", 48, 48, "fp32").make_backbone(None, seed=7).state_dict()
    last = [name for name in loud if name.startswith("backbone.") and name.endswith((".weight", ".bias"))][-2:]
    torch.save({name: tensor * (1e6 if name in last else 1) for name, tensor in loud.items()}, "loud.pt")
    write_weights(paths.WEIGHTS, {"embed.weights": ("loud.pt", Path("loud.pt"))})
    params = {
        name: embed_params(repository, embed__precision=name, embed__weights="loud.pt") for name in ("fp16", "bf16")
    }
    with pytest.raises(DataError, match=r"a\.mp4: features reach .*, and fp16 holds up to 6\.55e\+04; set embed\.prec"):
        run(embed, params["fp16"])
    assert not paths.EMBEDDINGS.exists()
    assert run(embed, params["bf16"]).skipped == 0
    features_ND = FeatureReader(paths.EMBEDDINGS / "a.mp4.npy").read(range(9))
    assert np.isfinite(features_ND).all() and features_ND.max() > 65_504


def test_embeddings_begin_from_the_weights_that_sync_found(project: Path, repository: Path) -> None:
    params = embed_params(repository, embed__precision="fp32", embed__weights="start.pt")
    run(extract_frames, params)
    with pytest.raises(DataError, match=r"embed\.weights: start\.pt is not in data/weights\.tsv; run .*sync"):
        run(embed, params)
    teacher = Embedder("resnet10_tiny", 48, 48, "fp32").make_backbone(None, seed=7)
    torch.save(teacher.state_dict(), "start.pt")
    write_weights(paths.WEIGHTS, {"embed.weights": ("start.pt", Path("start.pt"))})
    run(embed, params)
    frames = FrameReader(paths.FRAMES / "a.mp4.zip").read([4])
    features_ND = np.load(paths.EMBEDDINGS / "a.mp4.npy")
    np.testing.assert_allclose(embed_frames(teacher, frames, size=(48, 48))[0], features_ND[4], atol=1e-5)


def test_embed_is_disabled_or_refuses_what_it_does_not_know(project: Path, repository: Path) -> None:
    run(extract_frames, make_params(repository))
    run(embed, make_params(repository))
    assert set(contents(paths.EMBEDDINGS)) == {"disabled"}
    with pytest.raises(ParamsError, match="there is no backbone 'resnet1'"):
        run(embed, embed_params(repository, embed__backbone="resnet1"))


def boxes_csv(boxes: dict[str, tuple[int, int, int, int]]) -> None:
    rows = [",".join(map(str, (name, *box))) for name, box in boxes.items()]
    Path("boxes.csv").write_text("\n".join(["video,x,y,width,height", *rows, ""]))


BOXES_PARAMS = {"frames__roi__kind": "boxes", "frames__roi__path": "boxes.csv"}


def test_a_changed_box_makes_one_video_again(project: Path, repository: Path) -> None:
    params = make_params(repository, **BOXES_PARAMS)
    boxes = dict.fromkeys(NAMES, (8, 8, 32, 32))
    boxes_csv(boxes)
    assert run(extract_frames, params).skipped == 0
    before = contents(paths.FRAMES)
    boxes_csv(boxes | {NAMES[1]: (16, 8, 32, 32)})
    assert run(extract_frames, params).skipped == 2
    after = contents(paths.FRAMES)
    assert {name for name in before if before[name] != after[name]} == {f"{NAMES[1]}.zip", "index.tsv"}
    boxes_csv({NAMES[0]: (8, 8, 32, 32)})
    with pytest.raises(DataError, match=r"no box for .* \(2 videos lack one\)"):
        run(extract_frames, params)
    boxes_csv(boxes | {NAMES[0]: (40, 8, 32, 32)})
    with pytest.raises(DataError, match=r"a\.mp4: the region of 32x32 pixels at 40,8 leaves the video of 64x64"):
        run(extract_frames, params)


def keypoints_csv(path: Path, xy: list[tuple[float, float]]) -> None:
    """As DeepLabCut writes it."""
    rows = ["scorer,net,net,net", "bodyparts,nose,nose,nose", "coords,x,y,likelihood"]
    rows += [f"{frame},{x},{y},0.99" for frame, (x, y) in enumerate(xy)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([*rows, ""]))


def test_a_crop_follows_deeplabcuts_keypoints(project: Path, repository: Path) -> None:
    for name in NAMES:
        keypoints_csv(
            Path("pose") / f"{name.rpartition('.')[0]}DLC_resnet50.csv", [(24.0 + 2 * i, 32.0) for i in range(9)]
        )
    names = ("bodypart", "side_px", "min_likelihood", "smooth_frames")
    values = dict(zip(names, ("nose", 32, 0.6, 1), strict=True))
    of_crop = {f"frames__roi__{name}": value for name, value in values.items()}
    size = {"frames__height_px": 32, "frames__width_px": 32}
    params = make_params(repository, frames__roi__kind="pose", frames__roi__path="pose", **of_crop, **size)
    write_sources(paths.SOURCES, [])
    run(extract_frames, params)
    reader = FrameReader(paths.FRAMES / "a.mp4.zip")
    np.testing.assert_array_equal(reader.crop_steps_T2, [[2, 0]] * 8)
    keypoints_csv(Path("pose/aDLC_resnet50.csv"), [(30.0, 32.0)] * 9)
    assert run(extract_frames, params).skipped == 2
    (Path("pose") / "aDLC_other.csv").write_text("")
    with pytest.raises(DataError, match=r"several files .* for a\.mp4"):
        run(extract_frames, params)


def test_a_worker_in_another_folder_finds_what_params_name_relatively(
    project: Path, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    torch.save({}, "net.pth")
    for name in NAMES:
        keypoints_csv(Path("pose") / f"{name.rpartition('.')[0]}DLC.csv", [(32.0, 32.0)] * 9)
    roi = {"kind": "pose", "path": "pose", "bodypart": "nose", "side_px": 32, "min_likelihood": 0.6, "smooth_frames": 1}
    changes = {f"frames__roi__{name}": value for name, value in roi.items()}
    changes |= {"flow__method": "raft_small", "flow__weights": "net.pth", "embed__weights": "net.pth"}
    changes |= {"pose__source": "keypointrcnn", "pose__weights": "net.pth"}
    params = make_params(repository, **changes)
    write_sources(paths.SOURCES, [])
    write_weights(paths.WEIGHTS, {"embed.weights": ("net.pth", Path("net.pth"))})
    frames = extract_frames.plan_frames(params, read_table(paths.VIDEOS, VIDEOS))
    flow = compute_flow.plan_flow(params, frames.results).tasks[0].task
    pose = compute_pose.plan_pose(params, frames.results).tasks[0].task
    features = embed.plan_embeddings(params, frames.results).tasks[0].task
    weights = Path("net.pth").absolute()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert {flow.weights, pose.weights} == {str(weights)}
    assert features.weights is not None and features.weights.is_absolute() and features.weights.samefile(weights)
    task = frames.tasks[0].task
    assert task.region is not None and task.region.read(cache_dir=task.cache_dir).width_px == 32
    assert extract_frames.extract_into(tmp_path / "a.zip", task) == 9
