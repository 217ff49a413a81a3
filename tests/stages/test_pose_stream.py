"""The third stream through the real stages: OpenPose files to skeletons, a trained model, fusion and prediction."""

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from kineflow.annotations.pose.layouts import BODY_25
from kineflow.data.preprocessing import Preprocessing
from kineflow.errors import DataError
from kineflow.inference.predict import TimedClip, VideoFile, label_videos, prepare, score_clips
from kineflow.models.region_ops import provide_region_ops
from kineflow.params import as_json, load_params
from kineflow.stages import STAGES, paths
from kineflow.store import file_sha256, home
from kineflow.tables import LOGITS, VIDEOS, read_table
from kineflow.video.frame_store import FrameReader
from kineflow.video.pose_store import PoseReader
from kineflow.video.probe import probe
from tests.conftest import make_workspace
from tests.graph import change_params, contents, report_of, run_stage, run_stages
from tests.stages.test_toggles import AFTER_FRAMES, LONG_VIDEOS, check_outs
from tests.unit.annotations.test_pose_json import write_openpose

POSES = Path("keypoints")
BEFORE_POSE = STAGES[: STAGES.index("compute_pose")]
POSE_ALONE = {
    "streams__rgb__enabled": False,
    "streams__flow__enabled": False,
    "streams__pose__enabled": True,
    "distill__enabled": False,
    "evaluate__baselines": ["majority"],
    "release__stream": "pose",
    "pose__path": str(POSES),
}
# Where the joints of a standing person are, as fractions of its height, from the middle of the hips.
STANDING = {
    "Nose": (0.0, -0.55), "Neck": (0.0, -0.42), "RShoulder": (-0.12, -0.42), "LShoulder": (0.12, -0.42),
    "MidHip": (0.0, 0.0), "RHip": (-0.07, 0.0), "LHip": (0.07, 0.0), "RKnee": (-0.08, 0.25), "LKnee": (0.08, 0.25),
    "RAnkle": (-0.09, 0.48), "LAnkle": (0.09, 0.48), "RElbow": (-0.2, -0.25), "RWrist": (-0.22, -0.08),
}  # fmt: skip


def person(label_number: int, phase: float, *, side_px: int, rng: np.random.Generator) -> np.ndarray:
    """BODY_25 of somebody whose left arm swings around another angle in each class, float (25, 3)."""
    angle = 2 * np.pi * label_number / 6 + 0.3 * np.sin(phase)
    step = 0.18 * np.array([np.cos(angle), np.sin(angle)])
    joints = dict(STANDING) | {"LElbow": (0.12 + step[0], -0.42 + step[1])}
    joints["LWrist"] = (0.12 + 2 * step[0], -0.42 + 2 * step[1])
    points = np.zeros((25, 3))
    for name, place in joints.items():
        points[BODY_25.bodyparts.index(name)] = (*(0.5 + 0.6 * np.array(place)), 0.9)
    points[:, :2] = (points[:, :2] + rng.normal(0, 0.005, (25, 2))) * side_px * (points[:, 2:] > 0)
    return points


