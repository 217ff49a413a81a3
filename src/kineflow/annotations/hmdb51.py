"""The official lists of HMDB-51: `<class>_test_split<N>.txt`, 51 files for each of three splits in one folder.

`data.annotations` names one list, for example `brush_hair_test_split1.txt`; those of the same split beside it are
read with it. A folder is accepted where it holds a single split. Lines hold `name.avi 1`: 0 is unused in this split
(the video stays without annotation), 1 train, 2 test. Names contain characters such as `#!()`, and are taken as is.
The group is the recording that a clip was cut from: its name before class, camera and quality. This
is wider than the official rule, so groups may cross the official roles; that is reported, not stopped.

Source: Kuehne et al., "HMDB: a large video database for human motion recognition", ICCV 2011, and the readme of
`test_train_splits`.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from kineflow.annotations.delimited import read_lines
from kineflow.annotations.folder import files_inside
from kineflow.annotations.listed import Listed
from kineflow.annotations.matching import VideoIndex
from kineflow.annotations.model import Annotations, Problems
from kineflow.annotations.ucf101 import ListedVideo, OfficialSplit
from kineflow.errors import AnnotationError

LIST = re.compile(r"^(?P<label>.+)_test_split(?P<split>[1-9])\.txt$")
CAMERA = re.compile(r"_[a-z]+_(?:nm|cm)_np\d+_[a-z]{2}_[a-z]{3}_\d+(?:\.\w+)?$")  # visible part ... quality, number
ROLES = {"0": "unused", "1": "train", "2": "test"}


def read(path: Path, videos: Sequence[str]) -> Annotations:
    """Labels, groups and official roles of the videos of one split.

    Raises:
        AnnotationError: a list is missing or malformed, or names a used video that is not in the source.
    """
    split = parse_split(path)
    listed = Listed(VideoIndex(videos))
    for video in split.videos:
        if video.role != "unused":
            names = (f"{video.label}/{video.name}", video.name)
            listed.add(names, video.label, video.source, role=video.role, group=video.group)
    return listed.annotations(split.classes)


def parse_split(path: Path) -> OfficialSplit:
    """Read one split's lists without looking for videos; roles are `unused`, `train` and `test`.

    Args:
        path: one list of the split, or a folder with a single split.

    Raises:
        AnnotationError: there is no list, or one is malformed.
    """
    problems = Problems()
    found = [video for list_path in _lists(path) for video in _parse_list(list_path, problems)]
    problems.raise_if_any()
    return OfficialSplit(tuple(sorted({video.label for video in found})), tuple(found))


def files_beside(name: str) -> tuple[str, ...]:
    """Pattern of the lists that are read with the list `name`."""
    match = LIST.match(name)
    return (f"*_test_split{match['split']}.txt",) if match else ()


def _lists(path: Path) -> list[Path]:
    if path.is_dir():
        found = {item: match["split"] for item in files_inside(path, (".txt",)) if (match := LIST.match(item.name))}
        splits = sorted(set(found.values()))
        if len(splits) != 1:
            held = f"the splits {', '.join(splits)}" if splits else "no <class>_test_split1.txt"
            raise AnnotationError(f"{path}: holds {held}; name one list of one split in data.annotations")
        return list(found)
    patterns = files_beside(path.name)
    if not patterns:
        raise AnnotationError(f"{path}: not a list of HMDB-51; name one such as brush_hair_test_split1.txt")
    return sorted({path, *path.parent.glob(patterns[0])})


def _parse_list(path: Path, problems: Problems) -> list[ListedVideo]:
    match = LIST.match(path.name)
    assert match is not None  # _lists gives no others
    label, found = match["label"], []
    for source, line in read_lines(path):
        name, _, number = line.rpartition(" ")
        if not name or number not in ROLES:
            problems.add(source, f"{line!r} does not end in 0, 1 or 2; write `name.avi 1`")
        else:
            found.append(ListedVideo(name.strip(), label, _group(name.strip(), label), ROLES[number], source))
    if not found:
        problems.add(path.name, "lists no video; take the official file")
    return found


def _group(name: str, label: str) -> str:
    return CAMERA.sub("", name).removesuffix(f"_{label}")
