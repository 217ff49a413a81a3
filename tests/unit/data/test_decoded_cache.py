import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch

from kineflow.data import open_videos
from kineflow.data.dataset import ClipDataset, ClipItem, collate, num_reads, prefetch
from kineflow.data.decoded_cache import DecodedCache
from kineflow.data.open_videos import OpenVideos, plan_cache
from kineflow.data.preprocessing import clip_pixels
from kineflow.data.readers import DecodedImages, StreamStore
from kineflow.data.views import Augment, fixed_views
from kineflow.training.inputs import model_input
from kineflow.video.frame_store import FrameReader
from tests.unit.data.test_preprocessing import RULE, make
from tests.unit.video.test_dct_scale import flow_store, frame_store, smooth

NUM_VIDEOS, NUM_FRAMES, HEIGHT, WIDTH = 4, 12, 64, 80
BYTES_OF_VIDEO = NUM_FRAMES * 32 * 40 * 3 + 128  # at half size, and the header
AUGMENT = Augment(flip=True, crop_scale_min=0.8, brightness=0.2, amplitude=0.3, time_jitter=0.2)
PREPROCESSING = make(height_px=24, width_px=24, decode_height_px=30, decode_width_px=30)


@pytest.fixture(scope="module")
def frames(tmp_path_factory) -> StreamStore:
    root = tmp_path_factory.mktemp("frames")
    rows = ["video_id\tkey\tnum_frames"]
    for video in range(NUM_VIDEOS):
        images = [(smooth(HEIGHT, WIDTH, seed=100 * video + i) * 255).astype(np.uint8) for i in range(NUM_FRAMES)]
        frame_store(root / f"v{video}.zip", images).close()
        rows.append(f"v{video}\tkey{video}\t{NUM_FRAMES}")
    (root / "index.tsv").write_text("\n".join(rows) + "\n")
    return StreamStore.of("rgb", root)


@pytest.fixture(scope="module")
def flow(tmp_path_factory) -> StreamStore:
    root = tmp_path_factory.mktemp("flow")
    flows = [smooth(HEIGHT, WIDTH, seed=i, channels=2) * 8 - 4 for i in range(NUM_FRAMES - 1)]
    flow_store(root / "v0.zip", flows).close()
    (root / "index.tsv").write_text(f"video_id\tkey\tnum_frames\nv0\tkey0\t{NUM_FRAMES - 1}\n")
    return StreamStore.of("flow", root)


def items(num_videos: int = NUM_VIDEOS) -> list[ClipItem]:
    return [ClipItem(f"c{v}", f"v{v}", 0, NUM_FRAMES, 0) for v in range(num_videos)]


def dataset(store: StreamStore, cache: DecodedCache, *, num_epochs: int = 100, **changes) -> ClipDataset:
    clips = items(len(store.keys))
    preprocessing = make(**({"height_px": 24, "width_px": 24, "decode_height_px": 30, "decode_width_px": 30} | changes))
    plan = plan_cache(cache, store, preprocessing, num_reads(clips, preprocessing, looks=num_epochs))
    videos = OpenVideos(lambda video_id: store.open(video_id, preprocessing), plan)
    return ClipDataset(clips, videos, preprocessing, AUGMENT, seed=1)


def tensors(clips: ClipDataset, *, epochs: int = 3) -> np.ndarray:
    batches = [collate([clips.sample(i, epoch=epoch) for i in range(len(clips))]) for epoch in range(epochs)]
    return np.stack([model_input(batch, clips.preprocessing, torch.device("cpu")).numpy() for batch in batches])


def files(cache: DecodedCache) -> list[Path]:
    return sorted(cache.root.iterdir()) if cache.root.exists() else []


def test_the_tensor_does_not_depend_on_the_cache(frames, tmp_path):
    cache = DecodedCache(tmp_path / "decoded", 10**9)
    without = tensors(dataset(frames, DecodedCache(tmp_path / "none", 0)))
    filling, filled = dataset(frames, cache), dataset(frames, cache)
    np.testing.assert_array_equal(tensors(filling), without)
    assert len(files(cache)) == NUM_VIDEOS and not (tmp_path / "none").exists()
    written = {path: path.stat().st_ino for path in files(cache)}
    np.testing.assert_array_equal(tensors(filled), without)
    assert {path: path.stat().st_ino for path in files(cache)} == written
    assert isinstance(filled.videos["v0"], DecodedImages)


