"""How much of a training is done, by hand."""

import numpy as np
import pytest

from kineflow.descriptors.fit_progress import ENCODE_SEC, READ_SEC, part_seconds, share_done
from kineflow.descriptors.local import LocalDescriptors
from kineflow.descriptors.model import FisherRecipe, fit_model, num_inner_folds


def test_shares_add_up_in_the_order_of_the_parts():
    seconds = {"read": 1.0, "codebooks": 4.0, "encode": 5.0}
    assert share_done(seconds, "read", 0.0) == 0
    assert share_done(seconds, "codebooks", 0.5) == pytest.approx(0.3)
    assert share_done(seconds, "encode", 1.0) == 1


def test_parts_grow_with_what_they_do():
    few = {"num_rows": 10, "num_flows": 300, "num_judged_flows": 60}
    few |= {"num_views": 1, "num_channels": 2, "num_classes": 3, "num_inner_folds": 5}
    seconds = part_seconds(**few)
    assert seconds["read"] == pytest.approx(300 * READ_SEC)
    assert seconds["judge"] == pytest.approx(60 * (READ_SEC + 2 * ENCODE_SEC))
    mirrored = part_seconds(**few | {"num_views": 2})
    assert mirrored["machines"] == pytest.approx(4 * seconds["machines"])  # twice the rows
    assert part_seconds(**few | {"num_inner_folds": 0})["machines"] < seconds["machines"]


def test_a_fit_tells_of_every_part_in_order_and_never_goes_back():
    rng = np.random.default_rng(0)
    clips = [
        LocalDescriptors(rng.random((20, 3, 2, 2, 4, 8), np.float32), rng.random((20, 3), np.float32)) for _ in range(6)
    ]
    recipe = FisherRecipe(("hof", "hog"), 4, 3, svm_c=1.0, flip=False, class_weights="none", seed=0)
    groups = ["a", "a", "b", "b", "c", "c"]
    told = []
    fit_model(clips.__getitem__, np.eye(2)[[0, 1] * 3], groups, recipe, "exclusive", lambda *news: told.append(news))
    seconds = part_seconds(
        num_rows=6, num_flows=60, num_judged_flows=0, num_views=1, num_channels=2, num_classes=2, num_inner_folds=3
    )
    assert num_inner_folds(groups) == 3 and num_inner_folds(["a", "a"]) == 0
    assert list(dict.fromkeys(part for part, _ in told)) == ["read", "codebooks", "encode", "machines"]
    eighths = [share for part, share in told if part == "machines"]  # two channels, each of the whole and three folds
    assert eighths == pytest.approx([number / 8 for number in range(1, 9)])
    shares = [share_done(seconds, part, share) for part, share in told]
    assert shares == sorted(shares) and shares[-1] == pytest.approx(1)
