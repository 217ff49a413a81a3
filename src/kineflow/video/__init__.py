"""From a video file to stored frames and flow: probe, decode, resample by time, pack, read any frame."""