def test_flow_does_not_depend_on_the_cache(flow, tmp_path):
    cache = DecodedCache(tmp_path / "decoded", 10**9)
    changes = {"stream": "flow", "flow": {"rule": asdict(RULE)}}
    without = tensors(dataset(flow, DecodedCache(tmp_path / "none", 0), **changes))
    for _ in range(2):
        clips = dataset(flow, cache, **changes)
        np.testing.assert_array_equal(tensors(clips), without)
    assert clips.videos["v0"].eighths == 4 and isinstance(clips.videos["v0"], DecodedImages)


def test_a_file_is_an_array_that_numpy_opens(frames, tmp_path):
    cache = DecodedCache(tmp_path, 10**9)
    source = frames.open("v1", PREPROCESSING)
    assert cache.images(source, store_key="key1", stream="rgb") is not None
    (path,) = files(cache)
    array = np.load(path)
    assert array.shape == (NUM_FRAMES, 32, 40, 3) and array.dtype == np.uint8
    np.testing.assert_array_equal(array, [source[i] for i in range(NUM_FRAMES)])


def test_sizes_and_streams_have_their_own_files(frames, tmp_path):
    cache = DecodedCache(tmp_path, 10**9)
    large = make(decode_height_px=64, decode_width_px=64)
    for preprocessing, stream in ((PREPROCESSING, "rgb"), (large, "rgb"), (PREPROCESSING, "pose")):
        cache.images(frames.open("v0", preprocessing), store_key="key0", stream=stream)
    assert len(files(cache)) == 3


def test_what_was_opened_longest_ago_makes_room(frames, tmp_path):
    cache = DecodedCache(tmp_path, int(3.5 * BYTES_OF_VIDEO))
    sources = [frames.open(f"v{video}", PREPROCESSING) for video in range(NUM_VIDEOS)]
    for video in range(3):
        mapped = cache.images(sources[video], store_key=f"key{video}", stream="rgb")
        assert mapped is not None
        os.utime(files_of(cache, mapped), (1000 + video, 1000 + video))
    first = cache.images(sources[0], store_key="key0", stream="rgb")  # so that the second is the oldest
    assert first is not None
    before = set(files(cache))
    last = cache.images(sources[3], store_key="key3", stream="rgb")
    assert last is not None
    (gone,) = before - set(files(cache))
    assert len(files(cache)) == 3 and sum(path.stat().st_size for path in files(cache)) <= cache.max_bytes
    kept = [np.load(path) for path in files(cache)]
    for video, expected in ((0, True), (1, False), (2, True), (3, True)):
        assert any(np.array_equal(array[0], sources[video][0]) for array in kept) is expected, (video, gone)


def files_of(cache: DecodedCache, images: DecodedImages) -> Path:
    """The file that holds `images`."""
    (path,) = [path for path in files(cache) if np.array_equal(np.load(path), images.array_NHWC)]
    return path


def test_deleted_files_are_read_to_the_end_and_made_again(frames, tmp_path):
    cache = DecodedCache(tmp_path / "decoded", 10**9)
    source = frames.open("v0", PREPROCESSING)
    mapped = cache.images(source, store_key="key0", stream="rgb")
    shutil.rmtree(cache.root)
    assert mapped is not None
    np.testing.assert_array_equal(mapped[NUM_FRAMES - 1], source[NUM_FRAMES - 1])
    assert cache.images(source, store_key="key0", stream="rgb") is not None
    assert len(files(cache)) == 1


def test_a_file_that_was_cut_off_is_made_again(frames, tmp_path):
    cache = DecodedCache(tmp_path, 10**9)
    source = frames.open("v0", PREPROCESSING)
    cache.images(source, store_key="key0", stream="rgb")
    (path,) = files(cache)
    whole = path.read_bytes()
    for num_bytes in (0, 5, 100, len(whole) - 1):
        path.write_bytes(whole[:num_bytes])
        images = cache.images(source, store_key="key0", stream="rgb")
        assert images is not None and path.read_bytes() == whole


