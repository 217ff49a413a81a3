"""Which files hold the keypoints of a video: found by its name in a folder or an s3:// prefix, read from either."""

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from kineflow import storage
from kineflow.annotations.pose import POSE_FORMATS, PoseTrack, read_pose
from kineflow.errors import DataError
from kineflow.store import digest, file_sha256

FILE_SUFFIXES = tuple(suffix for known in POSE_FORMATS if not known.of_frames for suffix in known.suffixes)
FRAME_SUFFIXES = tuple(suffix for known in POSE_FORMATS if known.of_frames for suffix in known.suffixes)


@dataclass(frozen=True)
class PoseFiles:
    """The keypoints of one video: a file, or a folder with a file for each frame.

    Args:
        root: the folder or s3:// prefix that names count from.
        name: of the file or the folder.
        keys: of its files.
        sha256s: of the content of each.
    """

    root: str
    name: str
    keys: tuple[str, ...]
    sha256s: tuple[str, ...]

    @property
    def content(self) -> str:
        """SHA-256 (hex) that changes with the keypoints, and not with where they lie."""
        if self.keys == (self.name,):
            return self.sha256s[0]
        names = [PurePosixPath(key).name for key in self.keys]
        return digest(files=list(zip(names, self.sha256s, strict=True)))

    def read(self, *, cache_dir: Path) -> PoseTrack:
        """The keypoints.

        Args:
            cache_dir: of objects; see `storage.local_file`.

        Raises:
            AnnotationError: they are malformed.
            DataError: a file is gone or has another content.
        """
        with tempfile.TemporaryDirectory() as folder:
            for key, sha256 in zip(self.keys, self.sha256s, strict=True):
                uri = storage.join(self.root, key)
                path = storage.local_file(uri, cache_dir=cache_dir, sha256=sha256).absolute()
                if not storage.is_s3(uri) and file_sha256(path) != sha256:
                    raise DataError(f"{uri} changed since sync; run sync again")
                link = Path(folder) / key  # under its own name, which says what it is
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(path)
            return read_pose(Path(folder) / self.name)


def is_pose_file(key: str) -> bool:
    """Whether a file may hold keypoints, by its name."""
    return key.lower().endswith((*FILE_SUFFIXES, *FRAME_SUFFIXES))


def belongs_to(key: str, video_id: str) -> bool:
    """Whether a file of keypoints is one of the video.

    It, or the folder of its frames, is named as the video, or begins with that name and `DLC`, as DeepLabCut's do.
    """
    name, video = PurePosixPath(_name(key)), PurePosixPath(video_id)
    own = name.name if name.as_posix() != key else name.stem
    return name.parent == video.parent and (own == video.stem or own.startswith(f"{video.stem}DLC"))


def list_pose_files(root: str, *, param: str) -> list[storage.FileInfo]:
    """Every file of keypoints under `root`.

    Args:
        param: the key of params that named it, for the error.

    Raises:
        DataError: `root` is not there, is a file, or holds none.
        ServiceError: S3 is out of reach.
    """
    if not storage.is_s3(root) and Path(root).is_file():
        raise DataError(f"{root} is a file; name the folder that holds the keypoints of each video in {param}")
    found = [info for info in storage.list_files(root) if is_pose_file(info.key)]
    if not found:
        raise DataError(f"{root} holds no keypoints ({' or '.join(FILE_SUFFIXES + FRAME_SUFFIXES)}); correct {param}")
    return found


def find_pose_files(
    root: str, keys: Iterable[str], video_ids: Sequence[str], hashes: Mapping[str, str]
) -> dict[str, PoseFiles]:
    """The keypoints of each video, by its name.

    Args:
        root: the folder or s3:// prefix.
        keys: of the files under it.
        hashes: SHA-256 of files by key; that of a local file that is missing here is computed.

    Raises:
        DataError: a video has none, or several.
    """
    tracks: dict[str, list[str]] = {}
    for key in keys:
        tracks.setdefault(_name(key), []).append(key)
    by_folder: dict[str, list[str]] = {}
    for name in tracks:
        by_folder.setdefault(PurePosixPath(name).parent.as_posix(), []).append(name)
    found = {}
    for video_id in video_ids:
        name = _match(video_id, by_folder, tracks, root)
        files = tuple(sorted(tracks[name]))
        found[video_id] = PoseFiles(root, name, files, tuple(_sha256(root, key, hashes) for key in files))
    return found


def _match(
    video_id: str, by_folder: Mapping[str, Sequence[str]], tracks: Mapping[str, Sequence[str]], root: str
) -> str:
    """The one file or folder that belongs to the video."""
    video = PurePosixPath(video_id)
    named = [name for name in by_folder.get(video.parent.as_posix(), ()) if belongs_to(tracks[name][0], video_id)]
    if len(named) != 1:
        found = "no keypoints" if not named else f"several files ({', '.join(named)})"
        stem = video.with_suffix("").as_posix()
        names = f"{stem}DLC*.csv, {stem}.json or, of OpenPose, the folder {stem}"
        raise DataError(f"{root}: {found} for {video_id}; give one, named {names}")
    return named[0]


def _name(key: str) -> str:
    """What a file is of: itself, or the folder with a file for each frame that it is in."""
    path = PurePosixPath(key)
    inside = path.name.lower().endswith(FRAME_SUFFIXES) and len(path.parts) > 1
    return path.parent.as_posix() if inside else key


def _sha256(root: str, key: str, hashes: Mapping[str, str]) -> str:
    known = hashes.get(key)
    if known is not None:
        return known
    if storage.is_s3(root):
        raise DataError(f"{storage.join(root, key)} is not in the manifest; run sync again")
    return file_sha256(Path(root) / key)
