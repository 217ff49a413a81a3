import pytest
import torch

from kineflow.errors import ParamsError
from kineflow.models.describe import describe_model
from kineflow.models.registry import create_model, find_model, list_models
from kineflow.models.specs import Task
from kineflow.models.weights import state_dict_sha256
from kineflow.models.zoo import BACKBONES, POOLINGS


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
    assert (
        "r3d_18 does not go with the pooling none, because it looks at one frame, which is no clip; it goes with avg, "
        in text
    )
    known = text.partition("known: ")[2]
    assert "r3d_18.avg" in known
    assert "r3d_18.none" not in known


def test_every_wrong_combination_is_refused_with_a_reason() -> None:
    refused = [
        f"{backbone.name}.{pooling.name}"
        for backbone in BACKBONES
        for pooling in POOLINGS
        if pooling.name not in backbone.poolings
    ]
    assert len(refused) + len(list_models()) == len(BACKBONES) * len(POOLINGS)
    for name in refused:
        with pytest.raises(ParamsError, match=r"because \w[^;]+; it goes with "):
            find_model(name)


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


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("concat", {"num_steps": 0}, "option num_steps must be 1 or more, not 0"),
        ("nonlocal_avg", {"inner_channels": 1.5}, "option inner_channels must be int, not 1.5"),
        ("lstm", {"hidden_dim": 10, "halving": True, "num_layers": 3}, "cannot halve hidden_dim 10 2 times"),
        ("gru", {"summary": "first"}, "option summary must be last or mean, not 'first'"),
        ("tcn", {"norm": "group"}, "option norm must be batch or layer or weight or none, not 'group'"),
        ("tcn", {"causal": False, "kernel_size": 4}, "needs an odd kernel_size, not 4"),
        ("tcn_ed", {"kernel_size": 2}, "needs an odd kernel_size, not 2"),
        ("transformer", {"num_heads": 5}, "cannot divide 64 features among 5 heads"),
        ("bert", {"summary": "last"}, "option summary must be token or mean, not 'last'"),
    ],
)
def test_options_of_poolings_are_checked(name: str, options: dict[str, object], says: str) -> None:
    assert says in message(f"resnet10_tiny.{name}", options=options)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("resnet18.concat", "a concatenation has one answer for the clip"),
        ("resnet18.nonlocal_avg", "an average over time has one answer for the clip"),
    ],
)
def test_poolings_without_frames_say_why(name: str, says: str) -> None:
    assert says in message(name, task="frame")


def test_maps_are_not_pooled_where_there_are_none() -> None:
    assert "embedding does not go with the pooling conv_gru" in message("embedding.conv_gru")
    assert "resnet18_triple does not go with the pooling nonlocal_avg" in message("resnet18_triple.nonlocal_avg")


def test_clips_of_other_lengths_are_refused_by_concatenation() -> None:
    model = build("resnet10_tiny.concat", options={"num_steps": 4})
    with pytest.raises(
        ParamsError, match="the clip has 3 steps but concatenation was made for 4: set the model option"
    ):
        model(torch.zeros(1, 3, 3, 16, 16))


def test_messages_show_the_nearest_names_alone() -> None:
    assert message("resnet19.avg").count(", ") == 8
    assert message("resnet19.avg").endswith(" more in `kineflow models`")


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
        "summary": "token",
        "normal_init": False,
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
