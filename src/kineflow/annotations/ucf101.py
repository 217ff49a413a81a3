"""The official lists of UCF-101: `classInd.txt`, `trainlist01.txt`, `testlist01.txt` in one folder.

`data.annotations` names one train list, for example `ucfTrainTestlist/trainlist01.txt`; the test list of the same
number and `classInd.txt` are read beside it. A folder is accepted where it holds a single train list.
Groups are the `gNN` of the file names, so group 1 of one class and of another are one group.

Train lists hold `Class/v_Class_g08_c01.avi 1`, the number counting classes from 1; test lists have no number.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from kineflow.annotations.delimited import read_lines
from kineflow.annotations.folder import files_inside, names_inside
from kineflow.annotations.listed import find_any
from kineflow.annotations.matching import UnknownVideoError, VideoIndex
from kineflow.annotations.model import Annotations, Event, Problems
from kineflow.errors import AnnotationError

GROUP = re.compile(r"_g(\d{1,9})_c\d+(?:\.\w+)?$")


@dataclass(frozen=True)
class ListedVideo:
    """One line of a list: the path as listed, its class and group, `train` or `test`, and where it was read."""

    name: str
    label: str
    group: str
    role: str
    source: str


@dataclass(frozen=True)
class OfficialSplit:
    """One of the three official splits: its classes in the official order, its videos in the lists' order."""

    classes: tuple[str, ...]
    videos: tuple[ListedVideo, ...]

    def names(self, role: str) -> list[str]:
        """Paths of the `train` or the `test` videos."""
        return [video.name for video in self.videos if video.role == role]


def read(path: Path, videos: Sequence[str]) -> Annotations:
    """Labels, groups and official roles of the videos of one split.

    Raises:
        AnnotationError: a list is missing or malformed, or names a video that is not in the source.
    """
    split = parse_split(path)
    index, problems = VideoIndex(videos), Problems()
    keys: dict[str, ListedVideo] = {}
    for video in split.videos:
        try:
            key = find_any(index, (video.name, PurePosixPath(video.name).name))  # names say the class too
        except UnknownVideoError as err:
            problems.add(video.source, str(err))
            continue
        if key in keys:
            problems.add(video.source, f"video {key} is already in {keys[key].source}; a video has one role")
        keys[key] = video
    problems.raise_if_any()
    return Annotations(
        events=[Event(key, video.label, None, None, "", video.source) for key, video in keys.items()],
        groups={key: video.group for key, video in keys.items()},
        roles={key: video.role for key, video in keys.items()},
        classes=split.classes,
    )


def parse_split(path: Path) -> OfficialSplit:
    """Read one split's lists without looking for videos.

    Args:
        path: a train list, or a folder with a single one.

    Raises:
        AnnotationError: a list is missing or malformed.
    """
    train_list = _train_list(path)
    test_list, class_list = (train_list.with_name(name) for name in files_beside(train_list.name))
    classes = _parse_classes(class_list)
    problems = Problems()
    listed = [
        video
        for list_path, role in ((train_list, "train"), (test_list, "test"))
        for video in _parse_list(list_path, role, classes, problems)
    ]
    problems.raise_if_any()
    return OfficialSplit(tuple(classes.values()), tuple(listed))


def files_beside(name: str) -> tuple[str, ...]:
    """Names of the files that are read beside a train list."""
    return (name.replace("train", "test", 1), "classInd.txt")


def _train_list(path: Path) -> Path:
    if not path.is_dir():
        if not path.name.startswith("trainlist"):
            raise AnnotationError(f"{path}: not a UCF-101 train list; name trainlist01.txt, 02 or 03")
        return path
    found = [item for item in files_inside(path, (".txt",)) if item.name.startswith("trainlist")]
    if len(found) != 1:
        names = names_inside(path, found)
        raise AnnotationError(f"{path}: holds the train lists {names}; name one of them in data.annotations")
    return found[0]


def _parse_classes(path: Path) -> dict[int, str]:
    problems = Problems()
    classes: dict[int, str] = {}
    for source, line in read_lines(path):
        number, _, name = line.partition(" ")
        if not _is_number(number) or not name or int(number) in classes:
            problems.add(source, f"{line!r} is not a new `number class`; correct the line")
        else:
            classes[int(number)] = name.strip()
    problems.raise_if_any()
    if not classes:
        raise AnnotationError(f"{path.name}: lists no class; take the official file")
    return classes


def _parse_list(path: Path, role: str, classes: dict[int, str], problems: Problems) -> list[ListedVideo]:
    names = set(classes.values())
    listed = []
    for source, line in read_lines(path):
        name, _, number = line.partition(" ")
        label = name.replace("\\", "/").partition("/")[0]
        group = GROUP.search(name)
        if label not in names:
            problems.add(source, f"class {label!r} is not in classInd.txt; write Class/v_Class_g01_c01.avi")
        elif group is None:
            problems.add(source, f"{name!r} has no _gNN_cNN; write Class/v_Class_g01_c01.avi")
        elif number and (not _is_number(number.strip()) or classes.get(int(number)) != label):
            problems.add(
                source, f"class number {number.strip()!r} is not that of {label}; correct it (they count from 1)"
            )
        else:
            listed.append(ListedVideo(name, label, f"g{int(group[1]):02d}", role, source))
    return listed


def _is_number(text: str) -> bool:
    return text.isdecimal() and len(text) < 10
