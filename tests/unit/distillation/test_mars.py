"""A teacher looks at what its student looks at: the same views, mixed in the same way."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from kineflow.data.dataset import collate
from kineflow.data.views import Augment
from kineflow.distillation.mars import Mars
from kineflow.models.classifier import Prediction
from kineflow.training.bundle import Member
from kineflow.training.inputs import model_input
from kineflow.training.model_config import ModelConfig
from kineflow.training.objectives import Classification
from tests.unit.training.test_loop import CPU, PREPROCESSING, moving_left_or_right, small_model

MIXED = Augment(crop_scale_min=0.8, rotation_deg=20, amplitude=0.1, mixup=1.0)


def test_the_teacher_sees_the_same_mixture() -> None:
    config = ModelConfig("r3d_mini.avg", "clip", 2, 2, 0.0, None, {})
    member = Member("flow", config, PREPROCESSING, "fp32", "model.pt")
    inputs = moving_left_or_right(8, augment=MIXED)
    teacher, student = small_model().eval(), small_model().eval()
    batch = inputs.batch([4, 1, 6], epoch=2)
    assert batch.mixing is not None and 0 < batch.mixing.share < 1
    clips = model_input(batch, PREPROCESSING, CPU)
    with torch.no_grad():
        answered = student(clips)
        features = Prediction(answered.logits, answered.features + 1)
        loss = Mars(teacher, inputs, member, Classification("exclusive"), 0.5, CPU)(features, batch, epoch=2)
        alone = Classification("exclusive")(features, batch, epoch=2)
        taught = teacher(clips).features
    assert loss.of_labels == alone.of_labels and list(loss.of_clips) == ["features"]
    beside = float(loss.of_clips["features"])
    assert beside == pytest.approx(0.5 * float(F.mse_loss(features.features, taught)), rel=1e-5)
    assert beside == pytest.approx(0.5, rel=1e-4)  # the same features but for the one that was added


def test_without_mixing_the_views_are_those_of_the_samples() -> None:
    inputs = moving_left_or_right(8, augment=replace(MIXED, mixup=0.0))
    batch = inputs.batch([4, 1], epoch=1)
    samples = collate([inputs.sample(index, epoch=1) for index in (4, 1)])
    assert batch.mixing is None and (batch.pixels_BTHWC == samples.pixels_BTHWC).all()
    assert (batch.warp_B23 == samples.warp_B23).all() and (batch.matrix_BCC == samples.matrix_BCC).all()
