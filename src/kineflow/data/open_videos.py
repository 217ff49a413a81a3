"""The videos of a training, each opened once, and out of the decoded cache where that pays."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from kineflow.data.decoded_cache import DecodedCache, map_again
from kineflow.data.preprocessing import Images, Preprocessing
from kineflow.data.readers import DecodedImages, StreamStore
from kineflow.store import digest

MAX_OPEN_STORES = 256  # each holds a file descriptor, of which a process usually has 1024
MAX_MAPPED = 192  # cached files, of which each holds one too
MAX_OPEN_IMAGES = 2_000_000  # of all open stores: some 32 bytes of each are held
MIN_USES = 2  # of every image of a video on average, before it pays to decode and write all of them


@dataclass(frozen=True)
class CachePlan:
    """Which videos a training keeps decoded.

    Args:
        stream: whose images they are.
        store_keys: by video_id, the key of each of them in the store.
    """

    cache: DecodedCache
    stream: str
    store_keys: Mapping[str, str]


def plan_cache(
    cache: DecodedCache, store: StreamStore, preprocessing: Preprocessing, num_reads: Mapping[str, int]
) -> CachePlan:
    """Keep a video decoded where a training reads it `MIN_USES` times over, and the cache has room for it.

    Where the store is larger than the cache, a fixed share of its videos is kept, the same for every fold: to let
    each video push out another would decode all of them in every epoch.

    Args:
        num_reads: by video_id, how many images the training will ask for.
    """
    plan = CachePlan(cache, store.stream, {})
    total_images = sum(store.num_frames.values())
    if store.stream == "embedding" or cache.max_bytes == 0 or total_images == 0:
        return plan
    with_room = _with_room(cache, store, preprocessing)
    kept = {
        video_id: store.keys[video_id]
        for video_id, reads in num_reads.items()
        if reads >= MIN_USES * store.num_frames[video_id] and video_id in with_room
    }
    return CachePlan(cache, store.stream, kept)


def _with_room(cache: DecodedCache, store: StreamStore, preprocessing: Preprocessing) -> set[str]:
    """Videos that fit into the cache together, each weighed; chosen by chance but always the same."""
    with_room: set[str] = set()
    left_bytes = cache.plannable_bytes
    for video_id in sorted(store.keys, key=lambda video_id: digest(key=store.keys[video_id])):
        left_bytes -= cache.file_bytes(store.open(video_id, preprocessing))
        if left_bytes < 0:
            break
        with_room.add(video_id)
    return with_room


class OpenVideos:
    """Images of videos by video_id; safe to share between threads.

    Args:
        open_images: opens a video in its store.
        plan: which are read from the cache instead; none without it.
    """

    def __init__(self, open_images: Callable[[str], Images], plan: CachePlan | None = None) -> None:
        self._open_images = open_images
        self._cache = None if plan is None else plan.cache
        self._stream = "" if plan is None else plan.stream
        self._to_decode = {} if plan is None else dict(plan.store_keys)
        self._decoded: OrderedDict[str, DecodedImages] = OrderedDict()
        self._let_go: dict[str, tuple[Path, int]] = {}  # the file and eighths of those no longer in _decoded
        self._stored: OrderedDict[str, Images] = OrderedDict()
        self._num_open_images = 0  # of those in _stored
        self._lock = threading.Lock()

    def __getitem__(self, video_id: str) -> Images:
        with self._lock:
            if (known := self._decoded.get(video_id)) is not None:
                if _is_there(known):
                    self._decoded.move_to_end(video_id)
                    return known
                self._drop_deleted()
            if video_id in self._let_go and (again := map_again(*self._let_go.pop(video_id))) is not None:
                return self._keep_mapped(video_id, again)
            if video_id in self._stored:
                self._stored.move_to_end(video_id)
                return self._stored[video_id]
            store_key = self._to_decode.pop(video_id, None)  # one thread decodes, others read the store meanwhile
        images = self._open_images(video_id)
        decoded = None
        if store_key is not None and self._cache is not None:
            decoded = self._cache.images(images, store_key=store_key, stream=self._stream)
        with self._lock:
            if decoded is not None:
                self._drop_deleted()  # to make room for this one, perhaps
                self._num_open_images -= len(self._stored.pop(video_id, ()))
                return self._keep_mapped(video_id, decoded)
            return self._keep_open(video_id, images)

    def _drop_deleted(self) -> None:
        """Let go of files that made room for others: their blocks are freed once nobody maps them."""
        for video_id in [video_id for video_id, images in self._decoded.items() if not _is_there(images)]:
            del self._decoded[video_id]

    def _keep_mapped(self, video_id: str, images: DecodedImages) -> DecodedImages:
        """Hold a cached file, and as many of those used last as there are file descriptors for."""
        self._decoded[video_id] = images
        while len(self._decoded) > MAX_MAPPED:
            closed, left = self._decoded.popitem(last=False)
            if left.file is not None:
                self._let_go[closed] = (left.file, left.eighths)
        return images

    def _keep_open(self, video_id: str, images: Images) -> Images:
        """Hold a store open, and as many of those used last as there is room for beside it."""
        self._num_open_images += len(images) - len(self._stored.pop(video_id, ()))
        self._stored[video_id] = images
        while len(self._stored) > MAX_OPEN_STORES or (
            self._num_open_images > MAX_OPEN_IMAGES and len(self._stored) > 1
        ):
            _, closed = self._stored.popitem(last=False)
            self._num_open_images -= len(closed)
        return images


def _is_there(images: DecodedImages) -> bool:
    return images.file is None or images.file.exists()
