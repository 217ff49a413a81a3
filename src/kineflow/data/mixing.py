"""MixUp and CutMix: each clip of a batch is mixed with another, and what is asked of the model is mixed as they are.

What is drawn here is a few numbers. The clips are mixed on the device (`kineflow.training.inputs`), the targets in the
loss (`kineflow.training.objectives`), so that a teacher's clips can be mixed as its student's are.
"""

import math
from dataclasses import dataclass

import numpy as np

from kineflow.data.views import Augment


@dataclass(frozen=True)
class Mixing:
    """Every clip of a batch is mixed with the clip before it, the first with the last.

    Args:
        share: of the clip itself in the mixture; the rest is the other's.
        box: CutMix: top, left, height, width of what the other fills, as fractions of the image. None: MixUp, where
            pixels are averaged.
    """

    share: float
    box: tuple[float, float, float, float] | None = None


def draw_mixing(rng: np.random.Generator, augment: Augment, *, height_px: int, width_px: int) -> Mixing | None:
    """How a batch of clips of `height_px` x `width_px` is mixed; None where it is not.

    The share comes from a beta distribution with both parameters `augment.mixup` or `augment.cutmix`; with both kinds,
    each batch takes one by chance. A box lies inside the image, in whole pixels, and is the same in every frame.

    Source: Zhang et al. 2018, mixup; Yun et al. 2019, CutMix.
    """
    kinds = [kind for kind in ("mixup", "cutmix") if getattr(augment, kind) > 0]
    if not kinds:
        return None
    kind = kinds[rng.integers(len(kinds))]
    alpha = getattr(augment, kind)
    share = float(rng.beta(alpha, alpha))
    if kind == "mixup":
        return Mixing(share)
    side = math.sqrt(1 - share)
    rows, columns = round(side * height_px), round(side * width_px)
    top, left = (int(rng.integers(room + 1)) for room in (height_px - rows, width_px - columns))
    box = (top / height_px, left / width_px, rows / height_px, columns / width_px)
    return Mixing(1 - box[2] * box[3], box)
