"""A ratio means something only where both sides do the same work, so that is what is tested; no time is asserted."""

import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import torch
import yaml

from benchmarks import dvc_add, loading, overhead, ray_training, scale, train_step, zoo
from benchmarks.__main__ import NAMES, main, markdown
from benchmarks.timing import Comparison, compare
from kineflow.data.dataset import collate
from kineflow.training.batches import epoch_batches
from kineflow.training.inputs import model_input
from kineflow.video.frame_store import FrameReader

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list]:
    root = tmp_path_factory.mktemp("stores")
    return root, loading.make_stores(root, num_videos=1)


def test_the_ratio_is_the_median_over_rounds_of_reference_by_ours() -> None:
    comparison = Comparison("x", ours_sec=(1.0, 2.0, 4.0), reference_sec=(3.0, 2.0, 20.0))
    assert comparison.ratio == 3.0


def test_rounds_are_interleaved_and_the_given_clock_counts(capsys: pytest.CaptureFixture[str]) -> None:
    calls: list[str] = []
    ticks = iter(range(100))
    comparison = compare(
        "x", lambda: calls.append("a"), lambda: calls.append("b"), num_rounds=3, clock=lambda: float(next(ticks))
    )
    assert "".join(calls) == "ab" + "ab" + "ba" + "ab"  # a warm-up, then who begins alternates
    assert comparison.ours_sec == comparison.reference_sec == (1.0, 1.0, 1.0)
    assert "1.00x" in capsys.readouterr().out


def test_clips_by_hand_are_the_pixels_of_the_store(stores: tuple[Path, list]) -> None:
    root, items = stores
    clips = loading.dataset(root, loading.RGB, items)
    for index in (0, len(items) - 1):
        ours = next(clips.fixed_views(index)).clip.pixels_THWC
        folder = root / "images" / "rgb" / items[index].video_id
        by_hand = loading.clip_by_hand(folder, items[index], cv2.INTER_AREA)
        assert ours.shape == by_hand.shape == (16, 112, 112, 3)
        assert np.abs(ours.astype(int) - by_hand.astype(int)).mean() < 3


def test_a_view_by_torchvision_is_the_tensor_of_the_store(stores: tuple[Path, list]) -> None:
    root, items = stores
    clips = loading.dataset(root, loading.RGB, items)
    flipped = [index for index in range(len(items)) if loading.view_of(clips, index).flip]
    assert 0 < len(flipped) < len(items)
    for index, item in enumerate(items):
        batch = collate([clips.sample(index, epoch=0)])
        ours = model_input(batch, clips.preprocessing, loading.CPU)[0].numpy()
        reader = FrameReader(root / "frames" / f"{item.video_id}.zip")
        theirs = loading.clip_by_torchvision(reader, item, loading.view_of(clips, index)).numpy()
        assert ours.shape == theirs.shape == (3, 16, 112, 112)
        assert np.abs(ours - theirs).mean() < 0.1 < np.abs(ours - theirs[..., ::-1]).mean()  # of values some 4 apart


def test_flow_by_hand_is_the_tensor_of_the_store(stores: tuple[Path, list]) -> None:
    root, items = stores
    clips = loading.dataset(root, loading.FLOW, items)
    num_flows = clips.videos[items[0].video_id]
    folder = root / "images" / "flow" / items[0].video_id
    for index in (0, len(items) - 1):
        batch = collate([clips.sample(index, epoch=0)])
        ours = model_input(batch, clips.preprocessing, loading.CPU)[0].numpy()
        by_hand = loading.flow_by_hand(folder, items[index], loading.view_of(clips, index), len(num_flows))
        assert ours.shape == by_hand.shape == (2, 16, 112, 112)
        assert np.abs(ours).max() > 0.3  # something moves
        assert np.abs(ours - by_hand).mean() < 0.02


