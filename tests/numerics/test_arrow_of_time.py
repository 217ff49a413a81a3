"""The branch for the arrow of time learns it from clips of the sample, and tells it of arenas that it never saw.

The sample has no arrow as a whole: the trajectories of one behaviour of a motion pair are those of the other played
backwards, so of all six behaviours every way to play is as likely as its reverse. One behaviour of each pair that
moves about has an arrow. `make soak` prints the accuracies of both.
"""

from functools import partial

import numpy as np
import pytest
import torch

from kineflow.data.dataset import ClipDataset, collate
from kineflow.data.views import Augment
from kineflow.models.registry import create_model
from kineflow.sample.spec import SampleSpec, plan_videos
from kineflow.training.inputs import model_input
from kineflow.training.loop import fit
from kineflow.training.objectives import Classification
from kineflow.training.recipe import Recipe
from kineflow.training.self_supervision.branches import ClassifierWithBranches
from kineflow.training.self_supervision.config import SelfSupervision
from kineflow.training.self_supervision.direction import reverse_time
from tests.sample_clips import painted, preprocessing

CPU = torch.device("cpu")
ONE_WAY = ("circling_left", "approach")
BOTH_WAYS = ("circling_left", "circling_right", "approach", "retreat")
HELD_OUT = (0, 1)  # arenas
AUGMENT = Augment(crop_scale_min=0.9, brightness=0.2, contrast=0.2, time_jitter=0.2)
BRANCH = SelfSupervision(
    direction_weight=2.0,
    tracking_weight=0.0,
    patch_fraction=0.33,
    num_past=3,
    gap=4,
    branch_after="stages.0",
    pretrain_epochs=0,
)


def recipe(*, epochs: int, seed: int) -> Recipe:
    """That of the preset `sample`, at twice its rate."""
    return Recipe(
        epochs=epochs,
        batch_size=12,
        optimizer="adamw",
        lr=0.004,
        weight_decay=0.05,
        schedule="cosine",
        warmup_fraction=0.1,
        label_smoothing=0.1,
        grad_clip_norm=2.0,
        ema_decay=None,
        eval_every=epochs,
        select="last",
        seed=seed,
        precision="fp32",
        threads=1,
    )


def accuracies(behaviours: tuple[str, ...], *, num_groups: int, epochs: int, seed: int = 0) -> dict[str, float]:
    """By behaviour: of held-out clips played both ways, the share whose way is told; trained beside classification."""
    spec = SampleSpec(
        seed=seed,
        num_groups=num_groups,
        clips_per_class_per_group=8,
        size_px=48,
        long_videos_per_group=0,
        behaviours=behaviours,
    )
    made = preprocessing(num_frames=16, side_px=24)
    videos = plan_videos(spec)
    train_set = painted(spec, [video for video in videos if video.group not in HELD_OUT], made, AUGMENT)
    held_out = painted(spec, [video for video in videos if video.group in HELD_OUT], made)
    torch.manual_seed(seed)
    classifier = create_model("r3d_mini.avg", num_classes=len(behaviours), in_channels=3, task="clip", dropout=0.1)
    reverse = partial(reverse_time, kind="image")
    model = ClassifierWithBranches(classifier, BRANCH, input_CTHW=(3, 16, 24, 24), reverse=reverse)
    objective, given = Classification("exclusive", 0.1), recipe(epochs=epochs, seed=seed)
    model.load_state_dict(fit(model, objective, train_set, held_out, given, device=CPU).state)
    return {name: told(model.eval(), held_out, target) for target, name in enumerate(behaviours)}


def told(model: ClassifierWithBranches, clips: ClipDataset, target: int) -> float:
    samples = [clips.sample(index, epoch=0) for index, item in enumerate(clips.items) if item.target == target]
    clips_BCTHW = model_input(collate(samples), clips.preprocessing, CPU)
    with torch.no_grad():
        right = [model.direction_logits(clips_BCTHW) > 0, model.direction_logits(model.reverse(clips_BCTHW)) < 0]
    return float(torch.cat(right).float().mean())


def test_it_is_learned_from_clips_that_have_one() -> None:
    found = accuracies(ONE_WAY, num_groups=6, epochs=20)
    print(f"arrow of time, held-out arenas: {found}")
    assert np.mean(list(found.values())) > 0.9, found


@pytest.mark.soak
def test_over_seeds_and_none_where_every_clip_is_another_ones_reverse() -> None:
    one_way = [accuracies(ONE_WAY, num_groups=6, epochs=20, seed=seed) for seed in range(3)]
    both_ways = [accuracies(BOTH_WAYS, num_groups=6, epochs=20, seed=seed) for seed in range(3)]
    means = [np.mean([np.mean(list(found.values())) for found in seeds]) for seeds in (one_way, both_ways)]
    print(f"arrow of time, three seeds: {means[0]:.3f}; of clips and their reverses: {means[1]:.3f}")
    assert means[0] > 0.9, one_way
    assert abs(means[1] - 0.5) < 0.1, both_ways
