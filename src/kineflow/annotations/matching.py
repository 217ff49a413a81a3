"""Which video does an annotation mean? By its key, by the end of a path, or by its name without extension."""

import difflib
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

# fmt: off
VIDEO_SUFFIXES = frozenset({
    ".3g2", ".3gp", ".asf", ".avi", ".f4v", ".flv", ".gif", ".h264", ".m2ts", ".m4v", ".mjpeg", ".mjpg", ".mkv", ".mov",
    ".mp4", ".mpeg", ".mpg", ".mts", ".mxf", ".ogg", ".ogv", ".qt", ".swf", ".ts", ".vob", ".webm", ".wmv", ".y4m",
})
# fmt: on
MAX_HINTS = 5
MAX_SEARCHED = 2000


class UnknownVideoError(LookupError):
    """No video, or more than one, has the name; `str(error)` says so and what to do."""


class AmbiguousVideoError(UnknownVideoError):
    """Several videos may be meant, or the one that is meant goes by a contradicting name already."""


class VideoIndex:
    """Finds videos by the names that one set of annotations uses; each look-up takes constant time.

    A name matches a key if it is the key's end, folder by folder, or if the key is its end: annotations written on
    another machine hold absolute paths, those written beside the videos hold bare names. Failing that, the same without
    the extension. The same name in another folder is another video: where the source has folders, a relative path with
    one never means a video at its top; where it has none, all relative paths must name one folder, the source itself.
    Two candidates, or two names for one video of which neither is the other's end, are an error, never a choice.
    """

    def __init__(self, videos: Sequence[str]) -> None:
        self._videos = videos
        self._found: dict[str, str] = {}  # files name a video in thousands of rows
        self._named: dict[str, str] = {}
        self._is_flat = not any("/" in key for key in videos)
        self._in_folder: str | None = None  # the first relative path with a folder that a flat source took
        self._hints_left = MAX_HINTS
        self._whole, self._whole_stems = dict[str, list[str]](), dict[str, list[str]]()
        self._ends, self._stem_ends = dict[str, list[str]](), dict[str, list[str]]()
        for key in videos:
            plain = _normalised(key)
            for name, whole, ends in (
                (plain, self._whole, self._ends),
                (_without_suffix(plain), self._whole_stems, self._stem_ends),
            ):
                whole.setdefault(name, []).append(key)
                for end in _path_ends(name):
                    ends.setdefault(end, []).append(key)

    def find(self, name: str) -> str:
        """The key of the video that `name` means.

        Raises:
            UnknownVideoError: no video has it.
            AmbiguousVideoError: several have it, or it contradicts a name before.
        """
        if name not in self._found:
            key = self._search(name)
            first = self._named.get(key, name)
            if not _agree(first, name):
                raise AmbiguousVideoError(
                    f"{name!r} and {first!r} are two paths, and {key} could be either; write the path under the source"
                )
            self._keep_to_one_folder(name, key)
            self._named[key] = max(first, name, key=lambda known: len(_normalised(known).split("/")))
            self._found[name] = key
        return self._found[name]

    def _keep_to_one_folder(self, name: str, key: str) -> None:
        folder = PurePosixPath(_normalised(name)).parent
        if "/" in key or folder == PurePosixPath(".") or _is_absolute(_normalised(name)):
            return
        first = self._in_folder = self._in_folder or name
        if PurePosixPath(_normalised(first)).parent != folder:
            text = f"{name!r} and {first!r} are in two folders, and {key} in none"
            raise AmbiguousVideoError(f"{text}; let the source be the folder above, or write paths under the source")

    def _search(self, name: str) -> str:
        plain = _normalised(name)
        stem = _without_suffix(plain)
        found = (
            self._within(plain, self._whole)
            or self._ends.get(plain)
            or self._stem_ends.get(plain)  # a name whose last dot begins no extension of a video
            or self._within(stem, self._whole_stems)
            or self._stem_ends.get(stem)
            or []
        )
        if len(found) == 1:
            return found[0]
        if found:
            named = " or ".join(found[:3])
            raise AmbiguousVideoError(f"{name!r} could be {named}; write the path under the source")
        raise UnknownVideoError(self._why(name, stem))

    def _within(self, plain: str, whole: Mapping[str, list[str]]) -> list[str]:
        """The keys that are the end of a path, the longest of them."""
        for end in _path_ends(plain):
            if end in whole and ("/" in end or end == plain or self._is_flat or _is_absolute(plain)):
                return whole[end]
        return []

    def _why(self, name: str, stem: str) -> str:
        if not name.strip():
            return "no video is named; fill in its name"
        if elsewhere := self._stem_ends.get(PurePosixPath(stem).name):
            place = "in another folder" if "/" in elsewhere[0] else "in no folder"
            return (
                f"video {name!r} is not in the source, where {elsewhere[0]} is {place}; write the path under the source"
            )
        near = []
        if self._hints_left > 0:  # a search through all names; thousands of rows may be wrong
            self._hints_left -= 1
            near = difflib.get_close_matches(name, self._videos[:MAX_SEARCHED], n=1, cutoff=0.75)
        hint = f" (nearest: {near[0]})" if near else ""
        return f"video {name!r} is not in the source{hint}; add the video or remove the row"


def _agree(first: str, second: str) -> bool:
    """Whether one of two names is the end of the other, extensions aside."""
    parts = [_without_suffix(_normalised(name)).split("/") for name in (first, second)]
    shorter = min(map(len, parts))
    return parts[0][-shorter:] == parts[1][-shorter:]


def _is_absolute(plain: str) -> bool:
    """Whether a path starts at a root, a drive or an address."""
    return plain.startswith("/") or ":" in plain.split("/")[0]


def _normalised(name: str) -> str:
    plain = unicodedata.normalize("NFC", name).replace("\\", "/")
    plain = "/".join(part.strip() for part in plain.split("/"))
    while plain.startswith("./"):
        plain = plain[2:]
    return plain


def _without_suffix(plain: str) -> str:
    head, dot, suffix = plain.rpartition(".")
    return (
        head.rstrip() if dot and f".{suffix.lower()}" in VIDEO_SUFFIXES and head and not head.endswith("/") else plain
    )


def _path_ends(plain: str) -> list[str]:
    parts = plain.split("/")
    return ["/".join(parts[start:]) for start in range(len(parts))]
