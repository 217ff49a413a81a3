"""What a writer writes, its reader reads: names hold blanks, commas, quotes, `#` and any script."""

import string
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from kineflow import annotations
from kineflow.annotations import Annotations, Event, FrameTable
from kineflow.annotations.matching import _normalised
from kineflow.annotations.writers import Written, as_boris_csv, as_frame_csv, as_manifest

# Control characters are in no name that BORIS or a file system's tools can show; a backslash parts folders on Windows.
CHARACTERS = st.one_of(
    st.sampled_from(" ,;\t\"'#|:=[](){}%&é鳥ß\u2028\u0301" + string.ascii_letters[:6] + string.digits),
    st.characters(blacklist_categories=("Cc", "Cs"), blacklist_characters="/\\"),
)
NAMES = st.text(CHARACTERS, min_size=1, max_size=12).map(str.strip).filter(bool)
KEYS = st.lists(st.text(CHARACTERS, min_size=1, max_size=8), min_size=1, max_size=2).map(
    lambda parts: "/".join(parts) + ".mp4"
)
TIMES = st.integers(0, 10_000_000).map(lambda ms: ms / 1000)
COLUMNS = st.dictionaries(
    st.sampled_from(["nest", "cage; row", "Alter, Woche", 'he said "so"', "日"]), NAMES, max_size=3
)


@st.composite
def keys(draw: st.DrawFn) -> list[str]:
    found = draw(st.lists(KEYS, min_size=1, max_size=4, unique_by=_normalised))
    # a name that is the end of another's path may mean either, and is refused
    plain = [_normalised(key) for key in found]
    assume(all("" not in PurePosixPath(key).parts and not key.startswith((".", "/")) for key in plain))
    assume(not any(a != b and a.endswith(f"/{b}") for a in plain for b in plain))
    return found


def back(format_: str, written: Written, videos: list[str]) -> Annotations:
    with TemporaryDirectory() as folder:
        for name, text in written.files.items():
            target = Path(folder) / (name or "file.csv")
            target.parent.mkdir(exist_ok=True)
            target.write_text(text, encoding="utf-8")
        path = Path(folder) if format_ == "frame_csv" else Path(folder) / "file.csv"
        return annotations.read(format_, path, videos=videos)


def content(events: object) -> list[tuple[object, ...]]:
    assert isinstance(events, list)
    return sorted((e.video_id, e.label, e.start_sec, str(e.stop_sec), e.subject) for e in events)


@settings(max_examples=80, deadline=None)
@given(keys(), st.data())
def test_boris_csv(videos: list[str], data: st.DataObject) -> None:
    event = st.tuples(st.sampled_from(videos), NAMES, TIMES, st.none() | TIMES, NAMES | st.just(""))
    drawn = data.draw(st.lists(event, min_size=1, max_size=6))
    events = [
        Event(key, label, start, None if length is None else round(start + length, 3), subject, "x:1")
        for key, label, start, length, subject in drawn
        if subject.lower() != "no focal subject"
    ]
    assume(events)
    columns = {key: data.draw(COLUMNS) for key in videos}
    found = back("boris_csv", as_boris_csv(Annotations(events=events, columns=columns), {}), videos)
    assert content(list(found.events)) == content(events)
    for key in {event.video_id for event in events}:
        read = {name: value for name, value in found.columns[key].items() if value and name != "Source"}
        assert read == columns[key]


@settings(max_examples=80, deadline=None)
@given(keys(), st.data())
def test_manifest(videos: list[str], data: st.DataObject) -> None:
    events = [Event(key, data.draw(NAMES), None, None, data.draw(NAMES | st.just("")), "x:1") for key in videos]
    groups = {key: data.draw(NAMES) for key in videos}
    roles = {key: data.draw(st.sampled_from(["train", "val", "test"])) for key in videos}
    columns = {key: data.draw(COLUMNS) for key in videos}
    before = Annotations(events=events, groups=groups, roles=roles, columns=columns)
    found = back("manifest", as_manifest(before), videos)
    assert content(list(found.events)) == content(events)
    assert (found.groups, found.roles) == (groups, roles)
    for key in videos:
        assert {name: found.columns[key][name] for name in columns[key]} == columns[key]


@settings(max_examples=80, deadline=None)
@given(keys(), st.lists(NAMES, min_size=1, max_size=4, unique=True), st.data())
def test_frame_csv(videos: list[str], behaviours: list[str], data: st.DataObject) -> None:
    assume(not {"frame", "background", "Unnamed: 0"} & set(behaviours))
    stems = [PurePosixPath(key).stem for key in videos]
    assume(all(stem.strip() and not stem.startswith(".") for stem in stems))
    tables = {
        key: FrameTable(tuple(behaviours), np.array(data.draw(st.lists(
            st.lists(st.sampled_from([0, 1, -1]), min_size=len(behaviours), max_size=len(behaviours)), min_size=1,
            max_size=5,
        )), np.int8), "x")
        for key in videos
    }  # fmt: skip
    before = Annotations(frame_tables=tables, classes=tuple(behaviours))
    found = back("frame_csv", as_frame_csv(before, {}), videos)
    assert found.classes == before.classes
    assert {key: table.values.tolist() for key, table in found.frame_tables.items()} == {
        key: table.values.tolist() for key, table in tables.items()
    }


def test_what_boris_has_no_room_for_is_said() -> None:
    event = Event("a.mp4", "jump", 0.0, 1.0, "", "x:1")
    columns = {"a.mp4": {"Comment": "good", "cage": "1", "Cage": "2", "subject": "", "Source": "s3"}}
    written = as_boris_csv(Annotations(events=[event], columns=columns), {})
    assert written.notes == ("the columns Comment, cage are left out: BORIS, or another column, has the name",)
    assert written.files[""].splitlines()[0].split(",")[:3] == ["Source", "Media file name", "Cage"]
