from pathlib import Path

import numpy as np
import pytest

from kineflow import annotations, storage
from kineflow.annotations.writers import as_boris_csv, as_frame_csv
from kineflow.errors import DataError, ParamsError
from kineflow.setup.contact_sheet import draw_contact_sheet
from kineflow.setup.convert import convert
from kineflow.setup.init import init_project
from kineflow.setup.presets import use_preset
from tests.s3_server import KEY, SECRET, serve_bucket
from tests.unit.setup.test_init import encode

VIDEOS = ["n1/a.mp4", "n2/b.mp4"]
EVENTS = (
    "Behavior,Behavior type,Time,Media file name,Subject,nest\n"
    "sit,START,0.5,a.mp4,m1,N1\nsit,STOP,1.5,a.mp4,m1,N1\nbite,POINT,1,b.mp4,,N2\n"
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("KINEFLOW_HOME", raising=False)
    for key in VIDEOS:
        encode(tmp_path / "v" / key)  # 20 frames at 10 fps
    (tmp_path / "events.csv").write_text(EVENTS)
    (tmp_path / "m.csv").write_text("path,label,group,role,cage\na.mp4,jump,g1,train,c\nb.mp4,run,g2,test,d\n")
    return tmp_path


def content(found: annotations.Annotations) -> list[tuple[object, ...]]:
    return [(e.video_id, e.label, e.start_sec, e.stop_sec, e.subject) for e in found.events]


def test_events_survive_boris_csv(folder: Path) -> None:
    done = convert(str(folder / "events.csv"), "v", None, "boris_csv", folder / "out.csv")
    assert (done.source_format, done.notes) == ("boris_csv", ())
    before = annotations.read("boris_csv", folder / "events.csv", videos=VIDEOS)
    after = annotations.read("boris_csv", folder / "out.csv", videos=VIDEOS)
    assert sorted(map(str, content(after))) == sorted(map(str, content(before)))
    assert after.columns["n1/a.mp4"]["nest"] == before.columns["n1/a.mp4"]["nest"] == "N1"


def test_frames_and_back(folder: Path) -> None:
    done = convert(str(folder / "events.csv"), "v", "boris_csv", "frame_csv", folder / "labels")
    assert done.notes[0].startswith("1 point events are left out")
    assert done.notes[1].startswith("the subjects of 1 events")
    found = annotations.read("frame_csv", folder / "labels", videos=VIDEOS)
    assert found.frame_tables["n1/a.mp4"].values[:, 0].tolist() == [0] * 5 + [1] * 10 + [0] * 5
    convert(str(folder / "labels"), "v", None, "boris_csv", folder / "back.csv")
    back = annotations.read("boris_csv", folder / "back.csv", videos=VIDEOS)
    assert content(back) == [("n1/a.mp4", "sit", 0.5, 1.5, "")]


def test_manifest_round_trip_and_whole_videos(folder: Path) -> None:
    convert(str(folder / "m.csv"), "v", None, "manifest", folder / "out.csv")
    before = annotations.read("manifest", folder / "m.csv", videos=VIDEOS)
    after = annotations.read("manifest", folder / "out.csv", videos=VIDEOS)
    assert (content(after), after.groups, after.roles) == (content(before), before.groups, before.roles)
    assert after.columns["n1/a.mp4"]["cage"] == "c"
    done = convert(str(folder / "m.csv"), "v", None, "boris_csv", folder / "b.csv")
    assert [note.split(" of ")[0] for note in done.notes] == ["2 labels", "the roles"]
    states = annotations.read("boris_csv", folder / "b.csv", videos=VIDEOS)
    assert content(states)[0] == ("n1/a.mp4", "jump", 0.0, 2.0, "")
    assert states.columns["n2/b.mp4"]["group"] == "g2"


def test_unlabelled_frames_are_counted() -> None:
    table = annotations.FrameTable(("sit",), np.array([[1], [-1], [1]], np.int8), "a.csv")
    found = annotations.Annotations(frame_tables={"a.mp4": table}, classes=("sit",))
    written = as_boris_csv(found, {"a.mp4": np.array([0.0, 0.1, 0.2])})
    assert "1 unlabelled cells" in written.notes[0]
    assert written.files[""].splitlines()[1:] == [
        "player #1:a.mp4,a.mp4,,sit,STATE,0,0.1",
        "player #1:a.mp4,a.mp4,,sit,STATE,0.2,0.3",
    ]
    assert as_frame_csv(found, {}).files["a.csv"] == "frame,sit\n0,1\n1,-1\n2,1\n"


def test_refuses(folder: Path) -> None:
    with pytest.raises(DataError, match="2 labels have times, and a manifest labels whole videos"):
        convert(str(folder / "events.csv"), "v", None, "manifest", folder / "x.csv")
    with pytest.raises(ParamsError, match="no format to write; known: boris_csv"):
        convert(str(folder / "events.csv"), "v", None, "ucf101", folder / "x.csv")
    with pytest.raises(ParamsError, match="exists and would be lost"):
        convert(str(folder / "events.csv"), "v", None, "boris_csv", folder / "m.csv")
    (folder / "points.csv").write_text("Behavior,Behavior type,Time,Media file name\nbite,POINT,1,b.mp4\n")
    with pytest.raises(DataError, match="all 1 events are points"):
        convert(str(folder / "points.csv"), "v", None, "frame_csv", folder / "x")
    assert not list(folder.glob("*x*"))


def test_annotations_on_s3(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    (folder / "server").mkdir()
    with serve_bucket(folder / "server") as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        storage.put_file(folder / "events.csv", "s3://bucket/notes/events.csv")
        for key in VIDEOS:
            storage.put_file(folder / "v" / key, f"s3://bucket/v/{key}")
        with pytest.raises(ParamsError, match=r"s3://bucket/notes/events\.csv: the format .* choose it by --format"):
            convert("s3://bucket/notes/events.csv", "s3://bucket/v", None, "boris_csv", folder / "out.csv")
        convert("s3://bucket/notes/events.csv", "s3://bucket/v", "boris_csv", "boris_csv", folder / "out.csv")
        convert("s3://bucket/notes/events.csv", "s3://bucket/v", "boris_csv", "frame_csv", folder / "labels")
        with pytest.raises(DataError, match=r"s3://bucket/notes/gone\.csv"):
            convert("s3://bucket/notes/gone.csv", "s3://bucket/v", "boris_csv", "boris_csv", folder / "x.csv")
    convert(str(folder / "events.csv"), "v", None, "boris_csv", folder / "local.csv")
    assert (folder / "out.csv").read_text() == (folder / "local.csv").read_text()
    written = [path.relative_to(folder / "labels").as_posix() for path in sorted((folder / "labels").rglob("*.csv"))]
    assert written == ["n1/a.csv", "n2/b.csv"]


@pytest.mark.parametrize(
    ("start", "stop", "message"),
    [
        (50, 60, r"x\.csv:2: sit is at 60 s but n1/a\.mp4 lasts 2\.000 s; correct the time or the video"),
        (-20, -10, r"x\.csv:2: sit starts at -20 s, before the video"),
    ],
)
@pytest.mark.parametrize("target", ["boris_csv", "frame_csv"])
def test_events_outside_their_videos_are_refused(
    folder: Path, target: str, start: float, stop: float, message: str
) -> None:
    rows = f"sit,START,{start},a.mp4\nsit,STOP,{stop},a.mp4\n"
    (folder / "x.csv").write_text(f"Behavior,Behavior type,Time,Media file name\n{rows}")
    with pytest.raises(DataError, match=message):
        convert(str(folder / "x.csv"), "v", None, target, folder / "out")
    assert not list(folder.glob("*out*"))


def test_a_state_between_two_frames_is_noted(folder: Path) -> None:
    text = EVENTS + "rest,START,0.52,b.mp4,,N2\nrest,STOP,0.54,b.mp4,,N2\n"  # frames are 0.1 s apart
    (folder / "x.csv").write_text(text)
    note = "1 states label no frame, for they lie between two: rest 0.52 to 0.54 s (x.csv:5)"
    assert note in convert(str(folder / "x.csv"), "v", None, "frame_csv", folder / "labels").notes
    assert convert(str(folder / "x.csv"), "v", None, "boris_csv", folder / "out.csv").notes == (note,)
    assert "STATE,0.52,0.54" in (folder / "out.csv").read_text()


def test_videos_of_one_name_get_tables_in_their_folders(folder: Path) -> None:
    encode(folder / "v" / "n2" / "a.mp4")
    rows = "sit,START,0,n2/a.mp4\nsit,STOP,2,n2/a.mp4\nsit,START,0.5,n1/a.mp4\nsit,STOP,1,n1/a.mp4\n"
    (folder / "x.csv").write_text(f"Behavior,Behavior type,Time,Media file name\n{rows}")
    convert(str(folder / "x.csv"), "v", None, "frame_csv", folder / "labels")
    found = annotations.read("frame_csv", folder / "labels", videos=["n1/a.mp4", "n2/a.mp4", "n2/b.mp4"])
    assert {key: int(table.values.sum()) for key, table in found.frame_tables.items()} == {
        "n1/a.mp4": 5,
        "n2/a.mp4": 20,
    }


def test_a_broken_video_is_left_out_and_named(folder: Path) -> None:
    (folder / "v" / "n2" / "b.mp4").write_bytes(b"no video")
    done = convert(str(folder / "events.csv"), "v", None, "frame_csv", folder / "labels")
    assert done.notes[0].startswith("1 videos are left out, for they cannot be decoded: n2/b.mp4 (")
    assert [path.name for path in folder.glob("labels/*/*")] == ["a.csv"]
    (folder / "labels" / "n2").mkdir()
    (folder / "labels" / "n2" / "b.csv").write_text("frame,sit\n0,1\n")
    done = convert(str(folder / "labels"), "v", None, "boris_csv", folder / "frames.csv")
    assert done.notes[0].startswith("1 videos cannot be decoded; only events with times are written, unchecked: n2/b")
    assert (folder / "frames.csv").read_text().count("sit") == 1
    convert(str(folder / "events.csv"), "v", None, "boris_csv", folder / "out.csv")
    after = annotations.read("boris_csv", folder / "out.csv", videos=VIDEOS)
    assert content(after) == [("n1/a.mp4", "sit", 0.5, 1.5, "m1"), ("n2/b.mp4", "bite", 1.0, None, "")]
    (folder / "v" / "n1" / "a.mp4").write_bytes(b"no video")
    with pytest.raises(DataError, match=r"none of 2 annotated videos can be decoded \(n1/a\.mp4: "):
        convert(str(folder / "events.csv"), "v", None, "boris_csv", folder / "x.csv")


def test_tables_of_a_row_more_or_less_are_noted(folder: Path) -> None:
    for name, rows in (("n1/a", 21), ("n2/b", 19)):
        (folder / "labels" / name).parent.mkdir(parents=True)
        (folder / "labels" / f"{name}.csv").write_text("sit\n" + "1\n" * rows)
    done = convert(str(folder / "labels"), "v", None, "boris_csv", folder / "out.csv")
    assert done.notes == (
        "1 tables have a row more than their videos have frames, and the last row of each is left out: a.csv",
        "1 tables have a row less than their videos have frames, and the last frame of each is unlabelled: b.csv",
    )
    times = [cells[-2:] for line in (folder / "out.csv").read_text().splitlines()[1:] if (cells := line.split(","))]
    assert times == [["0", "2"], ["0", "1.9"]]


@pytest.mark.parametrize("command", ["convert", "contact-sheet", "init", "use"])
def test_where_nothing_can_be_written_is_said_at_once(folder: Path, repository: Path, command: str) -> None:
    (folder / "file").write_text("")
    (folder / "params").symlink_to(repository / "params")
    (folder / "there.png").mkdir()
    run = {
        "convert": lambda out: convert("events.csv", "v", None, "boris_csv", out),
        "contact-sheet": lambda out: draw_contact_sheet("v", "events.csv", None, None, out),
        "init": lambda out: init_project("v", "m.csv", None, "clip", out),
        "use": lambda out: use_preset("sample", out, {}),
    }[command]
    for out in ("file/x.png", "file/y/x.png"):
        with pytest.raises(
            ParamsError, match=r"x\.png cannot be written, for .*/file is no folder; name another --out"
        ):
            run(Path(out))
    with pytest.raises(ParamsError, match=r"there\.png (is a folder|exists)"):
        run(Path("there.png"))
    assert not (folder / ".kineflow").exists()
