"""Keypoint R-CNN's loading, its people and its suppression, with a generated state file, against slow references."""

import sys
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
import torch

from kineflow.errors import DataError, ParamsError
from kineflow.models.keypoint_rcnn import keypoints_of_frames, load_keypoint_rcnn, pose_of_detections
from kineflow.models.pose import pose_rule
from kineflow.models.region_ops import nms, provide_region_ops, roi_align
from kineflow.video.frame_store import FrameReader, writing_frames

SHORT_SIDE_PX = 64  # 800 would cost seconds a frame


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights whose detector is sure of people: the bias of its two classes is raised."""
    provide_region_ops()
    from torchvision.models.detection import keypointrcnn_resnet50_fpn

    torch.manual_seed(0)
    state = keypointrcnn_resnet50_fpn(weights=None, weights_backbone=None).state_dict()
    state["roi_heads.box_predictor.cls_score.bias"] = torch.tensor([0.0, 0.5])
    path = tmp_path_factory.mktemp("weights") / "keypoints.pth"
    torch.save(state, path)
    return path


def slow_nms(boxes: np.ndarray, scores: np.ndarray, threshold: float) -> list[int]:
    """By the definition, box by box."""
    kept: list[int] = []
    for place in sorted(range(len(boxes)), key=lambda n: -scores[n]):
        x1, y1, x2, y2 = boxes[place]
        for other in kept:
            u1, v1, u2, v2 = boxes[other]
            shared = max(0.0, min(x2, u2) - max(x1, u1)) * max(0.0, min(y2, v2) - max(y1, v1))
            if shared > threshold * ((x2 - x1) * (y2 - y1) + (u2 - u1) * (v2 - v1) - shared):
                break
        else:
            kept.append(place)
    return kept


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.7])
def test_suppression_is_its_definition(threshold: float) -> None:
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 50, (200, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(5, 30, (200, 2))], axis=1)
    scores = rng.integers(0, 50, 200) / 50  # some are equal
    found = nms(torch.tensor(boxes), torch.tensor(scores), threshold)
    assert found.tolist() == slow_nms(boxes, scores, threshold)
    assert nms(torch.zeros(0, 4), torch.zeros(0), 0.5).tolist() == []


def test_alignment_is_torchvisions_own_in_python() -> None:
    provide_region_ops()
    from torchvision.ops import poolers  # noqa: F401  # imports the module below
    from torchvision.ops.roi_align import roi_align as public

    theirs = sys.modules[public.__module__]._roi_align.__wrapped__  # as written, not compiled
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(1, 5, 20, 30, generator=generator)
    corners = torch.rand(40, 2, generator=generator) * torch.tensor([200.0, 130.0])
    sides = torch.rand(40, 2, generator=generator) * 60 + 0.5
    rois = torch.cat([torch.zeros(40, 1), corners, torch.minimum(corners + sides, torch.tensor([240.0, 160.0]))], dim=1)
    for size in ((7, 7), (14, 14)):
        ours = roi_align(features, rois, size, spatial_scale=1 / 8, sampling_ratio=2)
        wanted = theirs(features, rois, 1 / 8, *size, 2, False)
        torch.testing.assert_close(ours, wanted, atol=1e-4, rtol=1e-4)
    assert roi_align(features, rois[:0], (7, 7), spatial_scale=1 / 8, sampling_ratio=2).shape == (0, 5, 7, 7)


def test_people_are_those_of_torchvision(weights: Path, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    with writing_frames(tmp_path / "frames.zip", fps=10.0, height=48, width=64, quality=95) as writer:
        for index in range(2):
            jpeg = simplejpeg.encode_jpeg(random.integers(0, 256, (48, 64, 3), np.uint8), quality=95)
            writer.append(jpeg, source_frame=index, timestamp_sec=index / 10)
    model = load_keypoint_rcnn(weights, short_side_px=SHORT_SIDE_PX)
    with FrameReader(tmp_path / "frames.zip") as reader:
        first, second = keypoints_of_frames(reader, model)
        image = torch.from_numpy(reader.read([1])[0]).permute(2, 0, 1).float() / 255
    with torch.inference_mode():
        (theirs,) = model([image])
    assert 0 < len(theirs["scores"]) <= 20
    np.testing.assert_array_equal(second.xy_IP2, theirs["keypoints"][..., :2] - 0.5)  # the same again and again
    likely = theirs["scores"][:, None] * torch.sigmoid(theirs["keypoints_scores"])
    np.testing.assert_allclose(second.likelihood_IP, likely, atol=1e-6)
    assert first.xy_IP2.shape[1:] == (17, 2)
    assert second.xy_IP2[..., 0].max() <= 64 and second.xy_IP2[..., 1].max() <= 48


def test_detections_by_hand() -> None:
    keypoints = torch.zeros(1, 17, 3)
    keypoints[0, 2] = torch.tensor([10.5, 20.0, 1.0])
    logits = torch.full((1, 17), -200.0)
    logits[0, 2] = 0.0
    pose = pose_of_detections({"keypoints": keypoints, "keypoints_scores": logits, "scores": torch.tensor([0.8])})
    assert pose.xy_IP2[0, 2].tolist() == [10.0, 19.5]  # the centre of a pixel is a whole number here
    assert pose.likelihood_IP[0, 2] == pytest.approx(0.4) and pose.likelihood_IP[0, 3] == pytest.approx(0)
    assert pose.believed(0.3).sum() == 1
    nobody = {"keypoints": torch.zeros(0, 17, 3), "keypoints_scores": torch.zeros(0, 17), "scores": torch.zeros(0)}
    assert pose_of_detections(nobody).xy_IP2.shape == (0, 17, 2)


def test_weights_that_do_not_fit_are_refused_in_one_sentence(weights: Path, tmp_path: Path) -> None:
    state = torch.load(weights, weights_only=True)
    name = "roi_heads.keypoint_predictor.kps_score_lowres.weight"
    torch.save(state | {name: torch.zeros(1)}, tmp_path / "shape.pth")
    with pytest.raises(DataError, match=r"is \(1,\) there.*give pose\.weights a state_dict of torchvision's keypoint"):
        load_keypoint_rcnn(tmp_path / "shape.pth")
    del state[name]
    torch.save(state, tmp_path / "short.pth")
    with pytest.raises(DataError, match=f"it lacks {name} and 0 more"):
        load_keypoint_rcnn(tmp_path / "short.pth")
    with pytest.raises(ParamsError, match="there is no such file"):
        pose_rule("keypointrcnn", limbs=None, min_likelihood=0.5, line_width=0.02, weights=str(tmp_path / "none.pth"))
