"""Every shipped preset is a whole, valid params file; params.yaml is one of them as shipped."""

import re
import shlex
from pathlib import Path

import pytest
import yaml

from kineflow import params
from kineflow.errors import ParamsError
from kineflow.evaluation import metrics
from kineflow.models.registry import find_model
from kineflow.params import Withheld, load_params, only, parse_params
from kineflow.setup.presets import use_preset

REPOSITORY = Path(__file__).resolve().parents[2]
PRESETS = sorted((REPOSITORY / "params").glob("*.yaml"))


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_preset_loads(path):
    assert load_params(path).streams.enabled


def commands_that_use_presets() -> list[str]:
    blocks = re.findall(r"^```sh\n(.*?)^```$", (REPOSITORY / "docs/how-to/theses.md").read_text(), re.M | re.S)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [line for line in lines if line.startswith("kineflow use ")]


@pytest.mark.parametrize("command", commands_that_use_presets())
def test_the_how_to_writes_valid_params(command, tmp_path, monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    _, _, name, *rest = shlex.split(command)
    changes = [word for word in rest if word not in ("--set", "--force")]
    overrides = dict(change.split("=", maxsplit=1) for change in changes)
    params = load_params(use_preset(name, tmp_path / "params.yaml", overrides))
    model = params.streams.rgb.model
    assert set(params.streams.rgb.options) <= set(find_model(model).options)


def sample() -> dict:
    return yaml.safe_load((REPOSITORY / "params" / "sample.yaml").read_text())


NEGATIVES = {"label": None, "ratio": 1.0, "within": [], "min_distance_sec": 0.0, "redraw": False}


@pytest.mark.parametrize(
    ("section", "change", "message"),
    [
        ("train", {"batchsize": 3}, "train.batchsize: unknown key"),
        ("validation", {"str": 1}, "validation.str: unknown key"),
        ("validation", {"severity": {"int": "halt"}}, "validation.severity.int: input should be 'stop' or 'warn'"),
        ("train", {"batch_size": "12"}, "train.batch_size: input should be a valid integer, or 'auto' (given: '12')"),
        (
            "train",
            {"optimizer": "lion"},
            "train.optimizer: input should be 'sgd', 'adam', 'adamw' or 'swats' (given: 'lion')",
        ),
        ("frames", {"short_side_px": 64}, "frames: give either height_px and width_px, or short_side_px"),
        ("splits", {"kind": "official"}, "splits: kind: official and test: official go together"),
        ("clips", {"window_sec": 2.0}, "clips.window_sec is for task frame"),
        ("clips", {"overlap": "keep"}, "promotion.metric: task clip with independent labels has video_mAP, "),
        (
            "clips",
            {"from": "events", "window_sec": 1.0, "negatives": NEGATIVES},
            "negatives.label is null with overlap",
        ),
        ("clips", {"stride_sec": 1.0}, "clips: stride_sec needs a window_sec"),
        ("splits", {"kind": "file"}, "splits: kind: file and test: file go together"),
        ("splits", {"test_names": ["a"]}, "splits: test: named and test_names go together"),
        ("flow", {"method": "raft_small"}, "flow: method raft_small needs weights"),
        ("flow", {"weights": "raft.pth"}, "flow: weights are for raft_small and raft_large"),
        ("pose", {"weights": "people.pth"}, "pose: weights are for source: keypointrcnn; write null for files"),
        ("pose", {"source": "keypointrcnn", "path": "keypoints"}, "pose: path is for source: files"),
        ("pose", {"limbs": [["nose", "spine", "tail"]]}, "pose.limbs.0: list should have at most 2 items, not 3"),
        ("train", {"optimizer": None}, "or 'swats' (given: null)"),
        ("train", {"weight_decay": "1e-3"}, "(given: '1e-3'); YAML takes 1e-3 for text, so write 1.0e-3"),
        ("train", {"weight_decay": "2.5E4"}, "; YAML takes 2.5E4 for text, so write 2.5e+4"),
        ("train", {"weight_decay": "0.05"}, "(given: '0.05'); write 0.05 without quotes"),
        ("train", {"augment": True}, "train.augment: input should be keys of its own, indented below it (given: true)"),
        ("train", {"negative_ratio": 3.0}, "params.yaml: train.negative_ratio needs clips.negatives"),
        ("pose", {"line_width": 0.0}, "pose.line_width: input should be greater than 0"),
        ("train", {"crops": "ten"}, "train: crops: ten wants crop_scale given"),
        ("train", {"crops": "mirrored"}, "train: crops: mirrored judges mirror images"),
        ("train", {"crop_scale": 0.875}, "train: crops: whole wants crop_scale null"),
        ("train", {"num_views": "all"}, "train.num_views: all is for task clip, with sampling: dense in every"),
        ("train", {"num_views": 0}, "train.num_views"),
        ("release", {"stream": "depth"}, "release.stream: input should be"),
    ],
)
def test_wrong_values_are_refused_by_key(section, change, message):
    values = sample()
    values[section] |= change
    with pytest.raises(ParamsError) as caught:
        parse_params(values, where="params.yaml")
    assert message in str(caught.value)


SELF_SUPERVISION = {
    "direction_weight": 0.0,
    "tracking_weight": 0.0,
    "patch_fraction": 0.33,
    "num_past": 3,
    "gap": 4,
    "branch_after": "stages.0",
    "pretrain_epochs": 0,
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({}, "streams.rgb.self_supervision: direction_weight, tracking_weight and pretrain_epochs are all 0"),
        ({"pretrain_epochs": 2, "branch_after": ""}, "branch_after: string should have at least 1 character"),
    ],
)
def test_self_supervision_asks_for_something(change, message):
    values = sample()
    values["streams"]["rgb"]["self_supervision"] = SELF_SUPERVISION | change
    with pytest.raises(ParamsError, match=message):
        parse_params(values, where="params.yaml")
    values["streams"]["rgb"]["self_supervision"] = SELF_SUPERVISION | {"pretrain_epochs": 2}
    parse_params(values, where="params.yaml")