def test_many_more_videos_than_there_is_room_for_stay_within_it(frames, tmp_path):
    cache = DecodedCache(tmp_path, 10 * BYTES_OF_VIDEO)
    source = frames.open("v0", PREPROCESSING)
    most = 0
    for number in range(60):
        assert cache.images(source, store_key=f"key{number}", stream="rgb") is not None
        sizes = [path.stat().st_size for path in files(cache)]
        assert sum(sizes) <= cache.max_bytes
        most = max(most, len(sizes))
    assert most >= 9


def test_what_a_killed_process_left_is_swept_when_it_is_old(tmp_path):
    cache = DecodedCache(tmp_path, 1000)
    for name, age_sec in ((".partial-old", 700), (".partial-new", 10)):
        path = tmp_path / name
        path.write_bytes(b"half")
        os.utime(path, (time.time() - age_sec,) * 2)
    cache.sweep()
    assert [path.name for path in files(cache)] == [".partial-new"]
    DecodedCache(tmp_path / "nowhere", 0).sweep()


def test_a_video_larger_than_the_cache_is_read_from_the_store(frames, tmp_path):
    cache = DecodedCache(tmp_path, 1000)
    assert cache.images(frames.open("v0", PREPROCESSING), store_key="key0", stream="rgb") is None
    assert files(cache) == []


WRITE_WITH_A_LIMIT = """
import json, resource, sys
from pathlib import Path
from kineflow.data.decoded_cache import DecodedCache
from kineflow.data.readers import StreamStore
from tests.unit.data.test_decoded_cache import PREPROCESSING
store, root = StreamStore.of("rgb", Path(sys.argv[1])), Path(sys.argv[2])
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))  # writing fails in the middle of a video
found = DecodedCache(root, 10**9).images(store.open("v0", PREPROCESSING), store_key="key0", stream="rgb")
print(json.dumps([found is None, [str(path) for path in root.glob("*")]]))
"""


def test_a_disk_that_is_full_leaves_nothing_and_stops_nothing(frames, tmp_path, repository):
    command = [sys.executable, "-c", WRITE_WITH_A_LIMIT, str(frames.root), str(tmp_path / "decoded")]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [True, []]


def test_it_pays_where_every_image_is_read_twice(frames, tmp_path):
    cache = DecodedCache(tmp_path, 10**9)
    reads = {"v0": 2 * NUM_FRAMES, "v1": 2 * NUM_FRAMES - 1, "v2": 100 * NUM_FRAMES}
    assert plan_cache(cache, frames, PREPROCESSING, reads).store_keys == {"v0": "key0", "v2": "key2"}
    assert plan_cache(DecodedCache(tmp_path, 0), frames, PREPROCESSING, reads).store_keys == {}


