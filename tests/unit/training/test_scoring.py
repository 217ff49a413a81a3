"""What validation says of probabilities, by hand: both tasks, both kinds of labels, windows that overlap."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score

from kineflow.data.dataset import ClipDataset, ClipItem, Sample, collate
from kineflow.data.open_videos import OpenVideos
from kineflow.data.preprocessing import Preprocessing, clip_pixels
from kineflow.data.readers import DecodedImages
from kineflow.data.views import fixed_views
from kineflow.models.registry import create_model
from kineflow.training.inputs import model_input
from kineflow.training.scoring import predict_probs, validation_scores

NA = np.nan


@pytest.mark.parametrize("batch_size", [1, 4, 64])
def test_probabilities_are_averaged_over_windows_and_crops(batch_size: int) -> None:
    lengths = (9, 20, 13)  # one, two and one clips of eight frames
    rng = np.random.default_rng(0)
    videos = {f"v{n}": DecodedImages(rng.integers(0, 256, (n, 30, 40, 3), np.uint8)) for n in lengths}
    items = [ClipItem(f"c{n}", f"v{n}", 0, n, 0) for n in lengths]
    size = {"height_px": 24, "width_px": 24, "num_frames": 8, "decode_height_px": 24, "decode_width_px": 24}
    many = replace(dataset("clip", []).preprocessing, num_views="all", crops="ten", crop_scale=0.8, **size)
    torch.manual_seed(0)
    model = create_model("r3d_mini.avg", num_classes=3, in_channels=3, task="clip").eval()
    clips = ClipDataset(items, OpenVideos(videos.__getitem__), many)
    cpu = torch.device("cpu")
    probs = predict_probs(model, clips, labels="exclusive", batch_size=batch_size, device=cpu, precision="fp32")
    for item, found, num_windows in zip(items, probs, (1, 2, 1), strict=True):
        one_by_one = []
        for view in fixed_views(num_windows, "ten", 0.8):
            clip = clip_pixels(videos[item.video_id], 0, item.stop, many, view)
            with torch.no_grad():
                logits = model(model_input(collate([Sample(clip, 0, 0)]), many, cpu)).logits
            one_by_one.append(logits.softmax(1)[0].double().numpy())
        assert len(one_by_one) == 10 * num_windows
        np.testing.assert_allclose(found, np.mean(one_by_one, axis=0), atol=1e-6)


def test_crops_of_a_window_are_averaged_frame_by_frame() -> None:
    images = DecodedImages(np.random.default_rng(0).integers(0, 256, (9, 30, 40, 3), np.uint8))
    size = {"height_px": 24, "width_px": 24, "num_frames": 5, "decode_height_px": 24, "decode_width_px": 24}
    three = replace(dataset("frame", []).preprocessing, num_views=2, crops="three", crop_scale=0.8, **size)
    torch.manual_seed(0)
    model = create_model("resnet10_tiny.tcn", num_classes=3, in_channels=3, task="frame").eval()
    clips = ClipDataset([ClipItem("c", "v", 1, 6, None), ClipItem("d", "v", 6, 9, None)], {"v": images}, three)  # type: ignore[arg-type]
    cpu = torch.device("cpu")
    probs = predict_probs(model, clips, labels="independent", batch_size=2, device=cpu, precision="fp32")
    for item, found in zip(clips.items, probs, strict=True):
        views = list(fixed_views(1, "three", 0.8))
        pixels = [clip_pixels(images, item.start, item.stop, three, view) for view in views]
        with torch.no_grad():
            of_views = [model(model_input(collate([Sample(clip, 0, 0)]), three, cpu)).logits for clip in pixels]
        assert len(of_views) == 3 and found.shape == (item.stop - item.start, 3)
        np.testing.assert_allclose(
            found, np.mean([logits[0].sigmoid().numpy() for logits in of_views], axis=0), atol=1e-6
        )


def dataset(task: str, items: list[ClipItem]) -> ClipDataset:
    preprocessing = Preprocessing(
        task=task,  # type: ignore[arg-type]
        stream="rgb",
        fps=10.0,
        frames={},
        flow=None,
        sampling="dense",
        num_frames=2,
        frame_stride=1,
        height_px=1,
        width_px=1,
        decode_height_px=1,
        decode_width_px=1,
        subtract_background=False,
        flow_scale_px=1.0,
        num_views=1,
    )

    def nobody_reads(video_id: str) -> None:
        raise AssertionError(video_id)

    return ClipDataset(items, OpenVideos(nobody_reads), preprocessing)  # type: ignore[arg-type]


def window(name: str, start: int, target: list[list[float]]) -> ClipItem:
    return ClipItem(name, "v", start, start + len(target), np.array(target, np.float32))


def test_a_frame_of_two_windows_is_judged_once_by_its_mean() -> None:
    # frame 1: 0.2 in one window, 0.6 in the other: 0.4. Scored twice, one of the two would have hit.
    items = [window("a", 0, [[0.0], [1.0]]), window("b", 1, [[1.0], [NA]])]
    loss, macro_f1 = validation_scores(
        [np.array([[0.25], [0.2]]), np.array([[0.6], [0.9]])], dataset("frame", items), labels="independent"
    )
    assert loss == pytest.approx(-(np.log(0.75) + np.log(0.4)) / 2)
    assert macro_f1 == 0.0


def test_exclusive_frames_have_a_log_loss_and_an_accuracy() -> None:
    items = [window("a", 0, [[1.0, 0.0], [0.0, 1.0]]), window("b", 1, [[0.0, 1.0], [NA, NA]])]
    probs = [np.array([[0.8, 0.2], [0.7, 0.3]]), np.array([[0.1, 0.9], [0.5, 0.5]])]
    loss, accuracy = validation_scores(probs, dataset("frame", items), labels="exclusive")
    assert loss == pytest.approx(-(np.log(0.8) + np.log(0.6)) / 2)
    assert accuracy == 1.0  # frame 1: 0.4 and 0.6 on average
    nothing = [window("c", 0, [[NA, NA]])]
    assert np.isnan(validation_scores([np.array([[0.5, 0.5]])], dataset("frame", nothing), labels="exclusive")).all()


def test_clips_with_several_labels_have_a_loss_and_a_macro_f1() -> None:
    targets = ([1.0, 0.0], [1.0, 1.0])
    items = [ClipItem(f"c{i}", "v", 0, 2, np.array(target, np.float32)) for i, target in enumerate(targets)]
    probs = [np.array([0.9, 0.4]), np.array([0.2, 0.8])]
    loss, macro_f1 = validation_scores(probs, dataset("clip", items), labels="independent")
    assert loss == pytest.approx(-(np.log(0.9) + np.log(0.6) + np.log(0.2) + np.log(0.8)) / 4)
    assert macro_f1 == pytest.approx((2 / 3 + 1.0) / 2)  # x: found once of two; y: found


def test_clips_of_one_class_are_judged_as_before() -> None:
    items = [ClipItem("a", "v", 0, 2, 1), ClipItem("b", "v", 2, 4, 0)]
    loss, accuracy = validation_scores(
        [np.array([0.25, 0.75]), np.array([0.4, 0.6])], dataset("clip", items), labels="exclusive"
    )
    assert loss == pytest.approx(-(np.log(0.75) + np.log(0.4)) / 2) and accuracy == 0.5


@pytest.mark.parametrize("classes", [None, [2], [0, 3], [1, 2, 4]])
def test_macro_f1_of_chosen_classes_is_sklearns(classes: list[int] | None) -> None:
    """The last of five classes is never shown, and so left out."""
    rng = np.random.default_rng(0)
    probs_NK, truth_N = rng.dirichlet(np.ones(5), size=40), rng.integers(0, 4, size=40)
    shown = [k for k in classes or range(5) if k != 4]
    items = [ClipItem(f"c{i}", "v", 2 * i, 2 * i + 2, int(k)) for i, k in enumerate(truth_N)]
    given = {"labels": "exclusive", "metric": "macro_f1", "classes": classes}
    _, found = validation_scores(list(probs_NK), dataset("clip", items), **given)
    assert found == pytest.approx(f1_score(truth_N, probs_NK.argmax(axis=1), labels=shown, average="macro"))

    probs_NK = rng.random((40, 5))
    truth_NK = rng.integers(0, 2, size=(40, 5)).astype(np.float32) * [1, 1, 1, 1, 0]
    truth_NK[rng.random((40, 5)) < 0.2] = NA
    of_clip = [replace(item, target=truth_K) for item, truth_K in zip(items, truth_NK, strict=True)]
    _, found = validation_scores(list(probs_NK), dataset("clip", of_clip), **given | {"labels": "independent"})
    of_class = []
    for k in shown:
        rows = ~np.isnan(truth_NK[:, k])
        of_class.append(f1_score(truth_NK[rows, k], probs_NK[rows, k] > 0.5))
    assert 0 < found == pytest.approx(np.mean(of_class))