def test_a_seed_is_one_that_every_library_takes():
    parse_params(sample() | {"seed": 2**32 - 1}, where="params.yaml")
    with pytest.raises(ParamsError, match=f"seed: input should be less than {2**32}"):
        parse_params(sample() | {"seed": 2**32}, where="params.yaml")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "boxes"}, "kind: boxes wants path given"),
        ({"path": "boxes.csv"}, "kind: full wants path null"),
        ({"kind": "boxes", "path": "boxes.csv", "side_px": 64}, "kind: boxes wants side_px null"),
        ({"kind": "pose", "path": "pose"}, "kind: pose wants bodypart given"),
        ({"kind": "boxes", "path": "s3://bucket/boxes.csv"}, "path must be a local file or folder"),
        (
            {"kind": "pose", "path": "p", "bodypart": "b", "side_px": 9, "min_likelihood": 0.5, "smooth_frames": 4},
            "smooth_frames must be odd",
        ),
    ],
)
def test_regions_of_interest_take_the_keys_of_their_kind(change, message):
    values = sample()
    values["frames"]["roi"] |= change
    with pytest.raises(ParamsError, match=rf"frames\.roi: {message}"):
        parse_params(values, where="params.yaml")


@pytest.mark.parametrize(
    ("change", "written"),
    [
        ({"position": "end"}, "position is for task clip; .* write centre"),
        ({"margin_sec": 3.0}, "margin_sec is for task clip; .* write 0.0"),
        ({"classes": ["rest"]}, "classes is for task clip; .* write null"),
    ],
)
def test_task_frame_refuses_what_it_would_not_look_at(change, written):
    values = yaml.safe_load(Path("params/sample_frames.yaml").read_text())
    values["clips"] |= change
    with pytest.raises(ParamsError, match=rf"clips\.{written}"):
        parse_params(values, where="params.yaml")


