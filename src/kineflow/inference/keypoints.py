"""The keypoints of a video that is to be labelled: beside it, or where training found them."""

from collections.abc import Iterator
from pathlib import Path

from kineflow import storage
from kineflow.errors import DataError
from kineflow.store import home
from kineflow.video.pose_files import PoseFiles, belongs_to, find_pose_files, is_pose_file


def find_keypoints(video: Path, video_id: str, *, trained_on: str | None) -> PoseFiles:
    """The keypoints of `video`.

    Args:
        video_id: by which `trained_on` may know it.
        trained_on: the folder or s3:// prefix of the training's keypoints; looked into where none lie beside.

    Raises:
        DataError: there are none in either place, or several.
        ServiceError: they are on S3, and that is out of reach.
    """
    beside = [key for key in _keys_beside(video) if is_pose_file(key) and belongs_to(key, video.name)]
    if beside:
        return find_pose_files(str(video.parent), beside, [video.name], {})[video.name]
    if trained_on is not None and (storage.is_s3(trained_on) or Path(trained_on).is_dir()):
        listed = {info.key: info for info in storage.list_files(trained_on) if belongs_to(info.key, video_id)}
        files = {key: info for key, info in listed.items() if is_pose_file(key)}
        if files:
            cache_dir = home() / "objects"
            hashes = {key: storage.sha256_of(trained_on, info, cache_dir=cache_dir) for key, info in files.items()}
            return find_pose_files(trained_on, files, [video_id], hashes)[video_id]
    names = f"{video.stem}DLC*.csv, {video.stem}.json or, of OpenPose, the folder {video.stem}"
    raise DataError(f"{video}: this model looks at keypoints, and there are none beside the video; put {names} there")


def _keys_beside(video: Path) -> Iterator[str]:
    """Files in the folder of the video, and in a folder of its name."""
    yield from (path.name for path in sorted(video.parent.iterdir()) if path.is_file())
    inside = video.with_suffix("")
    if inside.is_dir():
        yield from (f"{inside.name}/{path.name}" for path in sorted(inside.iterdir()))
