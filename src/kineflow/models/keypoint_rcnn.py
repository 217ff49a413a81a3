"""Keypoint R-CNN, the joints of every person in a frame by a network: on a GPU where there is one.

Source: He et al. 2017, Mask R-CNN, section 5, as torchvision has it with ResNet-50 and a feature pyramid.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from kineflow.annotations.pose.layouts import COCO_17
from kineflow.models.region_ops import provide_region_ops
from kineflow.models.weights import check_fit, read_state_dict
from kineflow.video.frame_store import FrameReader
from kineflow.video.skeleton import FramePose

NAME = "keypointrcnn_resnet50_fpn"
LAYOUT = COCO_17
# Of a frame, the surest first; they bound memory and time. 300 proposals are those of Ren et al. 2015, Faster R-CNN.
MAX_PROPOSALS, MAX_PEOPLE = 300, 20


def load_keypoint_rcnn(path: Path, *, short_side_px: int = 800) -> nn.Module:
    """Keypoint R-CNN with the weights of a local file, in evaluation mode, on the GPU where there is one.

    Args:
        path: a state_dict of torchvision's network.
        short_side_px: to which it scales every frame; torchvision's own value unless told.

    Raises:
        DataError: the file cannot be read safely, or is not the weights of this network.
    """
    provide_region_ops()
    from torchvision.models.detection import keypointrcnn_resnet50_fpn

    model: nn.Module = keypointrcnn_resnet50_fpn(
        weights=None,
        weights_backbone=None,
        min_size=short_side_px,
        rpn_post_nms_top_n_test=MAX_PROPOSALS,
        box_detections_per_img=MAX_PEOPLE,
    )
    found = {key.removeprefix("module."): tensor for key, tensor in read_state_dict(path).items()}
    check_fit(model.state_dict(), found, name=NAME, path=path, param="pose.weights")
    model.load_state_dict(found)
    return model.eval().requires_grad_(False).to("cuda" if torch.cuda.is_available() else "cpu")


def keypoints_of_frames(reader: FrameReader, model: nn.Module) -> Iterator[FramePose]:
    """The people of each frame, one frame at a time, in pixels of the frame as extracted.

    The likelihood of a joint is that of its person times the logistic of the joint's own score, which is a logit.
    """
    device = next(model.parameters()).device
    for item in range(reader.num_frames):
        frame_CHW = torch.from_numpy(reader.read([item])[0]).to(device).movedim(-1, 0).float() / 255
        with torch.inference_mode():
            (found,) = model([frame_CHW])
        yield pose_of_detections(found)


def pose_of_detections(found: dict[str, Tensor]) -> FramePose:
    """What torchvision's detectors answer for one image, as a pose.

    Args:
        found: `keypoints` (I, P, 3) whose whole numbers are borders of pixels, `keypoints_scores` (I, P), `scores`
            (I,); nobody is an empty tensor of any shape.
    """
    keypoints_IP3 = found["keypoints"].cpu().numpy().reshape(-1, len(LAYOUT.bodyparts), 3)
    logits_IP = found["keypoints_scores"].cpu().double().numpy().reshape(-1, len(LAYOUT.bodyparts))
    scores_I = found["scores"].cpu().double().numpy()
    with np.errstate(over="ignore"):
        likelihood_IP = scores_I[:, None] / (1 + np.exp(-logits_IP))
    return FramePose(keypoints_IP3[..., :2] - 0.5, likelihood_IP)
