"""What every reader of keypoints returns."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Limb = tuple[str, str]


@dataclass(frozen=True)
class PoseTrack:
    """Keypoints of every frame of one video.

    Args:
        bodyparts: P names.
        individuals: I names; a single empty one where the file names none.
        xy_px: float32 (frames, I, P, 2), x to the right and y down; NaN where nothing was found.
        likelihood: float32 (frames, I, P), 0 to 1; NaN where nothing was found.
        limbs: pairs of body parts that the file or its layout joins; empty where neither says.
    """

    bodyparts: tuple[str, ...]
    individuals: tuple[str, ...]
    xy_px: "NDArray[np.float32]"
    likelihood: "NDArray[np.float32]"
    limbs: tuple[Limb, ...] = ()

    @property
    def num_frames(self) -> int:
        """Frames, counted from 0."""
        return len(self.xy_px)
