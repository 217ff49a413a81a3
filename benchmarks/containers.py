"""One file for each video: the same frames in several containers; size, writing, and random clips out of each.

The decision that rests on it is `docs/decisions/2026-11-21-frames-in-a-zip-of-jpegs.md`.
"""

import io
import json
import random
import tarfile
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import av
import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray

from benchmarks.clips import real_clips, write_clip
from benchmarks.timing import Comparison, compare
from kineflow.video.extract import FrameSize, extract_frames
from kineflow.video.frame_store import FrameReader, writing_frames

QUALITY, FPS, SHORT_SIDE_PX = 95, 15, 128
CLIP_FRAMES, STRIDE, NUM_CLIPS = 16, 2, 60
GOP_FRAMES = 8

Frames = NDArray[np.uint8]  # (T, H, W, 3), RGB
Read = Callable[[Sequence[int]], Frames]


def encode(frame: Frames) -> bytes:
    """A JPEG as the store keeps it: 4:2:0."""
    jpeg: bytes = simplejpeg.encode_jpeg(frame, quality=QUALITY, colorspace="RGB", colorsubsampling="420")
    return jpeg


def decode(jpegs: Sequence[bytes]) -> Frames:
    """Frames of JPEGs."""
    return np.stack([simplejpeg.decode_jpeg(jpeg, "RGB") for jpeg in jpegs])


def write_folder(frames: Frames, path: Path) -> None:
    """One JPEG file for each frame."""
    path.mkdir(exist_ok=True)
    for index, frame in enumerate(frames):
        (path / f"{index:06d}.jpg").write_bytes(encode(frame))


def open_folder(path: Path) -> Read:
    """By OpenCV, as most loaders do."""
    return lambda items: np.stack(
        [cv2.cvtColor(cv2.imread(str(path / f"{item:06d}.jpg")), cv2.COLOR_BGR2RGB) for item in items]
    )


def write_zip(frames: Frames, path: Path) -> None:
    """Kineflow's frame store."""
    with writing_frames(path, fps=FPS, height=frames.shape[1], width=frames.shape[2], quality=QUALITY) as writer:
        for index, frame in enumerate(frames):
            writer.append(encode(frame), source_frame=index, timestamp_sec=index / FPS)


def open_zip(path: Path) -> Read:
    """By `FrameReader`."""
    return FrameReader(path).read


def write_tar(frames: Frames, path: Path) -> None:
    """JPEGs, and last an index of where each lies."""
    places = []
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as archive:
        for index, frame in enumerate(frames):
            data = encode(frame)
            info = tarfile.TarInfo(f"{index:06d}.jpg")
            info.size = len(data)
            places.append((archive.offset + 512, len(data)))
            archive.addfile(info, io.BytesIO(data))
        data = json.dumps(places).encode()
        info = tarfile.TarInfo("index.json")
        info.size = len(data)
        archive.addfile(info, io.BytesIO(data))


def open_tar(path: Path) -> Read:
    """By one read a frame."""
    with tarfile.open(path) as archive:
        index = archive.extractfile("index.json")
        assert index is not None
        places = json.load(index)
    file = path.open("rb")

    def read(items: Sequence[int]) -> Frames:
        jpegs = []
        for item in items:
            offset, size = places[item]
            file.seek(offset)
            jpegs.append(file.read(size))
        return decode(jpegs)

    return read


def write_mjpeg(frames: Frames, path: Path) -> None:
    """The same JPEGs as packets of a video."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=FPS)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuvj420p"
        tick = 1 / stream.codec_context.framerate
        for index, frame in enumerate(frames):
            packet = av.Packet(encode(frame))
            packet.stream, packet.time_base = stream, tick
            packet.pts = packet.dts = index
            packet.duration, packet.is_keyframe = 1, True
            container.mux(packet)


def open_video(path: Path, *, packets_are_jpegs: bool) -> Read:
    """Seek to the key frame before the first frame wanted, then forward."""
    container = av.open(str(path))
    stream = container.streams.video[0]
    stream.codec_context.thread_count = 1
    assert stream.time_base is not None
    ticks_per_frame = 1 / (FPS * float(stream.time_base))

    def read(items: Sequence[int]) -> Frames:
        container.seek(int(items[0] * ticks_per_frame), stream=stream)
        wanted, found = set(items), []
        for packet in container.demux(stream):
            if packets_are_jpegs:
                if packet.pts is not None and round(packet.pts / ticks_per_frame) in wanted:
                    found.append(simplejpeg.decode_jpeg(bytes(packet), "RGB"))
            else:
                images = [image for image in packet.decode() if round(image.pts / ticks_per_frame) in wanted]
                found += [image.to_ndarray(format="rgb24") for image in images]
            if len(found) == len(items):
                break
        return np.stack(found)

    return read


def write_h264(frames: Frames, path: Path) -> None:
    """A key frame every eight frames, no B-frames, so good that it is hard to tell from the JPEGs."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("h264", rate=FPS)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv420p"
        stream.codec_context.thread_count = 1
        stream.options = {"preset": "veryfast", "crf": "15", "bf": "0", "g": str(GOP_FRAMES)}
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))


