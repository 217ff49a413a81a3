"""The small table and the warnings are views of metrics.json."""

from kineflow.evaluation.summary import baseline_warnings, fusion_parts, fusion_sentence, missed_most, summary_rows


def metrics(model, metadata, hof, *, test=None):
    def value(mean):
        return {"video_top1_acc": {"mean": mean, "std": 0.01, "folds": [mean, mean]}}

    return {
        "task": "clip",
        "labels": "exclusive",
        "classes": ["a", "b"],
        "cv": {"rgb": value(model)},
        "test": test,
        "baselines": {"majority": value(0.5), "metadata": value(metadata), "hof": value(hof)},
    }


def test_rows_ready_to_print():
    found = metrics(0.9, 0.5, 0.7, test={"rgb": {"video_top1_acc": 0.85}})
    found["baselines"]["hof"]["video_top1_acc"]["test"] = 0.6
    rows = summary_rows(found)
    assert [row.cells for row in rows] == [
        ("rgb", "0.900 ± 0.010", "0.850"),
        ("majority", "0.500 ± 0.010", "-"),
        ("metadata", "0.500 ± 0.010", "-"),
        ("hof", "0.700 ± 0.010", "0.600"),
    ]
    assert [row.is_baseline for row in rows] == [False, True, True, True]
    assert summary_rows(metrics(0.9, 0.5, 0.7))[0].test is None


def test_a_score_that_could_not_be_computed_is_a_dash():
    found = metrics(0.9, 0.5, 0.7)
    found["cv"]["rgb"]["video_top1_acc"] = {"mean": None, "std": None, "folds": [None, None]}
    assert summary_rows(found)[0].cells == ("rgb", "-", "-")
    assert baseline_warnings(found, "rgb") == []


def test_baselines_that_are_not_beaten_are_named():
    assert baseline_warnings(metrics(0.9, 0.6, 0.7), "rgb") == []
    (sentence,) = baseline_warnings(metrics(0.7, 0.6, 0.7), "rgb")
    assert sentence.startswith("The baseline hof scores 0.700 and the released rgb 0.700")
    (leak,) = baseline_warnings(metrics(0.9, 0.8, 0.7), "rgb")
    assert leak.startswith("Metadata alone score 0.800, the class counts 0.500")


def fused(**without):
    found = metrics(0.8, 0.5, 0.7)
    for name, score in {"flow": 0.9, "fv": 0.6, "fusion": 0.95}.items():
        found["cv"][name] = {"video_top1_acc": {"mean": score, "std": 0.0, "folds": [score, score]}}
    streams = {
        name: {"weight": 0.25 * (i + 1), "folds": [0.1, 0.3], "without": {"video_top1_acc": {"mean": score}}}
        for i, (name, score) in enumerate(without.items())
    }
    return found | {"fusion": {"rule": "validation", "streams": streams}}


def test_the_stream_whose_absence_costs_most_is_named():
    found = fused(rgb=0.95, flow=0.85, fv=0.9)
    rgb, flow, _ = fusion_parts(found)
    assert (flow.weight, flow.least, flow.most, flow.alone, flow.without) == (0.5, 0.1, 0.3, 0.9, 0.85)
    assert (rgb.lost, round(flow.lost, 6)) == (0.0, 0.1)
    assert missed_most(fusion_parts(found)) == ["flow"]
    assert fusion_sentence(found) == (
        "fusion (validation) by video_top1_acc: rgb 0.25 (without it 0.950), flow 0.50 (without it 0.850), "
        "fv 0.75 (without it 0.900); most is lost without flow"
    )


def test_no_stream_is_missed_where_nothing_is_lost_and_equals_share():
    assert missed_most(fusion_parts(fused(rgb=0.95, flow=0.96))) == []
    assert fusion_sentence(fused(rgb=0.95, flow=None)).endswith(
        "flow 0.50 (without it -); nothing is lost without any one"
    )
    assert missed_most(fusion_parts(fused(rgb=0.9, flow=0.9))) == ["rgb", "flow"]
    assert fusion_parts(metrics(0.9, 0.5, 0.7) | {"fusion": None}) == []