def test_a_cache_that_is_too_small_keeps_the_same_videos_for_every_fold(frames, tmp_path):
    one_in_two = DecodedCache(tmp_path, int((NUM_VIDEOS // 2 + 0.5) * BYTES_OF_VIDEO))
    reads = dict.fromkeys(frames.keys, 10**6)
    kept = plan_cache(one_in_two, frames, PREPROCESSING, reads).store_keys
    assert 0 < len(kept) < NUM_VIDEOS
    for left_out in frames.keys:
        fold = {video_id: count for video_id, count in reads.items() if video_id != left_out}
        of_fold = plan_cache(one_in_two, frames, PREPROCESSING, fold).store_keys
        assert of_fold == {video_id: key for video_id, key in kept.items() if video_id != left_out}


def test_reads_of_clips_by_hand():
    clips = [ClipItem("a", "v", 0, 30, 0), ClipItem("b", "v", 10, 20, 0), ClipItem("c", "w", 0, 9, 0)]
    assert num_reads(clips, make(), looks=1) == {"v": 8, "w": 4}
    assert num_reads(clips, make(task="frame"), looks=3) == {"v": 120, "w": 27}


def test_threads_share_a_cache_that_is_being_filled(frames, tmp_path):
    without = dataset(frames, DecodedCache(tmp_path / "none", 0))
    clips = dataset(frames, DecodedCache(tmp_path / "decoded", 10**9))

    def make_batch(positions):
        return collate([clips.sample(position, epoch=0) for position in positions])

    batches = [[0, 1], [1, 2], [2, 3], [3, 0]] * 3
    for positions, batch in zip(batches, prefetch(make_batch, batches, depth=4), strict=True):
        expected = collate([without.sample(position, epoch=0) for position in positions])
        np.testing.assert_array_equal(batch.pixels_BTHWC, expected.pixels_BTHWC)


def test_several_views_of_a_clip_read_each_image_once(frames, monkeypatch, tmp_path):
    clips = dataset(frames, DecodedCache(tmp_path, 0), num_views=4)
    read: list[int] = []
    decode = FrameReader.read_scaled

    def counted(self, item, eighths):
        read.append(item)
        return decode(self, item, eighths)

    monkeypatch.setattr(FrameReader, "read_scaled", counted)
    together = list(clips.fixed_views(0))
    assert len(read) == len(set(read)) > 4
    for view, sample in zip(fixed_views(4), together, strict=True):
        images = frames.open("v0", clips.preprocessing)
        alone = clip_pixels(images, 0, NUM_FRAMES, clips.preprocessing, view)
        np.testing.assert_array_equal(sample.clip.pixels_THWC, alone.pixels_THWC)


def test_open_stores_are_bounded_by_their_images(monkeypatch):
    monkeypatch.setattr(open_videos, "MAX_OPEN_IMAGES", 100)
    opened: list[str] = []

    def open_images(video_id: str) -> DecodedImages:
        opened.append(video_id)
        return DecodedImages(np.zeros((40 if video_id != "long" else 1000, 1, 1, 3), np.uint8))

    videos = OpenVideos(open_images)
    for video_id in ("a", "b", "a", "c", "a", "long", "long", "a", "c"):
        assert len(videos[video_id]) in (40, 1000)
    # By hand: two of 40 fit; c closes b, long closes a and c and is open alone, a closes long.
    assert opened == ["a", "b", "c", "long", "a", "c"]


def test_what_is_planned_fits_where_videos_differ_in_size(tmp_path):
    root = tmp_path / "frames"
    root.mkdir()
    rows = ["video_id\tkey\tnum_frames"]
    for video in range(12):  # most are four times as large as the longest one
        height, width, num_frames = (32, 40, 14) if video == 0 else (64, 80, 12)
        images = [np.full((height, width, 3), 9 * i, np.uint8) for i in range(num_frames)]
        frame_store(root / f"v{video}.zip", images).close()
        rows.append(f"v{video}\tkey{video}\t{num_frames}")
    (root / "index.tsv").write_text("\n".join(rows) + "\n")
    store, whole = StreamStore.of("rgb", root), make(decode_height_px=64, decode_width_px=64)
    cache = DecodedCache(tmp_path / "decoded", 6 * 12 * 64 * 80 * 3)
    plan = plan_cache(cache, store, whole, dict.fromkeys(store.keys, 10**6))
    for video_id, key in plan.store_keys.items():
        assert cache.images(store.open(video_id, whole), store_key=key, stream="rgb") is not None
    assert len(files(cache)) == len(plan.store_keys) >= 4  # none had to go
    assert sum(path.stat().st_size for path in files(cache)) <= cache.max_bytes


def mapped_and_deleted() -> list[str]:
    return [line for line in Path("/proc/self/maps").read_text().splitlines() if ".npy (deleted)" in line]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_files_that_made_room_are_not_mapped_any_more(frames, tmp_path):
    cache = DecodedCache(tmp_path, 10**9)
    plan = plan_cache(cache, frames, PREPROCESSING, dict.fromkeys(frames.keys, 10**6))
    videos = OpenVideos(lambda video_id: frames.open(video_id, PREPROCESSING), plan)
    wanted = {video_id: frames.open(video_id, PREPROCESSING)[3] for video_id in frames.keys}
    for video_id in ("v0", "v1", "v2"):
        np.testing.assert_array_equal(videos[video_id][3], wanted[video_id])
    for path in files(cache):
        path.unlink()
    assert len(mapped_and_deleted()) == 3
    np.testing.assert_array_equal(videos["v3"][3], wanted["v3"])  # is decoded, and the others looked at
    assert mapped_and_deleted() == []
    np.testing.assert_array_equal(videos["v0"][3], wanted["v0"])  # out of the store
