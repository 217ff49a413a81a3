"""Clips as tensors with their targets: deterministic by seed, epoch and index, read through a bounded cache."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from kineflow.data.event_clips import Span
from kineflow.data.negatives import redrawn_start
from kineflow.data.preprocessing import Augment, Preprocessing, Reader, View, clip_tensor, draw_view, test_view

DEFAULT_CACHE_BYTES = 2 * 1024**3


@dataclass(frozen=True)
class ClipItem:
    """One clip and what it shows.

    Args:
        clip_id: as in the clips table.
        video_id: whose reader it is read from.
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
    """One view of one clip: float32 (C, T, H, W), its target, and the place of the clip in the data set."""

    tensor: np.ndarray
    target: int | np.ndarray | None
    position: int


class ReaderCache:
    """Decoded videos, least recently used out first; safe to share between threads.

    Args:
        open_reader: opens the reader of a video.
        max_bytes: of decoded arrays kept; a video that is larger by itself is read in place.
    """

    def __init__(self, open_reader: Callable[[str], Reader], max_bytes: int = DEFAULT_CACHE_BYTES) -> None:
        self._open_reader = open_reader
        self._max_bytes = max_bytes
        self._num_bytes = 0
        self._readers: OrderedDict[str, Reader] = OrderedDict()
        self._lock = threading.Lock()

    def __getitem__(self, video_id: str) -> Reader:
        with self._lock:
            reader = self._readers.get(video_id)
            if reader is None:
                reader = self._load(video_id)
            else:
                self._readers.move_to_end(video_id)
            return reader

    def _load(self, video_id: str) -> Reader:
        reader = self._open_reader(video_id)
        if len(reader) == 0:
            return reader
        first = reader.read(np.arange(1))
        if first.nbytes * len(reader) > self._max_bytes / 4:
            return reader
        decoded = InMemoryReader(reader.read(np.arange(len(reader))))
        self._readers[video_id] = decoded
        self._num_bytes += decoded.array.nbytes
        while self._num_bytes > self._max_bytes:
            _, dropped = self._readers.popitem(last=False)
            assert isinstance(dropped, InMemoryReader)
            self._num_bytes -= dropped.array.nbytes
        return decoded


@dataclass(frozen=True)
class InMemoryReader:
    """A video that is decoded already."""

    array: np.ndarray  # (N, H, W, C)

    def __len__(self) -> int:
        return len(self.array)

    def read(self, indices: np.ndarray) -> np.ndarray:
        """(T, H, W, C) at `indices`."""
        return self.array[indices]


@dataclass(frozen=True)
class ClipDataset:
    """Clips of one stream.

    Args:
        items: in the order that indices refer to.
        readers: of the stream's store.
        preprocessing: the same value that is saved with the model.
        augment: the ranges of random views; None for fixed views.
        seed: of the random views.
    """

    items: Sequence[ClipItem]
    readers: ReaderCache
    preprocessing: Preprocessing
    augment: Augment | None = None
    seed: int = 0

    def __len__(self) -> int:
        return len(self.items)

    def sample(self, index: int, *, epoch: int) -> Sample:
        """A training view of clip `index`, drawn from the seed, the epoch and the index alone."""
        view = View()
        if self.augment is not None:
            view = draw_view(np.random.default_rng([self.seed, epoch, index]), self.augment)
        item = self.items[index]
        if item.redraw_starts:
            item = item.moved_to(redrawn_start(item.redraw_starts, seed=self.seed, epoch=epoch, index=index))
        return self._make(item, index, view)

    def fixed_view(self, index: int, *, view: int) -> Sample:
        """Test-time view `view` of clip `index`."""
        return self._make(self.items[index], index, test_view(view, self.preprocessing.num_views))

    def _make(self, item: ClipItem, index: int, view: View) -> Sample:
        tensor = clip_tensor(self.readers[item.video_id], item.start, item.stop, self.preprocessing, view)
        return Sample(tensor, item.target, index)


class Batch(NamedTuple):
    """Samples of equal shape: float32 (B, C, T, H, W), targets, positions of the clips in the data set.

    Targets are int64 (B,) on task clip, or float32 (B, K) where clips may have several labels; on task frame float32
    (B, T, K), nan where unlabelled or padded.
    """

    clips_BCTHW: np.ndarray
    targets: np.ndarray | None
    positions: np.ndarray
    num_frames: np.ndarray  # of each sample before padding


def collate(samples: Sequence[Sample]) -> Batch:
    """Stack samples; shorter ones are padded at the end with their last frame, and their targets with nan."""
    longest = max(sample.tensor.shape[1] for sample in samples)
    tensors = [_pad_frames(sample.tensor, longest) for sample in samples]
    lengths = np.array([sample.tensor.shape[1] for sample in samples])
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
    return Batch(np.stack(tensors), targets, np.array([sample.position for sample in samples]), lengths)


def _pad_frames(tensor_CTHW: np.ndarray, num_frames: int) -> np.ndarray:
    missing = num_frames - tensor_CTHW.shape[1]
    return np.pad(tensor_CTHW, ((0, 0), (0, missing), (0, 0), (0, 0)), mode="edge") if missing else tensor_CTHW


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
