"""What each row is to reach: set before the first line was written, and shown beside what is measured."""

FASTER = {  # by the name of the row: times as good as its reference
    "extract 1080p60 H.264 to 10 fps, short side 256; PyAV and OpenCV": 1.5,
    "extract 1080p60 H.264 to 10 fps, short side 256; ffmpeg": 1.3,
    "extract 1080p60 H.264 without B-frames to 10 fps, short side 256; PyAV and OpenCV": 1.5,
    "extract 1080p60 H.264 without B-frames to 10 fps, short side 256; ffmpeg": 1.3,
    "extract 320x240 H.264 to 10 fps, short side 256; PyAV and OpenCV": 1.6,
    "extract 320x240 H.264 to 10 fps, short side 256; ffmpeg": 1.6,
    "extract 320x240 H.264, every frame; PyAV and OpenCV": 1.6,
    "extract 320x240 H.264, every frame; ffmpeg": 1.6,
    "extract 6 real MPEG-4 AVI clips to 10 fps, short side 256; PyAV and OpenCV": 1.7,
    "extract 6 real MPEG-4 AVI clips, every frame, 112x144; PyAV and OpenCV": 1.7,
    "extract 1080p60 H.264 in two processes; in one": 1.8,
    "dis_fast flow 240x320 and JPEG 90, generated": 0.95,
    "dis_medium flow 240x320 and PNG, generated": 0.95,
    "dis_medium flow 240x320 and JPEG 90, generated": 0.95,
    "dis_medium flow 240x320 and JPEG 90, real": 0.95,
    "tvl1 flow 240x320 and JPEG 90, generated": 5.0,
    "dis_medium flow 240x320 and JPEG 90 in two processes; in one": 1.9,
    "load clip, store / imread, area resize": 2.3,
    "load clip, store / imread, bilinear resize": 2.3,
    "load clip, cache / imread, area resize": 5.0,
    "load clip, cache / imread, bilinear resize": 5.0,
    "load batch, store / torchvision v2": 1.6,
    "load batch, cache / torchvision v2": 5.0,
    "load batch, store, 2 workers / torchvision v2, 1": 2.5,
    "load batch, cache, 2 workers / torchvision v2, 1": 2.5,
    "dvc add of 2,000 videos, one file each / a folder of 30 JPEGs each": 3.5,
    "dvc add of 2,000 videos, one of them changed / a folder of 30 JPEGs each": 6.0,
    "train r3d_mini.avg in bf16, fit / bare loop": 1 / 1.03,
    "train r3d_tiny.avg in bf16, fit / bare loop": 1 / 1.03,
    "step of r3d_18.avg, bf16 channels-last / fp32": 3.5,
    "epoch by Ray Train, one worker / bare loop": 1 / 1.05,
    "two folds on two cores; one after the other": 1.7,
}


def bar_of(row: str) -> float | None:
    """What the row is to reach; rows that are measured against their bar say so in their name and reach 1."""
    if row.endswith((" / the bar", " s")) and " the bar" in row:
        return 1.0
    return FASTER.get(row)


def judged(row: str, ratio: float) -> str:
    """The bar, and whether it was met; empty where there is none."""
    bar = bar_of(row)
    return "" if bar is None else f"{bar:.2f} {'met' if ratio >= bar else 'missed'}"
