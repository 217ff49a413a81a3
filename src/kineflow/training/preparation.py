"""What a job needs before its first step: its network, its videos, the scale of its flow."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch import nn

from kineflow.data.dataset import ClipDataset, ClipItem, num_reads
from kineflow.data.decoded_cache import DecodedCache
from kineflow.data.open_videos import OpenVideos, plan_cache
from kineflow.data.preprocessing import Preprocessing, estimate_flow_scale
from kineflow.data.readers import StreamStore
from kineflow.models.classifier import VideoClassifier
from kineflow.training.job import Job
from kineflow.training.precision import lay_out
from kineflow.training.recompute import recompute_activations
from kineflow.training.self_supervision.branches import ClassifierWithBranches
from kineflow.training.self_supervision.direction import Kind, reverse_time


def build_network(job: Job, device: torch.device) -> VideoClassifier:
    """The network of `job` as it is before the first step, on `device`."""
    model = lay_out(job.model.build(job.recipe.seed), device, job.recipe.precision).to(device)
    if job.recipe.recompute:
        recompute_activations(model, is_compiled=job.recipe.compile)
    return model


def with_branches(model: VideoClassifier, job: Job, device: torch.device) -> nn.Module:
    """What is trained in place of `model`, and holds it: branches learn with it where the job has some."""
    config = job.self_supervision
    if config is None or not config.has_branches:
        return model
    made = job.preprocessing
    stored: Kind = "flow" if made.stream == "flow" else "image"
    reverse = partial(reverse_time, kind=stored if made.input == "stored" else made.input)
    on_cpu = model.cpu()  # where the branches learn the shapes of the maps
    return ClassifierWithBranches(on_cpu, config, input_CTHW=job.input_CTHW, reverse=reverse).to(device)


def training_videos(job: Job, store: StreamStore, preprocessing: Preprocessing, cache: DecodedCache) -> OpenVideos:
    """The videos of `store` for the whole of `job`, and a plan for the cache by how often each will be read."""
    recipe = job.recipe
    reads: Counter[str] = num_reads(job.train, preprocessing, looks=recipe.epochs)
    reads += num_reads(job.val, preprocessing, looks=recipe.epochs // recipe.eval_every + 1, in_test=True)
    reads += num_reads(job.test, preprocessing, looks=1, in_test=True)
    plan = plan_cache(cache, store, preprocessing, reads)
    return OpenVideos(lambda video_id: store.open(video_id, preprocessing), plan)


def with_flow_scale(preprocessing: Preprocessing, items: Sequence[ClipItem], videos: OpenVideos) -> Preprocessing:
    """The preprocessing with `flow_scale_px` estimated from up to 64 of the training clips."""
    if preprocessing.stream != "flow" or preprocessing.motion_scale == "clip":
        return preprocessing
    unscaled = replace(preprocessing, flow_scale_px=1.0)
    dataset = ClipDataset(items, videos, unscaled)
    chosen = np.linspace(0, len(items) - 1, min(64, len(items))).astype(int)
    scale = estimate_flow_scale(dataset.sample(int(i), epoch=0).clip for i in chosen)
    return replace(preprocessing, flow_scale_px=scale)
