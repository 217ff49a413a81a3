"""The section `search`: what is refused, with which words; and the shipped spaces against keys, models and options."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from kineflow.data.clips import num_window_frames
from kineflow.errors import ParamsError
from kineflow.experiments.space import draw, make_space
from kineflow.models.registry import find_model
from kineflow.params import Params, as_json, load_params, parse_params
from kineflow.setup.presets import space_values
from kineflow.studies.changed_params import with_changes
from kineflow.studies.search import check_search, with_space
from kineflow.studies.searched_clips import refuse_short_clips

REPOSITORY = Path(__file__).resolve().parents[2]
SPACES = sorted((REPOSITORY / "params" / "search").glob("*.yaml"))
PRESETS_WITH_SPACE = [
    path for path in sorted((REPOSITORY / "params").glob("*.yaml")) if yaml.safe_load(path.read_text())["search"]
]
TCN = {  # as docs/how-to/theses.md changes the preset
    "streams.rgb.model": "embedding.tcn",
    "streams.rgb.options": {"num_layers": 1, "num_filters": 256, "kernel_size": 3, "norm": "batch"},
}
FISH = {  # as it says there too
    "clips.window_sec": 2.9,
    "clips.min_frames": 29,
    "clips.negatives.ratio": 5.0,
}
GRID = {"algorithm": "grid", "num_trials": None}


def sample() -> dict[str, Any]:
    values: dict[str, Any] = yaml.safe_load((REPOSITORY / "params" / "sample.yaml").read_text())
    return values


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"space": {}}, "search: space is empty; name a key and what to try"),
        ({"space": {"a": {"normal": [0, 1]}}}, "search.space.a.normal.[key]: input should be 'choice', 'grid', 'unif"),
        ({"space": {"a": {"choice": [1], "grid": [1]}}}, "space: a wants exactly one of choice, grid, uniform"),
        ({"space": {"a": {"choice": []}}}, "space: a: {choice: []} wants values, each of them once"),
        ({"space": {"a": {"choice": [1, 2, 1]}}}, "{choice: [1, 2, 1]} wants values, each of them once"),
        ({"space": {"a": {"uniform": [0.5, 0.5]}}}, "{uniform: [0.5, 0.5]} is empty; low must be below high"),
        ({"space": {"a": {"uniform": [0.1, "1e-2"]}}}, "YAML takes 1e-4 for text, so write 1.0e-4"),
        ({"space": {"a": {"uniform": [0.1]}}}, "wants two numbers [low, high]"),
        ({"space": {"a": {"loguniform": [0, 1]}}}, "{loguniform: [0, 1]} wants a low above 0"),
        ({"space": {"a": {"int_range": [1, 2.5]}}}, "wants whole numbers [low, high] or [low, high, step]"),
        ({"space": {"a": {"int_range": [4, 8, 0]}}}, "is empty; low must be below high, and a step at least 1"),
        ({"space": {"a": {"uniform": [False, True]}}}, "wants two numbers"),
        ({"algorithm": "grid", "num_trials": None}, "algorithm: grid tries every combination"),
        ({"space": {"a": {"grid": [1]}}}, "algorithm: tpe draws from every key of space; write choice, not grid"),
        ({"num_trials": None}, "num_trials is null for algorithm: grid"),
        ({"algorithm": "pbt"}, "num_generations is a number for algorithm: pbt"),
        ({"algorithm": "pbt", "num_generations": 3}, "prune is null for algorithm: pbt"),
        ({"algorithm": "bayes"}, "search.algorithm: input should be 'grid', 'random', 'tpe' or 'pbt'"),
        ({"prune": {"after_folds": 1, "keep": 1.0}}, "search.prune.keep: input should be less than 1"),
    ],
)
def test_what_is_no_search_is_refused(change: dict[str, Any], message: str) -> None:
    values = sample()
    values["search"] |= change
    with pytest.raises(ParamsError) as caught:
        parse_params(values, where="params.yaml")
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"space": {"streams.rgb.rate": {"grid": [1]}}}, "there is no key 'streams.rgb.rate'; nearest: streams.rgb.l"),
        (
            {"space": {"frames.fps": {"grid": [10.0]}}},
            "frames.fps is settled before training; change it in params.yaml",
        ),
        ({"space": {"clips.window_sec": {"grid": [1.0]}}}, "clips.window_sec is settled before training"),
        ({"space": {"streams.rgb.enabled": {"grid": [True]}}}, "streams.rgb.enabled is settled before training"),
        ({"space": {"streams.flow.lr": {"grid": [0.1]}}}, "streams.flow.lr is of another stream than rgb"),
        ({"space": {"seed": {"grid": [1]}}}, "seed also deals the folds"),
        ({"space": {"train.cache_gb": {"grid": [1.0]}}}, "train.cache_gb says how trainings are run"),
        ({"space": {"train.optimizer": {"grid": ["sgd", "adamm"]}}}, "train.optimizer: adamm: train.optimizer: input"),
        ({"space": {"streams.rgb.lr": {"grid": [0.1, -1]}}}, "streams.rgb.lr: -1: streams.rgb.lr: input should be gr"),
        ({"space": {"streams.rgb.options.a.b": {"grid": [1]}}}, "there is no key 'streams.rgb.options.a.b'"),
        ({"space": {"streams.rgb.model": {"grid": ["r3d_mini.avg", "r3d_mni.avg"]}}}, "unknown model 'r3d_mni.avg'"),
        ({"metric": "video_top5_acc"}, "search.metric: 'video_top5_acc' is none of video_top1_acc, video_macro_f1"),
        ({"stream": "pose"}, "search.stream: pose is not enabled under streams"),
    ],
)
def test_what_cannot_be_searched_is_refused_before_anything_starts(change: dict[str, Any], message: str) -> None:
    values = sample()
    values["search"] |= GRID | {"space": {"streams.rgb.lr": {"grid": [0.1]}}} | change
    params = parse_params(values, where="params.yaml")
    assert params.search is not None
    with pytest.raises(ParamsError) as caught:
        check_search(params, params.search)
    assert message in str(caught.value)


def fish(space: str = "fish_rcnn") -> Params:
    params = load_params(REPOSITORY / "params" / "fish.yaml")
    return with_space(params, space_values(str(REPOSITORY / "params" / "search" / f"{space}.yaml")), where="test")


def test_more_negatives_than_there_are_cannot_be_tried() -> None:
    params = fish()
    assert params.search is not None
    with pytest.raises(ParamsError) as caught:
        check_search(params, params.search)
    assert str(caught.value) == (
        "search.space: train.negative_ratio: 5 is more than clips.negatives.ratio makes, 1 for each event; "
        "set that to 5, build with `dvc repro`, and start again"
    )


@pytest.mark.parametrize(
    ("changes", "lengths", "message"),
    [
        ({}, [15] * 9, "num_frames: 23 wants clips of 23 frames, and most are shorter (15 in the median); try fewer"),
        ({}, [15] * 9, "set clips.window_sec to 2.3 (it is 1.5), build with `dvc repro`, and start again"),
        ({}, [15] * 4 + [29] * 5, None),
        ({}, [15] * 5 + [29] * 4, "streams.rgb.num_frames: 23 wants"),
        ({"streams.rgb.frame_stride": 2}, [29] * 9, "num_frames: 23 wants clips of 45 frames"),  # 0, 2, ... 44
        ({"streams.rgb.frame_stride": 2, "streams.rgb.sampling": "segments"}, [29] * 9, None),
        ({"streams.rgb.sampling": "segments"}, [10, 11], "num_frames: 15 wants clips of 15 frames"),
        (
            {"clips.window_sec": None, "clips.negatives": None},
            [10],
            "try fewer frames, or extract more with frames.fps",
        ),
    ],
)
def test_more_frames_than_clips_have_cannot_be_tried(
    changes: dict[str, Any], lengths: list[int], message: str | None
) -> None:
    params = with_changes(fish("sequence_length"), changes, where="test")
    assert params.search is not None
    if message is None:
        refuse_short_clips(params, params.search, lengths)
        return
    with pytest.raises(ParamsError) as caught:
        refuse_short_clips(params, params.search, lengths)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_every_combination_of_frames_and_stride_has_to_fit() -> None:
    space = {"streams.rgb.num_frames": {"int_range": [4, 8]}, "streams.rgb.frame_stride": {"choice": [1, 2]}}
    params = with_space(fish(), as_json(fish())["search"] | {"space": space, "prune": None}, where="test")
    assert params.search is not None
    refuse_short_clips(params, params.search, [15])
    with pytest.raises(ParamsError, match=r"num_frames: 8, streams.rgb.frame_stride: 2 wants clips of 15 frames"):
        refuse_short_clips(params, params.search, [14])


def test_windows_of_task_frame_have_their_own_length() -> None:
    params = load_params(REPOSITORY / "params" / "sample_frames.yaml")
    space = {"streams.rgb.num_frames": {"grid": [8]}}
    assert params.search is not None
    params = with_space(params, params.search.model_dump() | GRID | {"space": space}, where="test")
    assert params.search is not None
    with pytest.raises(ParamsError, match=r"num_frames is of no use with task frame"):
        check_search(params, params.search)


@pytest.mark.parametrize("path", PRESETS_WITH_SPACE, ids=lambda path: path.stem)
def test_the_space_of_every_preset_can_be_searched(path: Path) -> None:
    params = load_params(path)
    assert params.search is not None
    check_search(params, params.search)


def test_there_are_shipped_spaces() -> None:
    presets = [path.stem for path in PRESETS_WITH_SPACE]
    assert presets == ["sample", "sample_frames", "small_data", "tiny", "ut_interaction"]
    assert [path.stem for path in SPACES] == ["fish_rcnn", "mouse_lstm", "mouse_tcn", "sequence_length"]


@pytest.mark.parametrize("path", SPACES, ids=lambda path: path.stem)
def test_every_shipped_space_can_be_searched_and_names_options_of_its_models(path: Path) -> None:
    preset = {"fish_rcnn": "fish", "mouse_lstm": "mouse", "mouse_tcn": "mouse"}.get(path.stem, "sample")
    params = load_params(REPOSITORY / "params" / f"{preset}.yaml")
    documented = {"mouse_tcn": TCN, "fish_rcnn": FISH}.get(path.stem, {})
    params = with_changes(params, documented, where="test")
    params = with_space(params, space_values(str(path)), where=path.name)
    assert params.search is not None
    check_search(params, params.search)
    if preset == "fish":
        refuse_short_clips(params, params.search, [num_window_frames(2.9, fps=params.frames.fps)] * 9)
    for changes in draw(make_space(params.search.space), num_draws=20, seed=0):
        changed = with_changes(params, changes, where=path.name).streams.rgb
        assert set(changed.options) <= set(find_model(changed.model).options)


def test_spaces_have_the_sizes_of_the_theses() -> None:
    def trials(name: str) -> int:
        values = space_values(str(REPOSITORY / "params" / "search" / f"{name}.yaml"))
        return len(draw(make_space(values["space"]), num_draws=values["num_trials"] or 1, seed=0))

    assert trials("sequence_length") == 4  # 7, 15, 23 and 29 frames
    assert trials("fish_rcnn") == 20 * 4  # figure 5.4: twenty candidates at four lengths
    fish = space_values(str(REPOSITORY / "params" / "search" / "fish_rcnn.yaml"))["space"]  # table 4.4
    assert fish["train.optimizer"] == {"choice": ["sgd", "adam"]}
    assert fish["train.momentum"] == {"choice": [0.5, 0.9, 0.99]}
    assert fish["train.negative_ratio"] == {"choice": [1, 2, 3, 5]}
    assert trials("mouse_lstm") == 3 * 3 * 3  # layers, units, batch sizes; each at one of three lengths
    tcn = space_values(str(REPOSITORY / "params" / "search" / "mouse_tcn.yaml"))["space"]  # 4.3
    assert len(tcn["streams.rgb.options.norm"]["choice"]) == 4 and "weight" in tcn["streams.rgb.options.norm"]["choice"]


def test_a_space_that_is_not_there_is_answered_with_the_known(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match=r"there is no space 'fish'; known: fish_rcnn, mouse_lstm, .*"):
        space_values("fish")
    (tmp_path / "a.yaml").write_text("space: 3\n")
    with pytest.raises(ParamsError, match="a space is a YAML file with a section search"):
        space_values(str(tmp_path / "a.yaml"))
