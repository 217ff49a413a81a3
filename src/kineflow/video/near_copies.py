"""Which videos are copies of one another, though not byte for byte: by what moves in their fingerprints.

Every video against every other would be too many. So the moments of all videos are sorted several times, each time by
the bits of other random projections, and only near neighbours in a sorting are looked at: what changes alike lies close
in one of them. The time is that of sorting, and bounded whatever the videos show. What is found so is compared in full.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Self

import numpy as np
from numpy.typing import NDArray

from kineflow.video.fingerprint import (
    COSINES,
    MIN_ENERGY,
    NUM_WAVES,
    SAMPLES_PER_SEC,
    SIDE_PX,
    Coefficients,
    Moments,
    changes,
    cosines,
)

MIN_SIMILARITY = 0.9  # of what moves
MIN_LIKENESS = 0.6  # of what stands still
MIN_SAMPLES = 10  # that two videos share
MIN_SHARE = 0.65  # of the shorter video that both share
INNER = 0.93  # of each side: what the other view of a video shows, as a cropped copy does
NUM_SORTINGS = 8
NUM_NEIGHBOURS = 6  # in a sorting, that a moment is compared with
NUM_BITS = 64
MAX_BITS_APART = 18  # of NUM_BITS; two moments of similarity 0.8 differ in 13 on average
MIN_MOMENT_SIMILARITY = 0.75
MIN_FIRST_SIMILARITY = 0.7  # of what moves, before other shifts and views are tried
NUM_KEPT = 256  # videos in memory, some 2 MB each at most
MAX_SHIFT_ERROR = 3  # samples: a moment of a copy may be that much earlier or later


@dataclass(frozen=True)
class NearCopy:
    """Two videos that show the same.

    Args:
        first, second: their numbers, first < second.
        shift_sec: when in the second video the first one begins; negative where it begins before.
        similarity: of what moves in both, at most 1.
    """

    first: int
    second: int
    shift_sec: float
    similarity: float


def find_near_copies(
    moments: Sequence[Moments], groups: Sequence[str], load: Callable[[int], NDArray[np.int16]]
) -> list[NearCopy]:
    """The pairs of videos of different groups that show the same, sorted.

    Args:
        moments: of each video.
        groups: of each video; videos of one group are not compared.
        load: the fingerprint of a video, by its number.
    """
    side = lru_cache(maxsize=NUM_KEPT)(lambda number: Side.of(load(number)))
    found = []
    for (first, second), shifts in sorted(_candidates(moments, groups).items()):
        copy = compare(side(first), side(second), shifts=shifts)
        if copy is not None:
            found.append(NearCopy(first, second, copy[0] / SAMPLES_PER_SEC, copy[1]))
    return found


@dataclass(frozen=True, eq=False)
class Side:
    """One of two videos that are compared: what stands still in it, what moves, and how much."""

    still_TC: NDArray[np.int16] | Coefficients
    moving_TC: Coefficients
    energy_T: Coefficients

    @classmethod
    def of(cls, fingerprint_TC: NDArray[np.int16] | Coefficients) -> Self:
        """The side that shows a fingerprint."""
        moving_TC = changes(fingerprint_TC)
        return cls(fingerprint_TC, moving_TC, np.square(moving_TC).sum(axis=1))

    def inner(self) -> Self:
        """The side that shows the inner part of each frame, for the part that INNER of its height and width is."""
        with_mean_TC = np.pad(self.still_TC.astype(np.float32), ((0, 0), (1, 0)))
        waves_TUV = ZOOM @ with_mean_TC.reshape(-1, NUM_WAVES, NUM_WAVES) @ ZOOM.T
        return self.of(waves_TUV.reshape(-1, NUM_WAVES**2)[:, 1:].astype(np.float32))

    def blurred(self, *weights: float) -> Self:
        """The side whose samples are means of so many neighbours each."""
        num_samples = max(0, len(self.still_TC) - len(weights) + 1)
        parts = [weight * self.still_TC[i : i + num_samples] for i, weight in enumerate(weights)]
        return self.of(np.asarray(sum(parts), np.float32))


def compare(first: Side, second: Side, *, shifts: Iterable[int]) -> tuple[float, float] | None:
    """The shift near one of `shifts` at which two videos are most similar, if they show the same there, else None.

    Args:
        first, second: the videos.
        shifts: in samples, of the second video against the first.

    Returns:
        the shift, a multiple of half a sample, and the similarity, at most 1, of what moves.
    """
    promising = [shift for shift in shifts if _similarity(first, second, shift) >= MIN_FIRST_SIMILARITY]
    if not promising:
        return None
    around = range(-MAX_SHIFT_ERROR, MAX_SHIFT_ERROR + 1)
    tried = sorted({shift + error for shift in promising for error in around})
    similarity, alike, shift = max(
        (_similarity(one, other, shift), _likeness(one, other, shift) >= MIN_LIKENESS, shift + offset)
        for one, other, offset in _views(first, second)
        for shift in tried
    )
    return (shift, similarity) if similarity >= MIN_SIMILARITY and alike else None


def _views(first: Side, second: Side) -> list[tuple[Side, Side, float]]:
    """Two videos as one may be a copy of the other, and by how much the second is shifted in a view.

    A copy may be cropped, so each is compared with the other one's inner part. And it may be sampled half-way between
    the samples of the other one: means of two are set against means of three, which are as blurred.
    """
    views = []
    for one, other in ((first, second), (first.inner(), second), (first, second.inner())):
        views += [(one, other, 0.0), (one.blurred(1 / 2, 1 / 2), other.blurred(1 / 4, 1 / 2, 1 / 4), 0.5)]
    return views


def _similarity(first: Side, second: Side, shift: int) -> float:
    """Of what moves in both; 0 where they share too little, or next to nothing moves."""
    one, other = _shared(first, second, shift)
    num_samples = one.stop - one.start
    if num_samples < max(MIN_SAMPLES, MIN_SHARE * min(len(first.moving_TC), len(second.moving_TC))):
        return 0.0
    energies = float(first.energy_T[one].sum()), float(second.energy_T[other].sum())
    if min(energies) < MIN_ENERGY * num_samples:
        return 0.0
    product = np.vdot(first.moving_TC[one], second.moving_TC[other])
    return float(product) / math.sqrt(energies[0] * energies[1])


def _likeness(first: Side, second: Side, shift: int) -> float:
    """Of what stands still in both."""
    one, other = _shared(first, second, shift)
    if one.start == one.stop:
        return 0.0
    first_C = first.still_TC[one].mean(axis=0, dtype=np.float64)
    second_C = second.still_TC[other].mean(axis=0, dtype=np.float64)
    return float(first_C @ second_C / max(float(np.linalg.norm(first_C) * np.linalg.norm(second_C)), 1e-9))


def _shared(first: Side, second: Side, shift: int) -> tuple[slice, slice]:
    """The samples of each that lie side by side: sample i of the first one and i + shift of the second one."""
    start = max(0, -shift)
    stop = max(start, min(len(first.moving_TC), len(second.moving_TC) - shift))
    return slice(start, stop), slice(start + shift, stop + shift)


def _candidates(moments: Sequence[Moments], groups: Sequence[str]) -> dict[tuple[int, int], set[int]]:
    """Pairs of videos with a moment alike, and by how many samples the second is to be shifted for it."""
    counts = np.array([len(of_video.steps) for of_video in moments], dtype=np.int64)
    if not counts.sum():
        return {}
    video_M = np.repeat(np.arange(len(moments)), counts)
    step_M = np.concatenate([of_video.steps for of_video in moments])
    group_M = np.unique(np.array(groups, dtype=object), return_inverse=True)[1][video_M]
    changes_MC = np.concatenate([of_video.changes for of_video in moments])
    changes_MC = changes_MC / np.linalg.norm(changes_MC, axis=1, keepdims=True)
    shifts: dict[tuple[int, int], set[int]] = {}
    for i, j in _neighbours(_bits(changes_MC), group_M):
        alike = np.einsum("pc,pc->p", changes_MC[i], changes_MC[j]) >= MIN_MOMENT_SIMILARITY
        i, j = i[alike], j[alike]
        swapped = video_M[i] > video_M[j]
        first, second = np.where(swapped, j, i), np.where(swapped, i, j)
        rows = np.stack([video_M[first], video_M[second], step_M[second] - step_M[first]], axis=1)
        for a, b, shift in np.unique(rows, axis=0).tolist():
            shifts.setdefault((a, b), set()).add(shift)
    return shifts


def _bits(changes_MC: Coefficients) -> NDArray[np.uint64]:
    """On which side of NUM_BITS random planes each change lies: similar ones differ in few bits."""
    planes_CB = np.random.default_rng(0).standard_normal((changes_MC.shape[1], NUM_BITS)).astype(np.float32)
    return np.packbits(changes_MC @ planes_CB > 0, axis=1).view(np.uint64)[:, 0]


def _neighbours(
    bits_M: NDArray[np.uint64], group_M: NDArray[np.int64]
) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Pairs of moments of different groups that differ in few bits, as far as some sorting brings them together."""
    found = []
    for sorting in range(NUM_SORTINGS):
        turn = np.uint64(sorting * NUM_BITS // NUM_SORTINGS)
        turned_M = (bits_M << turn) | (bits_M >> (np.uint64(NUM_BITS) - turn)) if turn else bits_M
        order_M = np.argsort(turned_M, kind="stable")
        for distance in range(1, min(NUM_NEIGHBOURS, len(order_M) - 1) + 1):
            i, j = order_M[:-distance], order_M[distance:]
            alike = np.bitwise_count(bits_M[i] ^ bits_M[j]) <= MAX_BITS_APART
            alike &= group_M[i] != group_M[j]
            found.append((i[alike], j[alike]))
    return found


def _zoom() -> Coefficients:
    """From the coefficients of a row of pixels to those of its inner part: (NUM_WAVES, NUM_WAVES)."""
    pixel = np.arange(SIDE_PX, dtype=np.float64)
    middle = (SIDE_PX - 1) / 2
    return COSINES @ cosines(middle + (pixel - middle) * INNER).T


ZOOM = _zoom()
