import math
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from kineflow.data.dataset import ClipDataset, ClipItem, collate
from kineflow.data.open_videos import OpenVideos
from kineflow.data.preprocessing import Preprocessing
from kineflow.data.probabilities import to_logits
from kineflow.data.readers import DecodedImages
from kineflow.data.views import Augment
from kineflow.errors import ParamsError
from kineflow.models.registry import create_model
from kineflow.training import steps
from kineflow.training.batches import epoch_batches
from kineflow.training.inputs import model_input
from kineflow.training.loop import fit
from kineflow.training.objectives import Classification, masked_binary_cross_entropy
from kineflow.training.recipe import Recipe, learning_rate
from kineflow.training.scoring import predict_probs, validation_scores
from kineflow.training.state import EpochResult
from kineflow.video.flow_store import FlowRule

RULE = FlowRule("dis_fast", bound_px=4.0)
CPU = torch.device("cpu")
CROSS_ENTROPY = Classification("exclusive")
AUGMENT = Augment(flip=False, crop_scale_min=0.8, brightness=0.1, amplitude=0.1, time_jitter=0.1)
EVERYTHING = Augment(
    crop_scales=(1.0, 0.875, 0.75),
    rotation_deg=15,
    zoom=0.1,
    shift=0.1,
    amplitude=0.1,
    time_jitter=0.5,
    mixup=0.3,
    cutmix=1.0,
)
PREPROCESSING = Preprocessing(
    task="clip",
    stream="flow",
    fps=10.0,
    frames={},
    flow={"rule": asdict(RULE)},
    sampling="segments",
    num_frames=4,
    frame_stride=1,
    height_px=12,
    width_px=12,
    decode_height_px=12,
    decode_width_px=12,
    subtract_background=False,
    flow_scale_px=1.0,
    num_views=1,
)


def recipe(**changes) -> Recipe:
    values = {
        "epochs": 3,
        "batch_size": 4,
        "optimizer": "adamw",
        "lr": 0.01,
        "weight_decay": 0.01,
        "schedule": "cosine",
        "warmup_fraction": 0.1,
        "label_smoothing": 0.0,
        "grad_clip_norm": None,
        "ema_decay": None,
        "eval_every": 1,
        "select": "last",
        "seed": 3,
        "precision": "fp32",
        "threads": 1,
    }
    return Recipe(**(values | changes))


def codes_of(flows_THWC: np.ndarray) -> np.ndarray:
    """As they are stored."""
    images = np.stack([RULE.quantise(flow_HWC) for flow_HWC in flows_THWC])
    return np.stack(np.split(images, 2, axis=1), axis=-1)


def moving_left_or_right(count: int, *, augment: Augment | None = AUGMENT) -> ClipDataset:
    """Clips whose flow is noise around -1 or +1 px in x: the class."""
    rng = np.random.default_rng(7)
    arrays, items = {}, []
    for index in range(count):
        target = index % 2
        flows = rng.normal(scale=0.5, size=(6, 12, 12, 2)).astype(np.float32)
        flows[..., 0] += 2.0 * target - 1.0
        arrays[f"v{index}"] = codes_of(flows)
        items.append(ClipItem(f"c{index}", f"v{index}", 0, 7, target))
    videos = OpenVideos(lambda video_id: DecodedImages(arrays[video_id]))
    return ClipDataset(items, videos, PREPROCESSING, augment, seed=3)


