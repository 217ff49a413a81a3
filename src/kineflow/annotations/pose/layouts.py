"""The layouts of keypoints that detectors of people share: names in their order, and the limbs that join them.

Source: OpenPose's documentation of its output and its rendering parameters (BODY_25, COCO_18); the category `person`
of COCO's keypoint annotations (COCO_17).
"""

from dataclasses import dataclass

from kineflow.annotations.pose.track import Limb


@dataclass(frozen=True)
class Layout:
    """Body parts in the order of a format, and which of them limbs join."""

    name: str
    bodyparts: tuple[str, ...]
    limbs: tuple[Limb, ...]


def _layout(name: str, bodyparts: str, pairs: str) -> Layout:
    """A layout of names and of pairs of their numbers, which count from 0."""
    names = tuple(bodyparts.split())
    limbs = [pair.split("-") for pair in pairs.split()]
    return Layout(name, names, tuple((names[int(start)], names[int(end)]) for start, end in limbs))


BODY_25 = _layout(
    "BODY_25",
    "Nose Neck RShoulder RElbow RWrist LShoulder LElbow LWrist MidHip RHip RKnee RAnkle LHip LKnee LAnkle "
    "REye LEye REar LEar LBigToe LSmallToe LHeel RBigToe RSmallToe RHeel",
    "1-8 1-2 1-5 2-3 3-4 5-6 6-7 8-9 9-10 10-11 8-12 12-13 13-14 1-0 0-15 15-17 0-16 16-18 "
    "14-19 19-20 14-21 11-22 22-23 11-24",
)
COCO_18 = _layout(
    "COCO_18",
    "Nose Neck RShoulder RElbow RWrist LShoulder LElbow LWrist RHip RKnee RAnkle LHip LKnee LAnkle REye LEye REar LEar",
    "1-2 1-5 2-3 3-4 5-6 6-7 1-8 8-9 9-10 1-11 11-12 12-13 1-0 0-14 14-16 0-15 15-17",
)
COCO_17 = _layout(
    "COCO_17",
    "nose left_eye right_eye left_ear right_ear left_shoulder right_shoulder left_elbow right_elbow "
    "left_wrist right_wrist left_hip right_hip left_knee right_knee left_ankle right_ankle",
    "15-13 13-11 16-14 14-12 11-12 5-11 6-12 5-6 5-7 6-8 7-9 8-10 1-2 0-1 0-2 1-3 2-4 3-5 4-6",
)
LAYOUTS = (BODY_25, COCO_18, COCO_17)


def known_limbs(bodyparts: tuple[str, ...]) -> tuple[Limb, ...]:
    """The limbs of the layout that has just these body parts, in any order; none where no layout has."""
    for layout in LAYOUTS:
        if sorted(layout.bodyparts) == sorted(bodyparts):
            return layout.limbs
    return ()
