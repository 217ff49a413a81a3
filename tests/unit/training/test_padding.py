"""Clips of several lengths in one batch: what is beside a clip, and the padding behind it, change nothing."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from kineflow.data.dataset import ClipDataset, ClipItem, collate
from kineflow.data.open_videos import OpenVideos
from kineflow.data.readers import DecodedImages
from kineflow.errors import ParamsError
from kineflow.models.registry import check_padded, create_model
from kineflow.training.inputs import clip_lengths, model_input
from kineflow.training.loop import fit
from kineflow.training.objectives import Classification
from kineflow.training.scoring import predict_probs
from tests.unit.training.test_loop import CPU, CROSS_ENTROPY, PREPROCESSING, RULE, codes_of, recipe

PADDED = replace(PREPROCESSING, sampling="dense", num_frames=6, short_clips="pad")
LENGTHS = (2, 6, 3, 6, 1, 5)


def clips_of_many_lengths(preprocessing=PADDED) -> ClipDataset:
    rng = np.random.default_rng(11)
    flows = [rng.normal(size=(length, 12, 12, 2)).astype(np.float32) for length in LENGTHS]
    arrays = {f"v{i}": codes_of(flow) for i, flow in enumerate(flows)}
    items = [ClipItem(f"c{i}", f"v{i}", 0, length, i % 2) for i, length in enumerate(LENGTHS)]
    return ClipDataset(items, OpenVideos(lambda video_id: DecodedImages(arrays[video_id])), preprocessing)


def tiny(pooling: str):
    torch.manual_seed(1)
    return create_model(f"resnet10_tiny.{pooling}", num_classes=3, in_channels=2, task="clip")


def probs(model, dataset: ClipDataset, *, batch_size: int) -> np.ndarray:
    return np.stack(
        predict_probs(model, dataset, labels="exclusive", batch_size=batch_size, device=CPU, precision="fp32")
    )


@pytest.mark.parametrize("pooling", ["avg", "none", "lstm", "gru", "tcn", "tcn_ed", "transformer", "bert", "conv_gru"])
def test_a_clip_scores_the_same_alone_and_in_a_padded_batch(pooling: str) -> None:
    model, dataset = tiny(pooling), clips_of_many_lengths()
    alone = probs(model, dataset, batch_size=1)
    np.testing.assert_allclose(probs(model, dataset, batch_size=len(LENGTHS)), alone, atol=1e-6)
    np.testing.assert_allclose(np.stack([_by_hand(model, dataset, i) for i in range(len(LENGTHS))]), alone, atol=1e-6)


def _by_hand(model, dataset: ClipDataset, index: int) -> np.ndarray:
    """The model on the pixels of all frames of a clip, which nothing else has touched."""
    images = dataset.videos[f"v{index}"]
    flow_THWC = np.stack([RULE.table()[images[i]] for i in range(LENGTHS[index])])
    with torch.no_grad():
        return model.eval()(torch.from_numpy(flow_THWC).permute(3, 0, 1, 2)[None]).logits.softmax(1)[0].numpy()


@pytest.mark.parametrize("pooling", ["avg", "lstm", "bert"])
def test_padding_that_is_not_left_out_would_be_seen(pooling: str) -> None:
    model, dataset = tiny(pooling).eval(), clips_of_many_lengths()
    batch = collate([dataset.sample(index, epoch=0) for index in range(len(LENGTHS))])
    lengths_B = clip_lengths(batch, PADDED, CPU)
    assert lengths_B is not None and tuple(lengths_B.tolist()) == LENGTHS
    with torch.no_grad():
        clips = model_input(batch, PADDED, CPU)
        told, untold = model(clips, lengths_B).logits, model(clips).logits
    short, whole = [0, 2, 5], [1, 3]  # the mean of one frame is that of its copies
    assert not torch.isclose(told[short], untold[short], atol=1e-6).all(dim=1).any()
    torch.testing.assert_close(told[whole], untold[whole])


def test_batches_of_one_length_and_looped_clips_are_told_nothing() -> None:
    dataset = clips_of_many_lengths()
    assert clip_lengths(collate([dataset.sample(i, epoch=0) for i in (1, 3)]), PADDED, CPU) is None
    looped = clips_of_many_lengths(replace(PADDED, short_clips="loop"))
    batch = collate([looped.sample(i, epoch=0) for i in range(len(LENGTHS))])
    assert batch.num_frames.tolist() == [6] * len(LENGTHS) and clip_lengths(batch, looped.preprocessing, CPU) is None


def test_a_step_on_a_padded_batch_is_the_mean_step_of_its_clips() -> None:
    """pixels.lstm has no batch norm, so the gradient of a batch is the mean of its clips' gradients."""

    def make():
        torch.manual_seed(2)
        options = {"side_px": 12, "hidden_dim": 8, "num_layers": 1}
        return create_model("pixels.lstm", num_classes=2, in_channels=2, task="clip", options=options)

    dataset = clips_of_many_lengths()
    chosen = recipe(epochs=1, batch_size=6, optimizer="sgd", lr=0.1, schedule="constant", warmup_fraction=0.0)
    fitted = fit(make(), CROSS_ENTROPY, dataset, None, replace(chosen, weight_decay=0.0), device=CPU)
    bare = make()
    for index in range(len(LENGTHS)):
        logits = bare(model_input(collate([dataset.sample(index, epoch=0)]), PADDED, CPU)).logits
        (F.cross_entropy(logits, torch.tensor([index % 2])) / len(LENGTHS)).backward()
    optimizer = torch.optim.SGD(bare.parameters(), lr=0.1, momentum=0.9, nesterov=True)
    optimizer.step()
    for name, value in bare.state_dict().items():
        torch.testing.assert_close(fitted.state[name], value, rtol=1e-4, atol=1e-6, msg=name)


def test_windows_of_task_frame_are_trained_without_their_padding() -> None:
    def make():
        torch.manual_seed(2)
        options = {"side_px": 12, "hidden_dim": 8, "num_layers": 1, "bidirectional": True}
        return create_model("pixels.lstm", num_classes=1, in_channels=2, task="frame", options=options)

    preprocessing = replace(PADDED, task="frame")
    dataset = clips_of_many_lengths(preprocessing)
    items = [replace(item, target=np.ones((item.stop, 1), np.float32)) for item in dataset.items]
    dataset = replace(dataset, items=items)
    chosen = recipe(epochs=1, batch_size=6, optimizer="sgd", lr=0.1, schedule="constant", warmup_fraction=0.0)
    fitted = fit(make(), Classification("independent"), dataset, None, replace(chosen, weight_decay=0.0), device=CPU)
    bare = make()
    for index in range(len(LENGTHS)):
        logits = bare(model_input(collate([dataset.sample(index, epoch=0)]), preprocessing, CPU)).logits
        F.binary_cross_entropy_with_logits(logits, torch.ones_like(logits), reduction="sum").div(
            sum(LENGTHS)
        ).backward()
    torch.optim.SGD(bare.parameters(), lr=0.1, momentum=0.9, nesterov=True).step()
    for name, value in bare.state_dict().items():
        torch.testing.assert_close(fitted.state[name], value, rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("r3d_mini.avg", "its backbone r3d_mini mixes in frames that are no part of the clip; models that can: "),
        ("resnet18.concat", "its pooling concat reads frames that are no part of the clip; models that can: resnet18."),
    ],
)
def test_models_that_see_padding_are_refused_with_the_reason(name: str, reason: str) -> None:
    with pytest.raises(ParamsError) as caught:
        check_padded(name)
    assert reason in str(caught.value)