def moving_with_several_labels(count: int) -> ClipDataset:
    """Clips whose flow is noise around 0 or 1 px in x and in y, each of which is a class."""
    rng = np.random.default_rng(7)
    arrays, items = {}, []
    for index in range(count):
        target = np.array([index % 2, index // 2 % 2], np.float32)
        flows = rng.normal(scale=0.3, size=(6, 12, 12, 2)).astype(np.float32) + 2 * target
        arrays[f"v{index}"] = codes_of(flows)
        items.append(ClipItem(f"c{index}", f"v{index}", 0, 7, target))
    return ClipDataset(items, OpenVideos(lambda video_id: DecodedImages(arrays[video_id])), PREPROCESSING, seed=3)


def moving_with_labels_of_some_frames(count: int) -> ClipDataset:
    """Clips of four frames of noise and two behaviours; of one clip after the other, one more frame is labelled."""
    rng = np.random.default_rng(7)
    arrays, items = {}, []
    for index in range(count):
        target = rng.integers(0, 2, size=(4, 2)).astype(np.float32)
        target[index % 5 :] = np.nan
        arrays[f"v{index}"] = codes_of(rng.normal(size=(6, 12, 12, 2)).astype(np.float32))
        items.append(ClipItem(f"c{index}", f"v{index}", 0, 4, target))
    preprocessing = replace(PREPROCESSING, task="frame", sampling="dense")
    return ClipDataset(items, OpenVideos(lambda video_id: DecodedImages(arrays[video_id])), preprocessing, seed=3)


def small_model():
    torch.manual_seed(3)
    return create_model("r3d_mini.avg", num_classes=2, in_channels=2, task="clip", dropout=0.2)


def test_learns_the_direction_of_motion():
    train_set, val_set = moving_left_or_right(16), moving_left_or_right(8, augment=None)
    result = fit(small_model(), CROSS_ENTROPY, train_set, val_set, recipe(epochs=6), device=CPU)
    assert result.curves[-1].val_metric == 1.0
    assert result.curves[-1].train_loss < result.curves[0].train_loss


def test_learns_several_labels_at_once():
    train_set, val_set = (moving_with_several_labels(count) for count in (16, 8))
    result = fit(small_model(), Classification("independent"), train_set, val_set, recipe(epochs=8), device=CPU)
    assert result.curves[-1].val_metric == 1.0  # macro-F1


def test_same_weights_as_a_bare_pytorch_loop():
    train_set, chosen = moving_left_or_right(8), recipe(epochs=2)
    fitted = fit(small_model(), CROSS_ENTROPY, train_set, None, chosen, device=CPU)

    model = small_model()
    torch.manual_seed(chosen.seed)
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": 0.01}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=0.01, betas=(0.9, 0.99))
    step = 0
    for epoch in range(2):
        order = np.random.default_rng([3, epoch]).permutation(8)
        for positions in (order[:4], order[4:]):
            samples = [train_set.sample(int(p), epoch=epoch) for p in positions]
            clips = model_input(collate(samples), PREPROCESSING, CPU)
            targets = torch.tensor([s.target for s in samples])
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(step, num_steps=4, recipe=chosen)
            optimizer.zero_grad()
            F.cross_entropy(model(clips).logits, targets).backward()
            optimizer.step()
            step += 1
    for name, value in model.state_dict().items():
        assert torch.equal(value, fitted.state[name]), name


@pytest.mark.parametrize(
    ("ema_decay", "select", "augment"),
    [(None, "best", AUGMENT), (0.9, "best", AUGMENT), (0.9, "last", AUGMENT), (None, "last", EVERYTHING)],
)
def test_killed_and_resumed_gives_the_same_weights(tmp_path, ema_decay, select, augment):
    chosen = recipe(epochs=4, ema_decay=ema_decay, select=select)
    data = moving_left_or_right(10, augment=augment), moving_left_or_right(6, augment=None)
    whole = fit(small_model(), CROSS_ENTROPY, *data, chosen, device=CPU)

    class KilledError(Exception):
        pass

    def kill_after_two(result: EpochResult) -> None:
        if result.epoch == 1:
            raise KilledError

    path = tmp_path / "state.pt"
    with pytest.raises(KilledError):
        fit(
            small_model(),
            CROSS_ENTROPY,
            *data,
            chosen,
            device=CPU,
            checkpoint=path,
            on_epoch=kill_after_two,
        )
    epochs: list[int] = []
    resumed = fit(
        small_model(),
        CROSS_ENTROPY,
        *data,
        chosen,
        device=CPU,
        checkpoint=path,
        on_epoch=lambda result: epochs.append(result.epoch),
    )
    assert epochs == [2, 3]
    assert resumed.curves == whole.curves and resumed.best_epoch == whole.best_epoch
    for name, value in whole.state.items():
        assert torch.equal(value, resumed.state[name]), name


def test_views_and_mixtures_do_not_depend_on_who_makes_them(monkeypatch):
    def weights() -> dict[str, torch.Tensor]:
        data = moving_left_or_right(10, augment=EVERYTHING)
        return fit(small_model(), CROSS_ENTROPY, data, None, recipe(epochs=2), device=CPU).state

    alone = weights()
    monkeypatch.setattr(steps, "_loader_threads", lambda device: 3)
    for name, value in weights().items():
        assert torch.equal(value, alone[name]), name


def test_mixtures_differ_between_batches_and_epochs():
    data = moving_left_or_right(12, augment=EVERYTHING)
    firsts = [(first, epoch) for first in range(6) for epoch in range(6)]
    mixings = {key: data.batch([key[0], 11], epoch=key[1]).mixing for key in firsts}
    assert len({(m.share, m.box) for m in mixings.values()}) > 30  # boxes in 12 x 12 pixels may be alike
    assert {m.box is None for m in mixings.values()} == {True, False}
    again = data.batch([3, 11], epoch=5).mixing
    assert again == mixings[3, 5]


def test_a_clip_that_an_epoch_shows_again_is_seen_in_another_view():
    data = moving_left_or_right(4)
    first, again = (data.sample(index, epoch=0) for index in (1, 1 + 4))
    assert first.target == again.target and [first.position, again.position] == [1, 5]
    assert not np.array_equal(first.clip.pixels_THWC, again.clip.pixels_THWC)
    assert np.array_equal(again.clip.pixels_THWC, data.sample(5, epoch=0).clip.pixels_THWC)


def test_learns_from_mixed_and_moved_clips():
    train_set, val_set = moving_left_or_right(16, augment=EVERYTHING), moving_left_or_right(8, augment=None)
    result = fit(small_model(), CROSS_ENTROPY, train_set, val_set, recipe(epochs=12), device=CPU)
    assert result.curves[-1].val_metric == 1.0


def test_best_keeps_the_weights_of_the_lowest_validation_loss():
    data = moving_left_or_right(8), moving_left_or_right(6, augment=None)
    result = fit(small_model(), CROSS_ENTROPY, *data, recipe(epochs=5, lr=0.05, select="best"), device=CPU)
    losses = [epoch.val_loss for epoch in result.curves]
    assert result.best_epoch == int(np.argmin(losses)) + 1
    model = small_model()
    model.load_state_dict(result.state)
    probs = predict_probs(model, data[1], labels="exclusive", batch_size=4, device=CPU, precision="fp32")
    assert validation_scores(probs, data[1], labels="exclusive")[0] == pytest.approx(min(losses), abs=1e-6)


def test_learning_rate_by_hand():
    chosen = recipe(lr=1.0, warmup_fraction=0.2)
    rates = [learning_rate(step, num_steps=10, recipe=chosen) for step in (0, 1, 2, 6, 10)]
    assert rates == pytest.approx([0.5, 1.0, 1.0, 0.5, 0.0])
    assert learning_rate(7, num_steps=10, recipe=recipe(schedule="constant", lr=0.3)) == 0.3


def test_batches_cover_every_clip_once_and_leave_none_alone():
    batches = epoch_batches([0] * 9, recipe(), epoch=0)
    assert sorted(position for batch in batches for position in batch) == list(range(9))
    assert [len(batch) for batch in batches] == [4, 5]
    assert batches != epoch_batches([0] * 9, recipe(), epoch=1)


def test_masked_loss_by_hand():
    logits = torch.tensor([[[0.0, 2.0], [1.0, -1.0]]])
    targets = torch.tensor([[[1.0, math.nan], [math.nan, 0.0]]])
    by_hand = (math.log(2) + math.log1p(math.exp(-1.0))) / 2
    assert masked_binary_cross_entropy(logits, targets).item() == pytest.approx(by_hand)
    nothing = torch.full_like(targets, math.nan)
    assert masked_binary_cross_entropy(logits, nothing).item() == 0.0


def test_a_loss_that_is_no_number_ends_the_training():
    with pytest.raises(ParamsError, match=r"training diverged.*lower the stream's lr"):
        fit(
            small_model(),
            CROSS_ENTROPY,
            moving_left_or_right(8),
            None,
            recipe(lr=1e30, epochs=5),
            device=CPU,
        )


def test_logits_give_the_probabilities_back():
    probs = np.array([[0.2, 0.5, 0.3]])
    logits = torch.from_numpy(to_logits(probs, "exclusive"))
    np.testing.assert_allclose(logits.softmax(1).numpy(), probs, atol=1e-6)
    np.testing.assert_allclose(torch.from_numpy(to_logits(probs, "independent")).sigmoid().numpy(), probs, atol=1e-6)