@pytest.mark.parametrize(
    ("stream", "pose", "message"),
    [
        ({}, {}, "streams.pose.enabled with pose.source: files needs pose.path"),
        ({}, {"source": "keypointrcnn"}, "streams.pose.enabled with pose.source: keypointrcnn needs pose.weights"),
        ({"subtract_background": True}, {"path": "keypoints"}, "pose.subtract_background is for rgb"),
        ({"model": "embedding.lstm"}, {"path": "keypoints"}, "pose.model: embedding.* is for rgb"),
    ],
)
def test_the_pose_stream_needs_its_keypoints(stream, pose, message):
    values = sample()
    values["streams"]["pose"] |= {"enabled": True} | stream
    values["pose"] |= pose
    with pytest.raises(ParamsError) as caught:
        parse_params(values, where="params.yaml")
    assert message in str(caught.value)
    good = sample()
    good["streams"]["pose"]["enabled"], good["pose"]["path"] = True, "keypoints"
    assert parse_params(good, where="params.yaml").streams.enabled == ("rgb", "flow", "pose")


FINETUNE = {
    "head_epochs": 1,
    "head_optimizer": "adamw",
    "head_lr": 0.001,
    "top_blocks": 2,
    "top_fraction": None,
    "blocks_lr_factor": 0.1,
    "lr_decay_per_block": 1.0,
}


@pytest.mark.parametrize(
    ("stream", "finetune", "message"),
    [
        ({"weights": None}, {}, "streams.rgb: finetune needs weights to start from"),
        ({}, {"top_fraction": 0.5}, "finetune: give either top_blocks or top_fraction"),
        ({}, {"top_blocks": None}, "finetune: give either top_blocks or top_fraction"),
        ({"epochs": 1}, {}, "streams.rgb: finetune.head_epochs are some of the 1 epochs, and must be fewer"),
        ({"epochs": 40}, {"head_epochs": 30}, "streams.rgb.finetune.head_epochs must be fewer than distill.epochs too"),
        ({"short_clips": "pad"}, {}, "streams.rgb: short_clips: pad needs sampling: dense"),
    ],
)
def test_a_stream_is_finetuned_from_weights_in_some_of_its_epochs(stream, finetune, message):
    values = sample()
    values["streams"]["rgb"] |= {"weights": "pretrained", "finetune": FINETUNE | finetune} | stream
    with pytest.raises(ParamsError) as caught:
        parse_params(values, where="params.yaml")
    assert message in str(caught.value)
    values["streams"]["rgb"] |= {"weights": "a.pt", "epochs": 30, "finetune": FINETUNE, "short_clips": "loop"}
    assert parse_params(values, where="params.yaml").streams.rgb.finetune is not None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"crop_scales": [1.0, 0.875]}, "train.augment: give either crop_scale_min or crop_scales, and null"),
        ({"crop_scale_min": None}, "train.augment: give either crop_scale_min or crop_scales"),
        ({"crop_scale_min": None, "crop_scales": [0.75, 1.0]}, "train.augment: crop_scales must fall"),
        ({"crop_scale_min": None, "crop_scales": []}, "train.augment.crop_scales: list should have at least 1 item"),
        ({"hue": 0.6}, "train.augment.hue: input should be less than or equal to 0.5"),
        ({"mixup": -0.2}, "train.augment.mixup: input should be greater than or equal to 0"),
    ],
)
def test_ranges_of_augmentation_are_held(change, message):
    values = sample()
    values["train"]["augment"] |= change
    with pytest.raises(ParamsError) as caught:
        parse_params(values, where="params.yaml")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"streams__fv__channels": ["hof", "hof"]}, "streams.fv: channels names one twice"),
        ({"streams__fv__scales": []}, "streams.fv.scales: list should have at least 1 item"),
        ({"streams__fv__window_sec": 1.0}, "streams.fv.window_sec is for task frame"),
        ({"distill__teacher": "fv"}, "distill.feature_weight must be 0 for teacher: fv, which has no features"),
        ({"distill__prob_weight": 1.0}, "distill.prob_weight is for teacher: fv; write 0 for flow"),
        (
            {"streams__fv__enabled": False, "distill__teacher": "fv"},
            "distill.enabled needs streams.rgb and streams.fv enabled",
        ),
    ],
)
def test_fisher_vectors_and_their_student_have_their_own_keys(change, message):
    values = sample()
    for key, value in {"streams__fv__enabled": True, **change}.items():
        *parents, last = key.split("__")
        section = values
        for parent in parents:
            section = section[parent]
        section[last] = value
    with pytest.raises(ParamsError) as caught:
        parse_params(values, where="params.yaml")
    assert message in str(caught.value)


