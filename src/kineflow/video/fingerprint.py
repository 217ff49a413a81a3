"""What a video looks like and how it moves, in a few bytes: the same for a re-encoded, resized or trimmed copy.

Ten times a second the luma of the frame is shrunk to 32x32 pixels, and the lowest 8x8 coefficients of its discrete
cosine transform are kept, without the mean. Videos of one place look alike all the time, so copies are told by how the
coefficients change over 0.4 s: by what moves, where and when. A video in which nothing moves cannot be told by it.

Source: the coefficients are those of the perceptual hash "pHash" (Zauner 2010), kept as numbers instead of signs,
since one small animal that moves turns few signs.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from kineflow.video.decode import DecodedFrame

SAMPLES_PER_SEC = 10
LAG = 4  # samples from one image to the one that its change is measured against
MAX_SAMPLES = 6000  # the first ten minutes: of a recording of hours that is enough to know it again
SIDE_PX = 32
FEW_PX = (96, 256)  # rows and columns of a frame that are averaged, or up to twice as many: all would cost ten times it
NUM_WAVES = 8  # cosines in each direction
NUM_COEFFICIENTS = NUM_WAVES**2 - 1
STEPS = 4.0  # stored values in one grey level: the largest coefficient, 32 * 255, still fits 16 bits
MIN_ENERGY = 400.0  # squared change of all coefficients; below it a coder's noise is most of it
MAX_MOMENTS = 64
MOMENT_RADIUS = 2  # samples: a moment changes more than those so near to it

Coefficients = NDArray[np.float32]


def cosines(places: NDArray[np.float64]) -> Coefficients:
    """The first waves of the orthonormal discrete cosine transform of SIDE_PX pixels, at `places` among them.

    Returns:
        float32 (NUM_WAVES, len(places)).
    """
    waves = np.arange(NUM_WAVES)[:, None]
    values = np.sqrt(2 / SIDE_PX) * np.cos(np.pi * waves * (places + 0.5) / SIDE_PX)
    values[0] = np.sqrt(1 / SIDE_PX)
    return np.asarray(values, dtype=np.float32)


COSINES = cosines(np.arange(SIDE_PX, dtype=np.float64))


class FingerprintMaker:
    """Makes the fingerprint of a video while its frames are decoded."""

    def __init__(self) -> None:
        self._samples: list[NDArray[np.int16]] = []

    def add(self, frame: DecodedFrame) -> None:
        """Look at the next frame, if a sample is due: a sample is the first frame at its time or after."""
        due = min(int(frame.timestamp_sec * SAMPLES_PER_SEC + 1e-6) + 1, MAX_SAMPLES)
        if due > len(self._samples):
            sample = _coefficients(_turned_luma(frame))
            self._samples += [sample] * (due - len(self._samples))

    def finish(self) -> NDArray[np.int16]:
        """The coefficients of each sample: int16 (samples, NUM_COEFFICIENTS), in 1 / STEPS of a grey level."""
        return np.array(self._samples, np.int16).reshape(-1, NUM_COEFFICIENTS)


def changes(fingerprint_TC: NDArray[np.int16] | Coefficients) -> Coefficients:
    """How the coefficients change over LAG samples: (samples - LAG, NUM_COEFFICIENTS), or none of a short video."""
    values_TC = fingerprint_TC.astype(np.float32) / np.float32(STEPS)
    return values_TC[LAG:] - values_TC[:-LAG] if len(values_TC) > LAG else values_TC[:0]


@dataclass(frozen=True, eq=False)
class Moments:
    """When most changes in a video, and how.

    Args:
        steps: int32 (moments,), in samples, sorted.
        changes: float32 (moments, NUM_COEFFICIENTS).
    """

    steps: NDArray[np.int32]
    changes: Coefficients


def find_moments(fingerprint_TC: NDArray[np.int16]) -> Moments:
    """The local maxima of the change's energy: at most the MAX_MOMENTS largest."""
    changes_TC = changes(fingerprint_TC)
    energy_T = np.square(changes_TC).sum(axis=1)
    padded_T = np.pad(energy_T, MOMENT_RADIUS, constant_values=-1.0)
    highest_T = np.max([padded_T[i : i + len(energy_T)] for i in range(2 * MOMENT_RADIUS + 1)], axis=0)
    found = np.flatnonzero((energy_T >= highest_T) & (energy_T >= MIN_ENERGY))
    strongest = np.sort(found[np.argsort(-energy_T[found], kind="stable")[:MAX_MOMENTS]])
    return Moments(strongest.astype(np.int32), changes_TC[strongest])


def _coefficients(luma_HW: NDArray[np.uint8]) -> NDArray[np.int16]:
    rows, columns = (max(1, size // few) for size, few in zip(luma_HW.shape, FEW_PX, strict=True))
    few_HW = np.ascontiguousarray(luma_HW[rows // 2 :: rows, columns // 2 :: columns])
    small_HW = cv2.resize(few_HW, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_AREA).astype(np.float32)
    waves = COSINES @ small_HW @ COSINES.T
    return np.asarray(np.rint(waves.ravel()[1:] * STEPS), dtype=np.int16)


def _turned_luma(frame: DecodedFrame) -> NDArray[np.uint8]:
    return np.rot90(_luma(frame.image), frame.rotation_deg // 90)


def _luma(image: VideoFrame) -> NDArray[np.uint8]:
    """The luma plane as it was decoded, where it is one of 8 bits; else converted."""
    first = image.format.components[0]
    plane = image.planes[0]
    if image.format.is_planar and not image.format.is_rgb and first.bits == 8 and plane.line_size >= image.width:
        rows_HW = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
        return rows_HW[: image.height, : image.width]
    return np.asarray(image.reformat(format="gray").to_ndarray(), np.uint8)
