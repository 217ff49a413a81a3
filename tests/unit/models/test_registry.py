import pytest
import torch

from kineflow.errors import ParamsError
from kineflow.models.describe import describe_model
from kineflow.models.registry import create_model, find_model, list_models
from kineflow.models.specs import Task
from kineflow.models.weights import state_dict_sha256


def build(name: str, **changes: object) -> torch.nn.Module:
    arguments: dict[str, object] = {"num_classes": 3, "in_channels": 3, "task": "clip"} | changes
    return create_model(name, **arguments)  # type: ignore[arg-type]


def message(name: str, **changes: object) -> str:
    with pytest.raises(ParamsError) as caught:
        build(name, **changes)
    return str(caught.value)


def test_names_are_unique_and_each_is_found() -> None:
    names = [spec.name for spec in list_models()]
    assert len(set(names)) == len(names)
    assert all(find_model(name).name == name for name in names)


def test_every_model_serves_a_task_and_names_its_source() -> None:
    for spec in list_models():
        assert spec.tasks, spec.name
        assert spec.source, spec.name


def test_the_models_of_the_first_form_are_there() -> None:
    tasks = {spec.name: spec.tasks for spec in list_models()}
    assert {f"resnet18.{pooling}" for pooling in ("none", "avg", "lstm", "bert")} <= set(tasks)
    assert {f"resnet10_tiny.{pooling}" for pooling in ("none", "avg", "lstm", "bert")} <= set(tasks)
    assert tasks["r3d_18.avg"] == ("clip",)
    assert tasks["r3d_tiny.avg"] == tasks["r3d_mini.avg"] == ("clip", "frame")
    assert "frame" in tasks["resnet18.lstm"]
    assert "frame" in tasks["embedding.lstm"]


def test_a_misspelt_name_lists_the_known_ones_nearest_first() -> None:
    text = message("resnet18.brt")
    assert "'resnet18.brt'" in text
    assert "known: resnet18.bert, " in text
    assert "there is no pooling 'brt'" in text
    assert "known: resnet18.avg, " in message("resnt18.avg")
    assert "there is no backbone 'resnt18'" in message("resnt18.avg")


def test_a_name_without_a_pooling_is_explained() -> None:
    assert "a model is named backbone.pooling" in message("resnet18")


def test_a_wrong_combination_is_refused_with_what_fits() -> None:
    text = message("r3d_18.none")
    assert "r3d_18 does not go with the pooling none, only with avg, " in text
    known = text.partition("known: ")[2]
    assert "r3d_18.avg" in known
    assert "r3d_18.none" not in known


def test_r3d_18_refuses_the_frame_task_with_the_reason() -> None:
    text = message("r3d_18.avg", task="frame")
    assert "its strides leave one time step for every 8 frames" in text
    assert "models that do: mc3_18.avg, x3d_s.avg, r3d_mini.avg, r3d_tiny.avg, " in text


def test_average_pooling_of_frames_refuses_the_frame_task() -> None:
    assert "an average over time has one answer for the clip" in message("resnet18.avg", task="frame")


def test_an_unknown_task_is_refused() -> None:
    assert message("resnet18.avg", task="frames") == "unknown task 'frames': known are frame, clip"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"num_classes": 0}, "num_classes must be 1 or more, not 0"),
        ({"in_channels": 0}, "in_channels must be 1 or more, not 0"),
        ({"dropout": 1.0}, "dropout must be at least 0 and below 1, not 1.0"),
        ({"options": {"hiden_dim": 8}}, "has no option 'hiden_dim'; known: hidden_dim, "),
        ({"options": {"hidden_dim": 8.5}}, "option hidden_dim must be int, not 8.5"),
        ({"options": {"num_layers": 0}}, "option num_layers must be 1 or more, not 0"),
        ({"options": {"bidirectional": 1}}, "option bidirectional must be bool, not 1"),
        ({"options": {"lstm_dropout": 1.5}}, "option lstm_dropout must be at least 0 and below 1, not 1.5"),
        ({"options": {"summary": "first"}}, "option summary must be last or mean, not 'first'"),
    ],
)
def test_wrong_numbers_and_options_are_refused_by_name(changes: dict[str, object], says: str) -> None:
    text = message("resnet10_tiny.lstm", **changes)
    assert text.startswith("resnet10_tiny.lstm")
    assert says in text


