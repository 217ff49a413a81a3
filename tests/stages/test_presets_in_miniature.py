"""Presets, each run from the videos to the report on a small data set of the layout that it is for.

Only sizes, epochs, paths and names of videos differ from what ships. Videos are noise, so scores say nothing.
"""

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch

from kineflow.models.registry import create_model
from kineflow.models.torchvision_compat import declare_missing_torchvision_ops
from kineflow.params import load_params
from kineflow.setup.presets import use_preset
from kineflow.stages import STAGES, paths
from kineflow.tables import CLIPS, FOLDS, read_table
from tests.conftest import make_workspace
from tests.graph import report_of, run_stages

HEIGHT, WIDTH = 36, 64
TO_REPORT = STAGES[: STAGES.index("evaluate") + 1]
WEIGHTS = "data/weights/start.pth"


def encode(path: Path, *, fps: int, num_frames: int) -> None:
    """A video of noise that is drifting, another one for each name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(sum(path.as_posix().encode())).integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=Fraction(fps))
        stream.height, stream.width, stream.pix_fmt = HEIGHT, WIDTH, "yuv420p"
        for i in range(num_frames):
            image = av.VideoFrame.from_ndarray(np.roll(noise, i, axis=1), format="rgb24")
            container.mux(stream.encode(image))
        container.mux(stream.encode(None))


def save_weights(tensors: dict[str, torch.Tensor]) -> None:
    path = Path(WEIGHTS)
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(tensors, path)


def save_torchvision_weights(name: str) -> None:
    """As torchvision publishes them, but for the values."""
    declare_missing_torchvision_ops()
    import torchvision

    torch.manual_seed(0)
    save_weights(torchvision.models.get_model(name, weights=None).state_dict())


def save_weights_of_videos(name: str) -> None:
    """As IG65M and others publish 3D networks: names of the network alone, 359 classes that are not ours."""
    torch.manual_seed(0)
    model = create_model(f"{name}.avg", num_classes=359, in_channels=3, task="clip").state_dict()
    prefix = "backbone.network."
    backbone = {key.removeprefix(prefix): value for key, value in model.items() if key.startswith(prefix)}
    head = {"fc.weight": model["head.classifier.weight"], "fc.bias": model["head.classifier.bias"]}
    save_weights(backbone | head)


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    root = make_workspace(tmp_path / "workspace", "tiny")
    monkeypatch.chdir(root)
    monkeypatch.delenv("KINEFLOW_HOME", raising=False)
    yield root
    monkeypatch.chdir(tmp_path)
    shutil.rmtree(root)  # whole networks lie in it, several times over


@pytest.fixture
def build(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    def run(preset: str, names: Sequence[str] = TO_REPORT, **overrides: str) -> dict[str, Any]:
        """Write the preset as `kineflow use --set` does, run stages, and give metrics.json."""
        values = {key.replace("__", "."): value for key, value in overrides.items()}
        use_preset(preset, workspace / "params.yaml", values, force=True)
        run_stages(monkeypatch, names)
        metrics: dict[str, Any] = json.loads(paths.METRICS.read_text())
        return metrics

    return run


def roles() -> dict[str, set[str]]:
    """The groups of each role."""
    rows = read_table(paths.FOLDS, FOLDS).merge(read_table(paths.CLIPS, CLIPS), on="clip_id")
    return {str(role): set(of_role["group"]) for role, of_role in rows.groupby("role")}


def started_from() -> str:
    (note,) = (note for note in report_of(Path(), "train", "rgb")["notes"] if note.startswith("starting from"))
    return str(note)


CLIPS_IN_MINIATURE = {
    "frames__height_px": "32",
    "frames__width_px": "42",
    "splits__num_folds": "2",
    "validation__min_clips_per_class": "2",
    "streams__rgb__weights": WEIGHTS,
    "streams__rgb__num_frames": "16",
    "streams__rgb__height_px": "28",
    "streams__rgb__width_px": "28",
    "streams__rgb__epochs": "1",
    "train__batch_size": "2",
    "train__accumulation": "2",
}


def test_ucf101_one_split_then_the_next(workspace: Path, build: Callable[..., dict[str, Any]]) -> None:
    lists = workspace / "data" / "ucf101" / "ucfTrainTestlist"
    lists.mkdir(parents=True)
    classes = ("Archery", "YoYo")
    (lists / "classInd.txt").write_text("1 Archery\n2 YoYo\n")
    names = {group: [f"{name}/v_{name}_g{group:02}_c01.avi" for name in classes] for group in range(1, 5)}
    for group, tested in ((1, "01"), (2, "02"), (3, "03")):
        rows = [f"{name} {i}" for other in names if other != group for i, name in enumerate(names[other], start=1)]
        (lists / f"trainlist{tested}.txt").write_text("\n".join(rows) + "\n")
        (lists / f"testlist{tested}.txt").write_text("\n".join(names[group]) + "\n")
    for name in (name for of_group in names.values() for name in of_group):
        encode(workspace / "data" / "ucf101" / "videos" / name, fps=25, num_frames=36)
    save_weights_of_videos("r2plus1d_34")
    metrics = build("ucf101", **CLIPS_IN_MINIATURE)
    assert metrics["classes"] == list(classes)
    assert roles() == {"test": {"g01"}, "train": {"g02", "g03", "g04"}, "val": {"g02", "g03", "g04"}}
    assert set(metrics["test"]) == {"rgb"} and len(metrics["cv"]["rgb"]["video_top1_acc"]["folds"]) == 2
    assert " 0 dropped" in started_from() and " 2 unused" in started_from()  # all but the classes of the file
    second = "data/ucf101/ucfTrainTestlist/trainlist02.txt"
    build("ucf101", TO_REPORT[: TO_REPORT.index("train")], **CLIPS_IN_MINIATURE, data__annotations=second)
    assert roles()["test"] == {"g02"}
    assert report_of(workspace, "extract_frames")["skipped"] == len(classes) * len(names)  # nothing is decoded again


def test_hmdb51(workspace: Path, build: Callable[..., dict[str, Any]]) -> None:
    lists = workspace / "data" / "hmdb51" / "testTrainMulti_7030_splits"
    lists.mkdir(parents=True)
    for label in ("brush_hair", "wave"):
        names = [f"Film{i}_{label}_u_nm_np1_fr_goo_0.avi" for i in range(5)]
        for name in names:
            encode(workspace / "data" / "hmdb51" / "videos" / label / name, fps=30, num_frames=20)
        rows = [f"{name} {number} " for name, number in zip(names, (1, 1, 1, 2, 0), strict=True)]
        (lists / f"{label}_test_split1.txt").write_text("\n".join(rows) + "\n")
    save_weights_of_videos("r3d_mini")
    metrics = build("hmdb51", **CLIPS_IN_MINIATURE, streams__rgb__model="r3d_mini.bert")
    assert metrics["classes"] == ["brush_hair", "wave"]
    assert roles()["test"] == {"Film3"} and roles()["val"] == {"Film0", "Film1", "Film2"}
    assert set(metrics["test"]) == {"rgb"}


def test_mouse_with_an_lstm_and_with_a_tcn(workspace: Path, build: Callable[..., dict[str, Any]]) -> None:
    data, num_frames = workspace / "data" / "mouse", 60
    for folder in ("videos", "labels", "keypoints"):
        (data / folder).mkdir(parents=True)
    for number, name in enumerate(("HD_a", "WT_b", "WT_c", "YFP_d")):
        encode(data / "videos" / f"{name}.mp4", fps=10, num_frames=num_frames)
        rows = [[(i // 15 + number) % 4 == behaviour for behaviour in range(3)] for i in range(num_frames)]
        lines = ["grooming,rearing_mid,rearing_wall", *(",".join(str(int(value)) for value in row) for row in rows)]
        (data / "labels" / f"{name}.csv").write_text("\n".join(lines) + "\n")
        points = [f"{i},{20 + i / 4},{15 + number},0.9" for i in range(num_frames)]
        header = ["scorer,net,net,net", "bodyparts,midbody,midbody,midbody", "coords,x,y,likelihood"]
        (data / "keypoints" / f"{name}DLC_resnet50.csv").write_text("\n".join([*header, *points]) + "\n")
    save_torchvision_weights("resnet50")
    small = {
        "frames__height_px": "32",
        "frames__width_px": "32",
        "frames__roi__side_px": "24",
        "embed__weights": WEIGHTS,
        "embed__height_px": "32",
        "embed__width_px": "32",
        "clips__window_sec": "2.0",
        "splits__test_names": "[YFP_d.mp4]",
        "streams__rgb__epochs": "2",
    }
    metrics = build("mouse", **small)
    assert metrics["classes"] == ["grooming", "rearing_mid", "rearing_wall"]
    assert roles()["test"] == {"YFP_d.mp4"} and roles()["val"] == {"HD_a.mp4", "WT_b.mp4", "WT_c.mp4"}
    assert len(metrics["cv"]["rgb"]["frame_mAP"]["folds"]) == 3
    assert np.load(paths.EMBEDDINGS / "HD_a.mp4.npy", mmap_mode="r").shape == (num_frames, 2048)
    again = build(
        "mouse",
        ("train", "evaluate"),
        **small,
        streams__rgb__model="embedding.tcn",
        streams__rgb__options="{num_layers: 1, num_filters: 256, kernel_size: 3, norm: batch}",
        train__batch_size="32",
    )
    assert again["cv"]["rgb"]["frame_mAP"]["folds"] != metrics["cv"]["rgb"]["frame_mAP"]["folds"]


def test_fish(workspace: Path, build: Callable[..., dict[str, Any]]) -> None:
    data = workspace / "data" / "fish"
    lines = ["Observation id,Media file name,nest,Subject,Behavior,Behavior type,Time"]
    for nest in range(6):
        name = f"2020060{nest}/1/GH010063.mp4"
        encode(data / "videos" / name, fps=20, num_frames=320)
        events = [
            ("male present", "START", 0.2), ("spawning", "POINT", 2.0), ("chase", "POINT", 6.0),
            ("male present", "STOP", 15.5),
        ]  # fmt: skip
        lines += [f"obs{nest},{name},N{nest},male,{label},{kind},{sec:.3f}" for label, kind, sec in events]
    (data / "events.csv").write_text("\n".join(lines) + "\n")
    save_torchvision_weights("resnet18")
    metrics = build(
        "fish",
        frames__height_px="36",
        frames__width_px="64",
        streams__rgb__weights=WEIGHTS,
        streams__rgb__height_px="36",
        streams__rgb__width_px="64",
        streams__rgb__epochs="1",
        train__eval_every="1",
        validation__min_clips_per_class="2",
    )
    assert metrics["classes"] == ["chase", "none", "spawning"]
    assert len(metrics["cv"]["rgb"]["video_macro_f1"]["folds"]) == 4
    clips = read_table(paths.CLIPS, CLIPS)
    assert set(clips["stop_frame"] - clips["start_frame"]) == {15}
    (spawned,) = clips.loc[(clips["label"] == "spawning") & (clips["group"] == "N0"), "start_frame"]
    assert spawned + 7 == 20  # the event is in the middle frame of 15 at 10 a second
    assert (clips["label"] == "none").sum() == 12  # as many as events
    assert " 0 dropped" in started_from() and " 2 unused" in started_from()  # all but ImageNet's classes


RENDERED_IN_MINIATURE = {
    "sample__num_groups": "4",
    "sample__clips_per_class_per_group": "1",
    "sample__long_videos_per_group": "1",
    "sample__clip_sec": "1.0",
    "sample__long_sec": "8.0",
    "sample__fps": "10",
    "sample__size_px": "48",
    "frames__fps": "10.0",
    "frames__height_px": "48",
    "frames__width_px": "48",
    "splits__num_folds": "2",
    "splits__test_fraction": "0.25",
    "validation__min_clips_per_class": "2",
    "streams__rgb__num_frames": "8",
    "streams__rgb__epochs": "1",
    "streams__flow__num_frames": "8",
    "streams__flow__epochs": "1",
    "distill__epochs": "1",
}


@pytest.mark.parametrize(("preset", "metric"), [("sample", "video_top1_acc"), ("sample_frames", "frame_macro_f1")])
def test_the_rendered_sample(build: Callable[..., dict[str, Any]], preset: str, metric: str) -> None:
    metrics = build(preset, **RENDERED_IN_MINIATURE)
    assert len(metrics["classes"]) == 6 and len(roles()["test"]) == 1
    assert set(metrics["cv"]) == {"rgb", "flow", "fusion", "student"}
    assert all(len(scores[metric]["folds"]) == 2 for scores in metrics["cv"].values())


@pytest.mark.parametrize("name", ["ucf101", "hmdb51"])
def test_official_presets_differ_in_their_data_alone(repository: Path, name: str) -> None:
    one, other = (load_params(repository / "params" / f"{preset}.yaml") for preset in ("ucf101", name))
    changed = {"data": other.data, "frames": other.frames, "clips": other.clips, "register_": other.register_}
    assert one.model_copy(update=changed) == other


@pytest.mark.parametrize(
    ("preset", "streams"),
    [("ut_interaction", ["rgb", "flow", "fusion"]), ("small_data", ["rgb", "flow", "fv", "fusion"])],
)
def test_clips_with_a_manifest(
    workspace: Path, build: Callable[..., dict[str, Any]], preset: str, streams: list[str]
) -> None:
    rows = ["path\tlabel\tgroup"]
    for group in range(4):
        for label in ("hug", "kick"):
            encode(workspace / "data" / "videos" / f"{group}_{label}.mp4", fps=30, num_frames=24)
            rows.append(f"{group}_{label}.mp4\t{label}\t{group}")
    (workspace / "data" / "videos" / "MANIFEST.tsv").write_text("\n".join(rows) + "\n")
    metrics = build(
        preset,
        data__source="data/videos",
        data__annotations="data/videos/MANIFEST.tsv",
        splits__num_folds="2",
        validation__min_clips_per_class="2",
        frames__height_px="48",
        frames__width_px="64",
        streams__rgb__epochs="1",
        streams__flow__epochs="1",
        **({"streams__fv__short_side_px": "48"} if preset == "small_data" else {}),
    )
    assert list(metrics["cv"]) == streams and metrics["classes"] == ["hug", "kick"]
    assert {name for name, groups in roles().items() if len(groups) == 4} == {"train", "val"}
