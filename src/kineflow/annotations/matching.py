"""Which video does an annotation mean? By its key, by the end of a path, or by its name without extension."""

import difflib
import unicodedata
from collections.abc import Sequence
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


class VideoIndex:
    """Finds videos by the names that annotations use; each look-up takes constant time.

    A name matches a key if one is the end of the other, folder by folder (annotations written on another machine
    hold absolute paths, those written beside the videos hold bare names). Failing that, the same without the
    extension. Two candidates are an error, never a choice.
    """

    def __init__(self, videos: Sequence[str]) -> None:
        self._videos = videos
        self._found: dict[str, str] = {}  # files name a video in thousands of rows
        self._hints_left = MAX_HINTS
        self._exact: dict[str, list[str]] = {}
        self._ends: dict[str, list[str]] = {}
        self._stems: dict[str, list[str]] = {}
        for key in videos:
            plain = _normalised(key)
            self._exact.setdefault(plain, []).append(key)
            for index, ends in ((plain, self._ends), (_without_suffix(plain), self._stems)):
                for end in _path_ends(index):
                    ends.setdefault(end, []).append(key)

    def find(self, name: str) -> str:
        """The key of the video that `name` means.

        Raises:
            UnknownVideoError: no video has it, or several have.
        """
        if name not in self._found:
            self._found[name] = self._search(name)
        return self._found[name]

    def _search(self, name: str) -> str:
        plain = _normalised(name)
        ends = _path_ends(plain)  # longest first: the key may be the end of an absolute path
        found = next((self._exact[end] for end in ends if end in self._exact), None) or self._ends.get(plain, [])
        if not found:
            found = self._stems.get(plain, []) or self._stems.get(_without_suffix(plain), [])
        if not found:
            bare = PurePosixPath(_without_suffix(plain)).name
            if "/" not in plain or plain.startswith("/") or ":" in plain.split("/")[0]:
                found = self._stems.get(bare, [])
        if len(found) == 1:
            return found[0]
        raise UnknownVideoError(self._why(name, found))

    def _why(self, name: str, found: Sequence[str]) -> str:
        if not name.strip():
            return "no video is named; fill in its name"
        if found:
            return f"{name!r} could be {' or '.join(found[:3])}; write the path under the source"
        near = []
        if self._hints_left > 0:  # a search through all names; thousands of rows may be wrong
            self._hints_left -= 1
            near = difflib.get_close_matches(name, self._videos[:MAX_SEARCHED], n=1, cutoff=0.75)
        hint = f" (nearest: {near[0]})" if near else ""
        return f"video {name!r} is not in the source{hint}; add the video or remove the row"


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
