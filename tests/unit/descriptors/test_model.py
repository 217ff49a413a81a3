"""The classifier as a whole on clips that two patterns make up."""

import numpy as np
import pytest

from kineflow.descriptors import model
from kineflow.descriptors.local import LocalDescriptors
from kineflow.descriptors.model import FisherRecipe, fit_model, load_model, save_model
from kineflow.errors import DataError

RECIPE = FisherRecipe(
    channels=("hof", "mbh"), num_components=4, num_gaussians=3, svm_c=10.0, flip=False, class_weights="none", seed=0
)
PATTERNS = np.random.default_rng(7).random((3, 3, 2, 2, 4, 8)).astype(np.float32)


def clip(label, seed):
    """Thirty descriptors of the pattern of a class and thirty of a pattern that all show."""
    rng = np.random.default_rng(seed)
    which = np.repeat([label, 2], 30)
    shares = PATTERNS[which] * rng.uniform(0.7, 1.3, (60, 3, 2, 2, 4, 8)).astype(np.float32)
    return LocalDescriptors(shares, rng.uniform(-0.5, 0.5, (60, 3)).astype(np.float32))


TRUTH = np.arange(24) % 2
CLIPS = [clip(label, seed) for seed, label in enumerate(TRUTH)]
GROUPS = [f"g{i // 6}" for i in range(24)]


def fitted(recipe=RECIPE, labels="exclusive", truth=TRUTH):
    return fit_model(CLIPS.__getitem__, np.eye(2)[truth], GROUPS, recipe, labels)


@pytest.mark.parametrize("labels", ["exclusive", "independent"])
def test_new_clips_are_told_apart_with_probabilities(labels):
    found = fitted(labels=labels)
    probs = np.stack([found.model.probs(clip(label, 100 + label), labels) for label in (0, 1)])
    assert (probs.argmax(axis=1) == [0, 1]).all() and (np.diag(probs) > 0.8).all()
    if labels == "exclusive":
        assert probs.sum(axis=1) == pytest.approx([1, 1])
    assert found.num_descriptors == 60


def test_inner_margins_come_from_other_groups():
    """Labels that hold within groups only: whoever has seen the group knows them, whoever has not cannot."""
    by_group = np.array([i // 6 % 2 for i in range(24)])
    marks = np.random.default_rng(3).random((4, 3, 2, 2, 4, 8)).astype(np.float32)
    clips = [LocalDescriptors(clips.shares_N * marks[i // 6], clips.place_N3) for i, clips in enumerate(CLIPS)]
    found = fit_model(clips.__getitem__, np.eye(2)[by_group], GROUPS, RECIPE, "exclusive")
    seen = np.stack([found.model.probs(c, "exclusive") for c in clips])
    assert (seen.argmax(axis=1) == by_group).all()
    assert found.inner_margins_NK is not None
    assert (found.inner_margins_NK.argmax(axis=1) == by_group).mean() < 0.8
    one_group = fit_model(CLIPS.__getitem__, np.eye(2)[TRUTH], ["g"] * 24, RECIPE, "exclusive")
    assert one_group.inner_margins_NK is None and (one_group.model.calibration.slope_K == 1).all()


def test_a_clip_and_its_mirror_image_are_judged_alike_with_flips():
    flips = FisherRecipe(**{**vars(RECIPE), "flip": True})
    found, plain = fitted(flips).model, fitted().model
    new = clip(1, 200)
    assert found.probs(new, "exclusive") == pytest.approx(found.probs(new.mirrored(), "exclusive"), abs=1e-6)
    assert plain.probs(new, "exclusive") != pytest.approx(plain.probs(new.mirrored(), "exclusive"), abs=1e-3)


def test_saved_and_loaded_it_says_the_same_and_is_the_same_to_the_byte(tmp_path):
    found = fitted().model
    save_model(tmp_path / "a.safetensors", found)
    save_model(tmp_path / "b.safetensors", fitted().model)
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    loaded = load_model(tmp_path / "a.safetensors", flip=False)
    assert (loaded.probs(CLIPS[0], "exclusive") == found.probs(CLIPS[0], "exclusive")).all()
    assert loaded.num_parameters == found.num_parameters == sum(a.size for a in loaded.arrays().values())


def test_sizes_by_hand():
    found = fitted().model
    # hof: centre 96, axes 4 x 96, 3 weights, means and variances 3 x 7, machines 2 x 42 and 2; mbh likewise of 192
    hof, mbh = (size + 4 * size + 3 + 2 * 21 + 2 * 42 + 2 for size in (96, 192))
    assert found.num_parameters == hof + mbh + 4
    assert found.num_macs(10) == 10 * (4 * 96 + 4 * 21) + 84 + 10 * (4 * 192 + 4 * 21) + 84


def test_what_is_no_model_is_refused(tmp_path):
    path = tmp_path / "model.safetensors"
    for content in (None, b"what is this"):
        if content:
            path.write_bytes(content)
        with pytest.raises(DataError, match="holds no Fisher vector model"):
            load_model(path, flip=False)


def test_memory_is_bounded_by_sampling(monkeypatch):
    monkeypatch.setattr(model, "MAX_CODEBOOK_DESCRIPTORS", 240)
    seen = []
    whole = model.fit_codebook
    monkeypatch.setattr(model, "fit_codebook", lambda d, p, **more: seen.append(len(d)) or whole(d, p, **more))
    fitted()
    assert seen == [240, 240]  # ten of each clip