def write_raw(frames: Frames, path: Path) -> None:
    """One array."""
    np.save(path, frames)


def open_raw(path: Path) -> Read:
    """By memory map."""
    array = np.load(path, mmap_mode="r")
    return lambda items: np.array(array[list(items)])


CONTAINERS: tuple[tuple[str, str, Callable[[Frames, Path], None], Callable[[Path], Read]], ...] = (
    ("ZIP of JPEGs (ours)", ".zip", write_zip, open_zip),
    ("tar of JPEGs, index", ".tar", write_tar, open_tar),
    ("MJPEG in MP4", ".mp4", write_mjpeg, lambda path: open_video(path, packets_are_jpegs=True)),
    ("MJPEG in MKV", ".mkv", write_mjpeg, lambda path: open_video(path, packets_are_jpegs=True)),
    ("H.264, GOP of 8, crf 15", ".h264.mp4", write_h264, lambda path: open_video(path, packets_are_jpegs=False)),
    ("raw arrays", ".npy", write_raw, open_raw),
)


def source_frames(root: Path) -> list[Frames]:
    """Frames of real clips where they are at hand, else of a generated one."""
    clips = real_clips("ut_interaction/videos/*.avi", limit=8)
    clips += real_clips("odd_clips/mmaction2/demo.mp4", limit=1) + real_clips("odd_clips/imageio/cockatoo.mp4", limit=1)
    if not clips:
        clips = [write_clip(root / "a.mp4", codec="h264", height=240, width=320, fps=30, num_frames=300)]
    found = []
    for clip in clips:
        size = FrameSize(short_side_px=SHORT_SIDE_PX)
        num_frames = extract_frames(clip, root / "a.zip", fps=float(FPS), size=size, jpeg_quality=QUALITY)
        if num_frames > CLIP_FRAMES * STRIDE:
            found.append(FrameReader(root / "a.zip").read(range(num_frames)))
    return found


def main() -> list[Comparison]:
    """Print sizes and ratios to a folder of JPEGs read by OpenCV; half a minute."""
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        videos = source_frames(root)
        draw = random.Random(0)
        picks = [
            (v, draw.randrange(len(videos[v]) - CLIP_FRAMES * STRIDE))
            for v in draw.choices(range(len(videos)), k=NUM_CLIPS)
        ]
        comparisons = []
        folder = [root / f"{index}.folder" for index in range(len(videos))]
        for label, suffix, write, open_ in CONTAINERS:
            paths = [root / f"{index}{suffix}" for index in range(len(videos))]
            comparisons += _compare(label, videos, picks, paths, folder, write, open_)
        return comparisons


def _compare(
    label: str,
    videos: Sequence[Frames],
    picks: Sequence[tuple[int, int]],
    paths: Sequence[Path],
    folders: Sequence[Path],
    write: Callable[[Frames, Path], None],
    open_: Callable[[Path], Read],
) -> list[Comparison]:
    def write_all(function: Callable[[Frames, Path], None], targets: Sequence[Path]) -> None:
        for frames, path in zip(videos, targets, strict=True):
            function(frames, path)

    def read_all(readers: Sequence[Read]) -> None:
        for video, start in picks:
            readers[video](range(start, start + CLIP_FRAMES * STRIDE, STRIDE))

    options = {"num_rounds": 5, "max_sec": 6.0, "clock": time.process_time}
    writing = compare(
        f"write {label}; folder", lambda: write_all(write, paths), lambda: write_all(write_folder, folders), **options
    )
    num_bytes = sum(path.stat().st_size for path in paths)
    num_frames = sum(map(len, videos))
    print(f"{label}: {num_bytes / num_frames / 1000:.1f} kB a frame", flush=True)
    readers, by_opencv = [open_(path) for path in paths], [open_folder(path) for path in folders]
    for video, start in picks[:5]:
        items = range(start, start + CLIP_FRAMES * STRIDE, STRIDE)
        difference = readers[video](items).astype(int) - videos[video][list(items)]
        assert np.abs(difference).mean() < 6, label  # the same frames, but for what compression loses
    reading = compare(
        f"random clips, {label}; folder", lambda: read_all(readers), lambda: read_all(by_opencv), **options
    )
    return [writing, reading]


if __name__ == "__main__":
    main()