def test_a_model_without_options_says_so() -> None:
    assert message("r3d_18.avg", options={"width": 8}) == "r3d_18.avg has no option 'width'; known: none"


def test_bert_refuses_heads_that_do_not_divide_the_features() -> None:
    text = message("resnet10_tiny.bert", options={"num_heads": 7})
    assert "cannot divide 64 features among 7 heads" in text


def test_options_reach_the_modules() -> None:
    options = {"hidden_dim": 5, "num_layers": 3, "bidirectional": True, "lstm_dropout": 0.25, "summary": "mean"}
    model = build("resnet10_tiny.lstm", options=options, dropout=0.5)
    assert model.feature_dim == 10
    assert (model.pooling.lstm.num_layers, model.pooling.lstm.dropout) == (3, 0.25)
    assert model.pooling.summary == "mean"
    assert model.head.dropout.p == 0.5
    bert = build("resnet10_tiny.bert", options={"max_steps": 5, "num_blocks": 2, "mask_prob": 0.0})
    assert bert.pooling.positions.shape == (6, 64)
    assert len(bert.pooling.blocks) == 2
    assert build("r3d_mini.avg", options={"width": 4}).feature_dim == 16


def test_dropout_is_off_unless_asked_for() -> None:
    assert build("resnet10_tiny.avg").head.dropout.p == 0


def test_bert_defaults_are_those_of_the_thesis() -> None:
    """Kalfaoglu 2020, 4.2.2: 8 heads, 1 block, PFFN dropout 0.9, mask probability 0.2."""
    options = find_model("resnet18.bert").options
    assert options == {
        "max_steps": 16,
        "num_heads": 8,
        "num_blocks": 1,
        "mask_prob": 0.2,
        "bert_dropout": 0.9,
    }


@pytest.mark.parametrize("task", ["clip", "frame"])
def test_a_seed_fixes_the_weights(task: Task) -> None:
    digests = []
    for seed in (5, 5, 6):
        torch.manual_seed(seed)
        digests.append(state_dict_sha256(build("resnet10_tiny.bert", task=task).state_dict()))
    assert digests[0] == digests[1] != digests[2]


# Kalfaoglu 2020, Table 3.3: 51 classes, 224x224 px, 16 frames; multiply-accumulates per frame.
PUBLISHED = [
    ("resnet18.none", 1, 11.2, 1.82),
    ("resnet18.avg", 16, 11.2, 1.82),
    ("resnet18.lstm", 16, 15.4, 1.83),
    ("resnet18.bert", 16, 14.36, 1.83),
]


@pytest.mark.parametrize(("name", "num_frames", "params_millions", "macs_billions"), PUBLISHED)
def test_parameters_and_macs_are_the_published_ones(
    name: str, num_frames: int, params_millions: float, macs_billions: float
) -> None:
    model = create_model(name, num_classes=51, in_channels=3, task="clip")
    size = describe_model(model, num_frames=num_frames, height_px=224, width_px=224)
    assert size.num_parameters / 1e6 == pytest.approx(params_millions, abs=0.006)
    assert size.macs_as_published / num_frames / 1e9 == pytest.approx(macs_billions, abs=0.006)


def test_r3d_tiny_has_the_size_of_the_small_data_recipe() -> None:
    """Stem 3x5x5 and stages of 32, 64 and 128 on 24 orientation channels, 6 classes: 0.95 M."""
    model = create_model("r3d_tiny.avg", num_classes=6, in_channels=24, task="clip")
    assert sum(parameter.numel() for parameter in model.parameters()) / 1e6 == pytest.approx(0.95, abs=0.01)
