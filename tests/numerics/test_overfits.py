"""Every temporal pooling can learn eight clips of the sample by heart: nothing on the way to its loss is cut."""

import pytest
import torch

from kineflow.data.dataset import ClipDataset
from kineflow.models.registry import create_model, find_model
from kineflow.models.zoo import BACKBONES, POOLINGS
from kineflow.sample.spec import SampleSpec, plan_videos
from kineflow.training.loop import fit
from kineflow.training.objectives import Classification
from kineflow.training.recipe import Recipe
from tests.sample_clips import painted, preprocessing

NUM_CLIPS = 8
EVERY_TIME = ("avg", "bert", "lstm")  # the others by `make soak`
SMALL = {"hidden_dim": 32, "representation_dim": 32, "fc_dim": 32, "inner_channels": 16, "num_filters": 16}
SMALL_BACKBONES = ("resnet10_tiny", "r3d_mini")
RECIPE = Recipe(
    epochs=120,
    batch_size=NUM_CLIPS,
    optimizer="adamw",
    lr=0.003,
    weight_decay=0.0,
    schedule="cosine",
    warmup_fraction=0.1,
    label_smoothing=0.0,
    grad_clip_norm=2.0,
    ema_decay=None,
    eval_every=40,
    select="last",
    seed=0,
    precision="fp32",
    threads=1,
)


def cases() -> list[object]:
    """Every pooling behind a small backbone, or behind the first that has it, where no small one does."""
    found = []
    for pooling in POOLINGS:
        having = [spec.name for spec in BACKBONES if pooling.name in spec.poolings and "clip" in spec.tasks]
        backbone = next((name for name in SMALL_BACKBONES if name in having), having[0])
        soak = [] if pooling.name in EVERY_TIME else [pytest.mark.soak]
        found.append(pytest.param(f"{backbone}.{pooling.name}", id=pooling.name, marks=soak))
    return found


def eight_clips(num_frames: int, side_px: int) -> ClipDataset:
    """Of eight scenes and all six behaviours: the two clips of one scene may share a still."""
    spec = SampleSpec(seed=0, num_groups=2, clips_per_class_per_group=2, clip_sec=1.0, size_px=48)
    by_scene: dict[str, list[str]] = {}
    videos = {video.name: video for video in plan_videos(spec) if not video.is_long}
    for video in videos.values():
        by_scene.setdefault(video.scene_key, []).append(video.name)
    ordered = [sorted(names, key=lambda name: videos[name].bouts[0].behaviour) for _, names in sorted(by_scene.items())]
    chosen = [videos[names[scene % 2]] for scene, names in enumerate(ordered)][:NUM_CLIPS]
    return painted(spec, chosen, preprocessing(num_frames=num_frames, side_px=side_px, subtract_background=False))


@pytest.mark.parametrize("name", cases())
def test_eight_clips_are_learned_by_heart(name: str) -> None:
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    clips = eight_clips(num_frames=32 if name.startswith("slowfast") else 8, side_px=32)
    options = {key: SMALL.get(key, value) for key, value in find_model(name).options.items()}
    options |= {key: value for key, value in {"num_steps": 8, "bert_dropout": 0.1}.items() if key in options}
    torch.manual_seed(0)
    model = create_model(name, num_classes=6, in_channels=3, task="clip", options=options)
    assert len(clips) == NUM_CLIPS and len({item.target for item in clips.items}) >= 4
    curves = fit(model, Classification("exclusive"), clips, clips, RECIPE, device=torch.device("cpu")).curves
    torch.set_num_threads(num_threads)
    assert curves[-1].val_metric == 1.0, [curve.val_metric for curve in curves]  # accuracy on these very clips