@pytest.mark.parametrize("name", ["x3d_xs.avg", "i3d.avg"])
def test_the_network_with_plain_convolutions_is_the_same(name: str) -> None:
    model = train_step.make_model(name).eval()
    kinds = [type(module) for module in model.modules() if isinstance(module, torch.nn.Conv3d)]
    clips_BCTHW = torch.randn(1, 3, 16, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        ours = model(clips_BCTHW).logits
        plain = train_step.with_plain_convolutions(model)
        torch.testing.assert_close(plain(clips_BCTHW).logits, ours, atol=1e-4, rtol=1e-3)
    assert kinds != [type(module) for module in plain.modules() if isinstance(module, torch.nn.Conv3d)]


def test_the_bare_loop_trains_the_weights_that_fit_trains() -> None:
    torch.set_num_threads(1)
    clips = train_step.premade_clips((3, 8, 16, 16), num_clips=16)
    recipe = train_step.one_epoch("fp32")
    fitted = train_step.fit_premade(train_step.make_model("r3d_mini.avg"), clips, recipe)
    bare = train_step.make_model("r3d_mini.avg")
    before = {name: value.clone() for name, value in bare.state_dict().items()}
    train_step.bare_loop(bare, train_step.stacked(clips, epoch_batches([0] * 16, recipe, epoch=0)), recipe)
    for name, value in bare.state_dict().items():
        assert torch.equal(fitted[name], value), name
    assert any(not torch.equal(value, fitted[name]) for name, value in before.items() if name.endswith("weight"))


def test_epochs_by_ray_and_by_the_bare_loop_take_turns(tmp_path: Path) -> None:
    recipe = replace(train_step.one_epoch("fp32"), epochs=3)
    (tmp_path / "turn").write_text("ours")
    worked: list[str] = []

    def train(side: str, on_epoch: Callable[[int], None]) -> None:
        for epoch in range(recipe.epochs):
            worked.append(side)
            on_epoch(epoch)

    with ThreadPoolExecutor() as pool:
        sides = ("ours", "reference")
        takes = [pool.submit(ray_training.take_turns, s, recipe, tmp_path, partial(train, s)) for s in sides]
    assert worked == ["ours", "reference"] * 3
    assert [len(take.result()) for take in takes] == [3, 3]


def test_overhead_is_what_is_outside_the_stages_and_the_tools_starts_inside_them() -> None:
    work_sec = {"sync": 1.0, "validate_raw": 5.0, "extract_frames": 4.0, "register": 6.0}
    start_sec = {"python": 0.5, "Ray": 6.5, "Great Expectations": 3.5, "MLflow": 2.5, "Prefect": 9.0}
    # 20 - 16 outside; inside one gate (3), one stage that may start Ray (6) and one that starts MLflow (2)
    assert overhead.overhead_sec(20.0, work_sec, start_sec) == pytest.approx(4 + 3 + 6 + 2)


def test_stage_seconds_come_from_the_reports(tmp_path: Path) -> None:
    folder = tmp_path / "reports" / "stages"
    folder.mkdir(parents=True)
    (folder / "train.rgb.json").write_text(json.dumps({"stage": "train@rgb", "seconds": 2.5}))
    assert overhead.stage_seconds(tmp_path) == {"train@rgb": 2.5}


def test_overhead_names_stages_of_the_graph(repository: Path) -> None:
    import yaml

    graph = yaml.safe_load((repository / "dvc.yaml").read_text())["stages"]
    named = {stage for stages in overhead.USERS.values() for stage in stages}
    assert {stage.partition("@")[0] for stage in named} <= set(graph)


def test_both_forms_that_dvc_adds_hold_the_same_jpegs(tmp_path: Path) -> None:
    jpegs = dvc_add.jpegs_of(3, 4)
    assert len(set(jpegs)) == 4
    dvc_add.write_pack(tmp_path, 3, jpegs)
    dvc_add.write_folder(tmp_path, 3, jpegs)
    with zipfile.ZipFile(tmp_path / "00003.zip") as pack:
        packed = [pack.read(f"{index:06d}.jpg") for index in range(4)]
    assert packed == jpegs == [path.read_bytes() for path in sorted((tmp_path / "00003").iterdir())]


def test_the_videos_of_the_scale_benchmark_differ_in_their_pixels(tmp_path: Path) -> None:
    for seed in (0, 1):
        scale.write_tiny(tmp_path / f"{seed}.avi", seed=seed)
    first, second = (decoded(tmp_path / f"{seed}.avi") for seed in (0, 1))
    assert len(first) == len(second) == scale.NUM_FRAMES
    assert np.abs(first[0].astype(int) - second[0]).mean() > 20
    assert np.abs(first[0].astype(int) - first[-1]).mean() > 10  # it moves


def decoded(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def test_the_scale_benchmark_names_the_stages_of_the_graph(repository: Path) -> None:
    import yaml

    graph = list(yaml.safe_load((repository / "dvc.yaml").read_text())["stages"])
    later = list(dict.fromkeys(name.partition("@")[0] for name in scale.LATER_OUTS))
    assert [name for name in graph if name in scale.STAGES or name in later] == graph
    assert not set(scale.STAGES) & set(later)


def test_the_result_page_holds_every_ratio() -> None:
    comparison = Comparison("load clips", (0.5,), (1.0,), num_items=10, unit="clips")
    assert comparison.cells == ("load clips", "2.00", "500 ms (20 clips/s)", "1.00 s", "1")
    page = markdown({"loading": [comparison]}, {"processor": "two cores"}, ["loading"])
    assert "`python -m benchmarks loading`" in page
    assert "| load clips | 2.00 |  | 500 ms (20 clips/s) | 1.00 s | 1 |" in page
    assert "- processor: two cores" in page
    barred = [
        Comparison("load batch, store / torchvision v2", (1.0,), (reference_sec,)) for reference_sec in (1.7, 1.5)
    ]
    page = markdown({"loading": barred}, {}, [])
    assert "| 1.70 | 1.60 met |" in page and "| 1.50 | 1.60 missed |" in page


def test_an_unknown_benchmark_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["decoding"])
    assert ended.value.code == 2
    assert f"known: {', '.join(NAMES)}" in capsys.readouterr().err


def test_help_imports_no_benchmark() -> None:
    program = "import sys; sys.argv = ['benchmarks', '--help']\nimport runpy\ntry: runpy.run_module('benchmarks')\n"
    program += "except SystemExit: pass\nassert 'torch' not in sys.modules and 'cv2' not in sys.modules"
    root = Path(__file__).resolve().parents[2]
    subprocess.run([sys.executable, "-c", program], cwd=root, check=True, capture_output=True)


@pytest.mark.parametrize(
    ("library", "arch"), [("torchvision", "resnet18"), ("torchvision", "mvit_v2_s"), ("timm", "inception_v3")]
)
def test_ours_has_as_many_parameters_as_the_network_it_is_compared_with(library: str, arch: str) -> None:
    shape = {**zoo.TORCHVISION, **zoo.TIMM}[arch]
    with torch.device("meta"):
        models = zoo.make_model(f"{arch}.avg", "clip", shape), zoo.theirs(library, arch)
    ours, reference = (sum(parameter.numel() for parameter in model.parameters()) for model in models)
    assert ours == reference


def test_the_outs_made_by_hand_are_those_of_the_graph() -> None:
    graph = yaml.safe_load((REPOSITORY / "dvc.yaml").read_text())["stages"]
    for name, files in scale.LATER_OUTS.items():
        stage, _, key = name.partition("@")
        described = graph[stage].get("do", graph[stage])
        listed = [out for kind in ("outs", "metrics", "plots") for out in described.get(kind, [])]
        wanted = {(next(iter(out)) if isinstance(out, dict) else out).replace("${key}", key) for out in listed}
        assert {file.removesuffix("/disabled") for file in files} == wanted, name
    later = {stage for stage in graph if stage not in scale.STAGES} - {"train"}
    assert later | {f"train@{key}" for key in graph["train"]["foreach"]} == set(scale.LATER_OUTS)


def test_a_spent_budget_leaves_the_forward_passes_as_we_lay_them_out() -> None:
    costs = zoo.measure_cost("r3d_mini.avg", (3, 16, 32, 32), 10**9, "clip", share_sec=0)
    assert [cost.precision for cost in costs] == ["fp32", "bf16"]
    for cost in costs:
        ((key, sec),) = cost.sec.items()
        assert key == ("forward", "chosen")
        assert cost.flops == 2e9 / sec
        assert cost.cells[4:8] == ("-", f"{1000 * sec:,.1f} ms", "-", "-")
        assert len(cost.cells) == len(cost.header)


def test_a_page_has_a_table_for_each_kind_of_row() -> None:
    cost = zoo.Cost("x.avg", (3, 4, 8, 8), 2 * 10**9, "bf16", {("forward", "contiguous"): 0.02}, 4e11)
    page = markdown({"zoo": [Comparison("same", (1.0, 1.0), (2.0, 2.0)), cost]}, {}, ["zoo"])
    assert "| same | 2.00 |  | 1.00 s | 2.00 s | 2 |" in page
    assert "| x.avg | 3x4x8x8 | 2.00 | bf16 | 20.0 ms | - | - | - | 200 | 50% |" in page
