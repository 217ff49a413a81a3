"""Clips with their targets, one by one and in batches: deterministic by seed, epoch and index."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np

from kineflow.data.event_clips import Span
from kineflow.data.mixing import Mixing, draw_mixing
from kineflow.data.negatives import redrawn_start
from kineflow.data.open_videos import OpenVideos
from kineflow.data.preprocessing import ClipPixels, Images, Preprocessing, clip_pixels
from kineflow.data.readers import RememberedImages
from kineflow.data.views import Augment, View, draw_view


@dataclass(frozen=True)
class ClipItem:
    """One clip and what it shows.

    Args:
        clip_id: as in the clips table.
        video_id: whose images it is.
        start: first extracted frame. stop: one past the last.
        target: a class index on task clip, or float32 (K,) of 0 and 1 where it may have several labels; on task frame
            float32 (stop - start, K) with nan for unlabelled; None where it is only to be predicted.
        redraw_starts: (first, last) of the frames where a training view of a negative may start instead.
    """

    clip_id: str
    video_id: str
    start: int
    stop: int
    target: int | np.ndarray | None
    redraw_starts: tuple[Span, ...] = ()

    def moved_to(self, start: int) -> "ClipItem":
        """The same clip, as long, elsewhere in its video."""
        return replace(self, start=start, stop=start + self.stop - self.start)


class Sample(NamedTuple):
    """One view of one clip, its target, and the number that it was drawn by (see `ClipDataset.sample`)."""

    clip: ClipPixels
    target: int | np.ndarray | None
    position: int


@dataclass(frozen=True)
class ClipDataset:
    """Clips of one stream.

    Args:
        items: in the order that indices refer to.
        videos: of the stream.
        preprocessing: the same value that is saved with the model.
        augment: the ranges of random views; None for fixed views.
        seed: of the random views.
    """

    items: Sequence[ClipItem]
    videos: OpenVideos
    preprocessing: Preprocessing
    augment: Augment | None = None
    seed: int = 0

    def __len__(self) -> int:
        return len(self.items)

    def num_labels(self, indices: Iterable[int]) -> int:
        """How much some clips say: one class each, or every frame and class that is known."""
        return sum(self._num_labels[index % len(self)] for index in indices)

    @cached_property
    def _num_labels(self) -> list[int]:
        targets = [item.target for item in self.items]
        return [int((~np.isnan(target)).sum()) if isinstance(target, np.ndarray) else 1 for target in targets]

    def sample(self, index: int, *, epoch: int) -> Sample:
        """A training view of clip `index`, drawn from the seed, the epoch and the index alone.

        A clip that an epoch shows again has other views: its index, plus the number of clips for each time before.
        """
        view = View()
        if self.augment is not None:
            view = draw_view(np.random.default_rng([self.seed, epoch, index]), self.augment)
        item = self.items[index % len(self)]
        if item.redraw_starts:
            item = item.moved_to(redrawn_start(item.redraw_starts, seed=self.seed, epoch=epoch, index=index))
        clip = clip_pixels(self.videos[item.video_id], item.start, item.stop, self.preprocessing, view)
        return Sample(clip, item.target, index)

    def batch(self, indices: Sequence[int], *, epoch: int) -> "Batch":
        """Training views of some clips, mixed with one another where `augment` says so.

        How they are mixed is drawn from the seed, the epoch and the first index, which no other batch begins with.
        """
        batch = collate([self.sample(index, epoch=epoch) for index in indices])
        if self.augment is None:
            return batch
        _, _, height, width, _ = batch.pixels_BTHWC.shape
        rng = np.random.default_rng([self.seed, epoch, indices[0], 1])
        return batch._replace(mixing=draw_mixing(rng, self.augment, height_px=height, width_px=width))

    def fixed_views(self, index: int) -> Iterator[Sample]:
        """Every test-time view of clip `index`, one after the other; each of its images is read once."""
        item = self.items[index]
        images: Images = self.videos[item.video_id]
        views = list(self.preprocessing.test_views(item.stop - item.start))
        if len(views) > 1:
            images = RememberedImages(images)
        for view in views:
            clip = clip_pixels(images, item.start, item.stop, self.preprocessing, view)
            yield Sample(clip, item.target, index)


def num_reads(
    items: Iterable[ClipItem], preprocessing: Preprocessing, *, looks: int, in_test: bool = False
) -> Counter[str]:
    """By video_id, how many images `looks` looks at each of the clips read.

    Args:
        in_test: a look is all test-time windows of a clip, not one view.
    """
    reads: Counter[str] = Counter()
    for item in items:
        num_frames = item.stop - item.start
        num_windows = preprocessing.num_windows(num_frames) if in_test else 1
        reads[item.video_id] += looks * num_windows * preprocessing.num_images(num_frames)
    return reads


class Batch(NamedTuple):
    """Samples of equal shape, as `ClipPixels`, with targets and the positions that they were drawn by.

    Targets are int64 (B,) on task clip, or float32 (B, K) where clips may have several labels; on task frame float32
    (B, T, K), nan where unlabelled or padded.
    """

    pixels_BTHWC: np.ndarray
    scale_BC: np.ndarray
    shift_BC: np.ndarray
    targets: np.ndarray | None
    positions: np.ndarray
    num_frames: np.ndarray  # of each sample before padding
    matrix_BCC: np.ndarray | None = None
    warp_B23: np.ndarray | None = None
    mixing: Mixing | None = None

    def rows(self, rows: np.ndarray) -> "Batch":
        """Some of the samples, mixed among themselves where the batch is mixed."""
        arrays = {name: values for name, values in self._asdict().items() if isinstance(values, np.ndarray)}
        return self._replace(**{name: values[rows] for name, values in arrays.items()})


def collate(samples: Sequence[Sample]) -> Batch:
    """Stack samples; shorter ones are padded at the end with their last frame, and their targets with nan."""
    lengths = np.array([len(sample.clip.pixels_THWC) for sample in samples])
    longest = int(lengths.max())
    targets: np.ndarray | None = None
    first = samples[0].target
    if isinstance(first, np.ndarray) and first.ndim == 1:
        targets = np.stack([np.asarray(sample.target, np.float32) for sample in samples])
    elif isinstance(first, np.ndarray):
        padded = np.full((len(samples), longest, first.shape[1]), np.nan, np.float32)
        for row, sample in enumerate(samples):
            assert isinstance(sample.target, np.ndarray)
            padded[row, : len(sample.target)] = sample.target
        targets = padded
    elif first is not None:
        targets = np.array([sample.target for sample in samples], np.int64)
    return Batch(
        np.stack([_pad_frames(sample.clip.pixels_THWC, longest) for sample in samples]),
        np.stack([sample.clip.scale_C for sample in samples]),
        np.stack([sample.clip.shift_C for sample in samples]),
        targets,
        np.array([sample.position for sample in samples]),
        lengths,
        _stack_some([sample.clip.matrix_CC for sample in samples]),
        _stack_some([sample.clip.warp_23 for sample in samples]),
    )


def _stack_some(arrays: Sequence[np.ndarray | None]) -> np.ndarray | None:
    """None where there is none; among others a sample without one gets ones on the diagonal, which change nothing."""
    found = next((array for array in arrays if array is not None), None)
    if found is None:
        return None
    nothing = np.eye(*found.shape, dtype=found.dtype)
    return np.stack([nothing if array is None else array for array in arrays])


def _pad_frames(pixels_THWC: np.ndarray, num_frames: int) -> np.ndarray:
    missing = num_frames - len(pixels_THWC)
    return np.pad(pixels_THWC, ((0, missing), (0, 0), (0, 0), (0, 0)), mode="edge") if missing else pixels_THWC


def prefetch(
    make: Callable[[Sequence[int]], Batch], batches: Sequence[Sequence[int]], *, depth: int
) -> Iterator[Batch]:
    """Batches made ahead of their use by `depth` threads; in order. Depth 0 makes each when it is asked for."""
    if depth == 0:
        yield from (make(indices) for indices in batches)
        return
    with ThreadPoolExecutor(depth) as pool:
        waiting = [pool.submit(make, indices) for indices in batches[:depth]]
        for following in range(depth, len(batches) + depth):
            batch = waiting.pop(0).result()
            if following < len(batches):
                waiting.append(pool.submit(make, batches[following]))
            yield batch


def without_augmentation(dataset: ClipDataset) -> ClipDataset:
    """The same clips, in fixed views."""
    return replace(dataset, augment=None)