def write_poses(root: Path, labels: dict[str, str], *, videos: str = "clips") -> None:
    """A folder of OpenPose for each video, its person doing what the video's label says."""
    numbers = {label: number for number, label in enumerate(sorted(set(labels.values())))}
    for index, (video_id, label) in enumerate(sorted(labels.items())):
        info, rng = probe(Path("data/sample") / videos / video_id), np.random.default_rng(index)
        frames = [
            [person(numbers[label], 0.6 * frame, side_px=info.width, rng=rng)] for frame in range(info.num_frames)
        ]
        write_openpose(root / Path(video_id).with_suffix(""), frames)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workspace of the preset tiny up to its flow, with keypoints for each of its clips."""
    root = make_workspace(tmp_path / "workspace", "tiny")
    monkeypatch.chdir(root)
    monkeypatch.delenv("KINEFLOW_HOME", raising=False)
    run_stages(monkeypatch, ("sync", "ingest"))
    events = pd.read_parquet(paths.EVENTS)
    write_poses(POSES, dict(zip(events["video_id"], events["label"], strict=True)))
    change_params(root, **POSE_ALONE)
    return root


def test_poses_are_trained_fused_registered_and_predicted(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    both = {"streams__rgb__enabled": True, "release__stream": "fusion", "train__batch_size": 4}
    change_params(project, **both, streams__pose__epochs=30, streams__pose__subtract_background=False)
    run_stages(monkeypatch)
    videos = read_table(paths.VIDEOS, VIDEOS)
    name = str(videos["video_id"].iloc[0])
    with PoseReader(paths.POSE / f"{name}.zip") as reader, FrameReader(paths.FRAMES / f"{name}.zip") as frames:
        assert (len(reader), reader.height, reader.width) == (len(frames), frames.height, frames.width)
        assert reader.num_joints.tolist() == [15] * len(reader)
        row, column = (round(0.5 * side) for side in (reader.height, reader.width))
        assert reader.read([0])[0, row, column].any()  # the hips
    metrics = json.loads(paths.METRICS.read_text())
    assert list(metrics["cv"]) == list(metrics["test"]) == ["rgb", "pose", "fusion"]
    assert metrics["cv"]["pose"]["video_top1_acc"]["mean"] >= 0.8  # the arm tells; rgb knows little after two epochs
    assert "c-pose" in paths.REPORT_HTML.read_text() and paths.is_disabled(paths.MODELS / "flow")
    bundle = home() / "release" / "bundle"
    members = json.loads((bundle / "bundle.json").read_text())["members"]
    assert [member["stream"] for member in members] == ["rgb", "pose"]
    assert members[1]["preprocessing"]["pose"]["rule"]["source"] == "files"
    predictions_agree(project, bundle, videos)


def test_poses_alone_and_beside_both_others(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_stages(monkeypatch)
    check_outs(streams=["pose"])
    on = {"streams__rgb__enabled": True, "streams__flow__enabled": True, "release__stream": "fusion"}
    change_params(project, **on)
    run_stages(monkeypatch, AFTER_FRAMES)
    check_outs(streams=["rgb", "flow", "pose", "fusion"])
    assert report_of(Path(), "train", "pose")["skipped"] == 3


def test_every_frame_of_long_videos_is_labelled_by_its_pose(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pose = {
        "streams__pose__model": "resnet10_tiny.lstm",
        "streams__pose__options": LONG_VIDEOS["streams__flow__options"],
    }
    change_params(project, **LONG_VIDEOS, **pose)
    videos = sorted(path.name for path in Path("data/sample/videos").glob("*.mp4"))
    write_poses(POSES, dict.fromkeys(videos, "any"), videos="videos")
    run_stages(monkeypatch)
    check_outs(streams=["pose"], task="frame")
    logits = read_table(paths.MODELS / "pose" / "test.parquet", LOGITS)
    uri = read_table(paths.VIDEOS, VIDEOS).set_index("video_id").loc[str(logits["video_id"].iloc[0]), "uri"]
    shutil.copytree(POSES / Path(uri).stem, Path(uri).with_suffix(""))
    labelled = label_videos(paths.MODELS / "pose" / "release", [Path(uri)])
    assert len(labelled) == len(FrameReader(paths.FRAMES / f"{Path(uri).name}.zip"))


def predictions_agree(project: Path, bundle: Path, videos: pd.DataFrame) -> None:
    """From the file on a test video scores as it did in training, wherever its keypoints lie."""
    logits = read_table(paths.MODELS / "pose" / "test.parquet", LOGITS)
    video_id = str(logits["video_id"].iloc[0])
    row = videos.set_index("video_id").loc[video_id]
    classes = [column for column in logits.columns if column not in dict(LOGITS.columns)]
    new = project / "new"
    new.mkdir()
    shutil.copyfile(row["uri"], new / "unseen.mp4")
    alone = paths.MODELS / "pose" / "release"
    with pytest.raises(DataError, match=r"unseen\.mp4: this model looks at keypoints, and there are none beside"):
        label_videos(alone, [new / "unseen.mp4"])
    shutil.copytree(POSES / Path(video_id).with_suffix(""), new / "unseen")
    wanted = np.exp(logits[classes].to_numpy()[0])
    wanted /= wanted.sum()
    clip, file = TimedClip("c", video_id), VideoFile(video_id, Path(row["uri"]))
    by_id = score_clips(alone, [clip], [file])[classes].to_numpy()[0]  # keypoints where training had them
    np.testing.assert_allclose(by_id, wanted, atol=1e-5)
    found = label_videos(alone, [new / "unseen.mp4"])[classes].to_numpy()[0]
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    fused = label_videos(bundle, [new / "unseen.mp4"])[classes].to_numpy()[0]
    assert fused.sum() == pytest.approx(1, abs=1e-5) and not np.allclose(fused, found)


def test_only_what_changed_is_drawn_again(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_stages(monkeypatch, ("sync", "ingest", "validate_raw", "extract_frames", "compute_pose"))
    before, num_videos = contents(Path(), "data/pose"), report_of(Path(), "compute_pose")["items"]
    run_stages(monkeypatch, ("sync", "compute_pose"))
    assert report_of(Path(), "compute_pose")["skipped"] == num_videos and contents(Path(), "data/pose") == before
    changed = next(POSES.rglob("*000000000003_keypoints.json"))
    changed.write_text('{"people": []}')
    assert run_stage(monkeypatch, "compute_pose") == 0  # as sync listed it
    run_stages(monkeypatch, ("sync", "compute_pose"))
    assert report_of(Path(), "compute_pose")["skipped"] == num_videos - 1
    after = contents(Path(), "data/pose")
    (video,) = {name for name in before if before[name] != after[name]} - {"data/pose/index.tsv"}
    assert PoseReader(Path(video)).num_joints[3] == 0
    change_params(project, pose__min_likelihood=0.95)
    run_stages(monkeypatch, ("compute_pose",))
    assert report_of(Path(), "compute_pose")["skipped"] == 0
    assert PoseReader(Path(video)).num_joints.sum() == 0
    monkeypatch.setenv("KINEFLOW_HOME", "another")
    change_params(project, pose__min_likelihood=0.3)
    run_stages(monkeypatch, ("sync", "compute_pose"))
    assert contents(Path(), "data/pose") == after  # as a clean run makes it


def test_what_is_wrong_with_keypoints_is_said(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_stages(monkeypatch, BEFORE_POSE)
    (folder, *_) = sorted(path for path in POSES.iterdir())
    last = sorted(folder.iterdir())[-1]
    text = last.read_text()

    def error() -> Any:
        assert run_stage(monkeypatch, "sync") == 0 and run_stage(monkeypatch, "compute_pose") == 3
        return report_of(Path(), "compute_pose")["error"]

    last.write_text("{")
    assert f"{folder.name}.mp4: {last.name}:1: no JSON" in error()
    last.unlink()
    assert "the keypoints end at frame 9, the video does not" in error()
    last.write_text(text)
    change_params(project, pose__limbs=[["Neck", "Tail"]])
    assert "no body part 'Tail'" in error()
    folder.rename(POSES / "other")
    assert f"no keypoints for {folder.name}.mp4" in error()
    change_params(project, pose__path="data/pose")
    assert run_stage(monkeypatch, "sync") == 2
    assert "pose.path: data/pose is in data/pose, which the pipeline empties" in report_of(Path(), "sync")["error"]


def test_a_network_finds_people_where_there_are_no_files(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    provide_region_ops()
    from torchvision.models.detection import keypointrcnn_resnet50_fpn

    torch.manual_seed(0)
    torch.save(keypointrcnn_resnet50_fpn(weights=None, weights_backbone=None).state_dict(), "people.pth")
    network = {"pose__source": "keypointrcnn", "pose__path": None, "pose__weights": "people.pth"}
    change_params(project, **network, pose__min_likelihood=0.001, frames__fps=1.0, clips__min_frames=1)
    run_stages(monkeypatch, BEFORE_POSE)
    index = (paths.FRAMES / "index.tsv").read_text().splitlines()[:3]
    (paths.FRAMES / "index.tsv").write_text("\n".join([*index, ""]))  # one video of one frame is enough to wait for
    run_stages(monkeypatch, ("compute_pose",))
    (store,) = paths.POSE.glob("*.zip")
    with PoseReader(store) as reader:
        assert len(reader) == 1 and reader.rule.weights_sha256 == file_sha256(Path("people.pth"))
        assert reader.num_joints[0] > 0 and reader.read([0]).any()
        found_again = from_the_file_on(store.stem, reader)
        np.testing.assert_array_equal(found_again.read([0]), reader.read([0]))
    assert f"pose.weights\tpeople.pth\t{reader.rule.weights_sha256}" in paths.WEIGHTS.read_text()
    run_stages(monkeypatch, ("compute_pose",))
    assert report_of(Path(), "compute_pose")["skipped"] == 1
    torch.save({"conv.weight": torch.zeros(1)}, "people.pth")  # other content under the same name is seen
    assert run_stage(monkeypatch, "compute_pose") == 3
    assert "people.pth: not the weights of keypointrcnn_resnet50_fpn" in report_of(Path(), "compute_pose")["error"]
    Path("people.pth").unlink()
    assert run_stage(monkeypatch, "compute_pose") == 2
    assert "weights 'people.pth': there is no such file" in report_of(Path(), "compute_pose")["error"]


def from_the_file_on(video_id: str, stored: PoseReader) -> PoseReader:
    """What prediction sees of a video of the sample, by the rule of `stored`."""
    params = load_params(Path("params.yaml"))
    preprocessing = Preprocessing(
        task="clip",
        stream="pose",
        fps=params.frames.fps,
        frames=as_json(params.frames),
        flow=None,
        pose={"rule": asdict(stored.rule), "path": None, "weights": params.pose.weights},
        sampling="segments",
        num_frames=1,
        frame_stride=1,
        height_px=24,
        width_px=24,
        decode_height_px=24,
        decode_width_px=24,
        subtract_background=False,
        flow_scale_px=1.0,
        num_views=1,
    )
    reader = prepare(VideoFile(video_id, Path("data/sample/clips") / video_id), preprocessing)
    assert isinstance(reader, PoseReader)
    return reader