def test_differences_are_of_rgb_frames_that_keep_their_background():
    values = sample()
    values["streams"]["rgb"]["input"] = "difference"
    with pytest.raises(ParamsError, match=r"streams\.rgb\.input: difference leaves no background"):
        parse_params(values, where="params.yaml")
    values["streams"]["rgb"]["subtract_background"] = False
    assert parse_params(values, where="params.yaml").streams.rgb.input == "difference"
    values["streams"]["rgb"]["num_frames"] = 1
    with pytest.raises(ParamsError, match=r"streams\.rgb\.input: difference needs a num_frames above 1"):
        parse_params(values, where="params.yaml")
    values["streams"]["flow"]["input"] = "difference"
    with pytest.raises(ParamsError, match=r"streams: flow\.input: difference is for rgb"):
        parse_params(values, where="params.yaml")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schedule": "plateau"}, "train.schedule: plateau watches validation clips, which a refit has none of"),
        ({"early_stop": 5, "select": "last"}, "train.early_stop needs train.select: best"),
        (
            {"watch": "loss", "watch_classes": ["rest"]},
            "train: watch_classes is for means over classes, not",
        ),
        ({"watch": "macro_f1", "watch_classes": []}, r"train.watch_classes.*list should have at least 1 item"),
        ({"betas": [0.9, 1.0]}, r"train.betas.1.*input should be less than 1"),
    ],
)
def test_what_watches_validation_clips_needs_them(change, message):
    values = sample()
    values["release"]["form"] = "refit"
    values["train"] |= change
    with pytest.raises(ParamsError, match=message):
        parse_params(values, where="params.yaml")


@pytest.mark.parametrize("metric", ["accuracy", "top1_top3"])
def test_the_best_of_several_labels_is_not_watched(metric):
    values = yaml.safe_load((REPOSITORY / "params" / "sample_frames.yaml").read_text())
    values["train"]["watch"] = metric
    with pytest.raises(ParamsError, match=rf"train\.watch: {metric} is for classes that exclude each other"):
        parse_params(values, where="params.yaml")
    values["clips"]["frame_labels"] = "exclusive"
    assert parse_params(values, where="params.yaml").train.watch == metric


def test_flow_is_needed_by_fisher_vectors_alone():
    values = sample()
    values["streams"]["flow"]["enabled"] = values["distill"]["enabled"] = False
    values["evaluate"]["baselines"], values["release"]["stream"] = [], "rgb"
    assert not parse_params(values, where="params.yaml").needs_flow
    values["streams"]["fv"]["enabled"] = True
    assert parse_params(values, where="params.yaml").needs_flow


def test_a_missing_key_is_named():
    values = sample()
    del values["train"]["batch_size"]
    with pytest.raises(ParamsError, match=r"train\.batch_size: missing"):
        parse_params(values, where="params.yaml")


def test_combinations_that_cannot_be():
    values = sample()
    values["streams"]["flow"]["enabled"] = False
    with pytest.raises(ParamsError, match=r"distill\.enabled needs streams"):
        parse_params(values, where="params.yaml")
    values["distill"]["enabled"] = False
    with pytest.raises(ParamsError, match="fusion needs two enabled streams"):
        parse_params(values, where="params.yaml")
    values["release"]["stream"] = "rgb"
    assert parse_params(values, where="params.yaml").streams.enabled == ("rgb",)


def test_what_a_stage_did_not_declare_is_withheld():
    params = only(parse_params(sample(), where="params.yaml"), ["seed", "streams.rgb"])
    assert params.seed == 0 and params.streams.rgb.enabled
    assert isinstance(params.train, Withheld)
    for read in (lambda: params.train.batch_size, lambda: params.task == "clip", lambda: params.streams.flow.model):
        with pytest.raises(AttributeError, match="not declared in the stage's PARAMS"):
            read()


def test_params_know_the_metrics_of_evaluation():
    assert params.METRICS == metrics.METRICS
