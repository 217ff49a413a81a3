"""Skeleton pictures of a video's extracted frames, from files of keypoints or from a network that finds them."""

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from kineflow.errors import DataError, ParamsError
from kineflow.store import file_sha256
from kineflow.video.frame_store import FrameReader
from kineflow.video.pose_files import PoseFiles
from kineflow.video.pose_store import PoseRule, writing_pose
from kineflow.video.skeleton import FramePose, draw_skeletons, limb_indices, poses_of_frames

if TYPE_CHECKING:
    from torch import nn

# Rises whenever the same frames, keypoints and rule would give other pictures; guarded by a golden test.
CODE_VERSION = 1
NETWORK = "keypointrcnn"


def pose_rule(
    source: str,
    *,
    limbs: list[list[str]] | None,
    min_likelihood: float,
    line_width: float,
    weights: str | None,
) -> PoseRule:
    """The rule that skeletons are found and drawn by.

    Args:
        source: files or keypointrcnn.
        weights: of the network: a local file or `torchvision:NAME`; None for files.

    Raises:
        ParamsError: the network's weights are not on this machine.
    """
    sha256 = None if source != NETWORK else file_sha256(_weights_path(weights))
    return PoseRule(source, limbs, min_likelihood, line_width, sha256)


def compute_pose(
    frames: Path, target: Path, *, rule: PoseRule, keypoints: PoseFiles | None, weights: str | None, cache_dir: Path
) -> int:
    """Write the pose store of the frame store `frames` to `target`: a picture for each frame.

    Args:
        keypoints: of the video, where the rule's source is files.
        weights: of the network, where it is one.
        cache_dir: of objects from S3.

    Returns:
        the number of pictures.

    Raises:
        AnnotationError: the keypoints are malformed.
        DataError: they end before the video does, or lack a body part of a limb; the frames are missing; or the
            weights are others than those of the rule.
        ParamsError: the network's weights are not on this machine.
    """
    with FrameReader(frames) as reader:
        if keypoints is not None:
            track = keypoints.read(cache_dir=cache_dir)
            limbs = limb_indices(track.bodyparts, track.limbs, given=rule.limbs)
            poses: Iterator[FramePose] = poses_of_frames(track, reader)
        else:
            from kineflow.models.keypoint_rcnn import LAYOUT, keypoints_of_frames

            limbs = limb_indices(LAYOUT.bodyparts, LAYOUT.limbs, given=rule.limbs)
            poses = keypoints_of_frames(reader, _network(_weights_path(weights), rule.weights_sha256))
        with writing_pose(target, rule=rule, fps=reader.fps, height=reader.height, width=reader.width) as writer:
            for pose in poses:
                picture = draw_skeletons(
                    pose,
                    limbs,
                    height=reader.height,
                    width=reader.width,
                    min_likelihood=rule.min_likelihood,
                    line_width=rule.line_width,
                )
                writer.append(picture, num_joints=int(pose.believed(rule.min_likelihood).sum()))
        return reader.num_frames


@lru_cache(maxsize=1)  # one for each worker, not for each video
def _network(path: Path, sha256: str | None) -> "nn.Module":
    from kineflow.models.keypoint_rcnn import load_keypoint_rcnn

    if file_sha256(path) != sha256:
        raise DataError(f"{path}: not the weights that these poses are found with; put back the file of before")
    return load_keypoint_rcnn(path)


def _weights_path(weights: str | None) -> Path:
    from kineflow.models.weight_sources import find_checkpoint

    if weights is None:
        raise ParamsError("pose.source keypointrcnn needs pose.weights: a local file of torchvision's network")
    return find_checkpoint(weights)
