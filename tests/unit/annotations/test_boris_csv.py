from pathlib import Path

import pytest

from kineflow import annotations
from kineflow.errors import AnnotationError
from tests.unit.annotations.samples import BORIS_7, write_sample

VIDEOS = ["clips/a.mp4", "clips/b.mp4"]
# The columns of a BORIS 8 export, an independent variable `arena` among them.
HEADER_8 = (
    "Observation id,Observation date,Description,Observation duration,Observation type,Source,Time offset (s),"
    "Media duration (s),FPS,arena,Subject,Behavior,Behavioral category,Modifier #1,Behavior type,Time,Media file name,"
    "Image index,Image file path,Comment"
)


def row_8(behavior: str, kind: str, time: str, **cells: str) -> str:
    values = {
        "id": "o1", "source": "player #1:/data/clips/a.mp4", "offset": "0.0", "duration": "60.0", "arena": "north",
        "subject": "No focal subject", "modifier": "", "media": "/data/clips/a.mp4",
    } | cells  # fmt: skip
    return (
        f"{values['id']},2024-01-01 10:00:00,,60.0,Media file(s),{values['source']},{values['offset']},"
        f"{values['duration']},25.000,{values['arena']},{values['subject']},{behavior},,{values['modifier']},{kind},"
        f"{time},{values['media']},0,NA,"
    )


def read(tmp_path: Path, *rows: str, header: str = HEADER_8, name: str = "events.csv") -> annotations.Annotations:
    (tmp_path / name).write_text("\n".join([header, *rows]) + "\n")
    return annotations.read("boris_csv", tmp_path / name, videos=VIDEOS)


def times(found: annotations.Annotations) -> list[tuple[str, str, float | None, float | None]]:
    return [(event.video_id, event.label, event.start_sec, event.stop_sec) for event in found.events]


def test_state_and_point_events(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        row_8("groom", "START", "1.5"),
        row_8("bite", "POINT", "2.25", subject="m1"),
        row_8("groom", "START", "2.5", subject="m2"),  # another animal's own state
        row_8("groom", "STOP", "4.0"),
        row_8("groom", "STOP", "5.0", subject="m2"),
    )
    assert times(found) == [
        ("clips/a.mp4", "bite", 2.25, None),
        ("clips/a.mp4", "groom", 1.5, 4.0),
        ("clips/a.mp4", "groom", 2.5, 5.0),
    ]
    assert [event.subject for event in found.events] == ["m1", "", "m2"]
    assert [event.source for event in found.events] == ["events.csv:3", "events.csv:2", "events.csv:4"]
    assert found.columns["clips/a.mp4"]["arena"] == "north"
    assert "Time" not in found.columns["clips/a.mp4"]


def test_offset_and_earlier_parts_are_subtracted(tmp_path: Path) -> None:
    parts = {"source": "player #1:a.mp4;b.mp4", "duration": "60.0;30.0", "offset": "10.0"}
    found = read(tmp_path, row_8("bite", "POINT", "12.0", media="a.mp4", **parts),
                 row_8("bite", "POINT", "75.5", media="b.mp4", **parts))  # fmt: skip
    assert times(found) == [("clips/a.mp4", "bite", 2.0, None), ("clips/b.mp4", "bite", 5.5, None)]


def test_a_state_over_parts_is_cut_at_their_bounds(tmp_path: Path) -> None:
    # With the offset of 10 s the first part is 10 to 70, the second 70 to 100. BORIS names files without the offset.
    parts = {"source": "player #1:a.mp4;b.mp4|player #2:side.mp4", "duration": "60.0;30.0|90.0", "offset": "10.0"}
    found = read(
        tmp_path,
        row_8("groom", "START", "65.0", media="b.mp4", **parts),
        row_8("bite", "POINT", "95.0", media="Not found", **parts),
        row_8("groom", "STOP", "72.5", media="b.mp4", **parts),
    )
    assert times(found) == [
        ("clips/b.mp4", "bite", 25.0, None),
        ("clips/a.mp4", "groom", 55.0, 60.0),
        ("clips/b.mp4", "groom", 0.0, 2.5),
    ]
    assert [event.source for event in found.events] == ["events.csv:3", "events.csv:2", "events.csv:2"]
    assert found.columns["clips/b.mp4"]["arena"] == "north"


def test_aggregated_states_over_parts(tmp_path: Path) -> None:
    header = (
        "Observation id,Observation type,Source,Media duration (s),Subject,Behavior,Behavior type,Start (s),Stop (s)"
    )
    found = read(tmp_path, "o1,Media file,player #1:a.mp4;b.mp4,60.0;30.0,m1,groom,STATE,50.0,70.0", header=header)
    assert times(found) == [("clips/a.mp4", "groom", 50.0, 60.0), ("clips/b.mp4", "groom", 0.0, 10.0)]


def test_parts_without_durations_are_refused(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match=r"events\.csv:2: 2 media files but 1 durations"):
        read(tmp_path, row_8("bite", "POINT", "1", source="a.mp4;b.mp4", media="a.mp4", duration="60.0"))
    header = "Observation id,Media file,Total length,Subject,Behavior,Behavior type,Start (s),Stop (s)"
    rows = [
        "o1,a.mp4,90.0,m1,groom,STATE,1,2",
        "o1,b.mp4,90.0,m1,groom,STATE,61,62",
        "o2,b.mp4,30.0,m1,groom,STATE,1,2",
    ]
    with pytest.raises(AnnotationError, match=r"events\.csv:3: observation 'o1' has several media files") as caught:
        read(tmp_path, *rows, header=header)
    assert "csv:4" not in str(caught.value)


def test_the_second_part_of_an_old_export_is_not_taken_for_the_first(tmp_path: Path) -> None:
    text = BORIS_7.replace("Player #1\tv/a.mp4", "Player #1\tv/b.mp4\t\nPlayer #1\tv/a.mp4")
    (tmp_path / "old.tsv").write_text(text)
    with pytest.raises(AnnotationError, match=r"old\.tsv:16: observation 'o1' has several media files"):
        annotations.read("boris_csv", tmp_path / "old.tsv", videos=["v/a.mp4", "v/b.mp4"])


def test_the_samples_of_every_layout(tmp_path: Path) -> None:
    found = {
        name: annotations.read("boris_csv", write_sample(name, tmp_path / name), videos=["v/a.mp4", "v/b.mp4"])
        for name in ("boris_csv", "boris_csv 7", "boris_csv aggregated")
    }
    assert times(found["boris_csv"]) == [
        ("v/a.mp4", "bite", 2.25, None),
        ("v/a.mp4", "groom", 1.5, 60.0),
        ("v/b.mp4", "groom", 0.0, 5.0),
    ]
    assert times(found["boris_csv 7"]) == [("v/a.mp4", "groom", 3.3, 7.75)]
    assert found["boris_csv 7"].columns["v/a.mp4"]["Observation id"] == "o1"
    assert times(found["boris_csv aggregated"]) == [("v/a.mp4", "groom", 1.0, 2.5), ("v/a.mp4", "bite", 3.0, None)]
    assert all(one.columns["v/a.mp4"]["nest"] == "N7" for one in found.values())


def test_blank_columns_of_spreadsheets_and_decimal_commas(tmp_path: Path) -> None:
    header = "Behavior;Behavior type;Time;Media file name;;"
    found = read(tmp_path, "bite;POINT;1,25;a.mp4;;", "bite;POINT;2,5;a.mp4", header=header)
    assert times(found) == [("clips/a.mp4", "bite", 1.25, None), ("clips/a.mp4", "bite", 2.5, None)]


def test_live_observations_have_no_video(tmp_path: Path) -> None:
    row = row_8("bite", "POINT", "1", media="NA", source="NA").replace("Media file(s)", "Live observation")
    with pytest.raises(AnnotationError, match="'Live observation' has no video; leave the observation out"):
        read(tmp_path, row)


def test_two_videos_of_one_name_are_not_taken_for_one(tmp_path: Path) -> None:
    rows = [
        row_8("bite", "POINT", time, id=name, media=f"/lab/{day}/a.mp4", source=f"player #1:/lab/{day}/a.mp4")
        for time, name, day in (("1", "o1", "day1"), ("2", "o2", "day2"))
    ]
    (tmp_path / "events.csv").write_text("\n".join([HEADER_8, *rows]) + "\n")
    with pytest.raises(
        AnnotationError, match=r"events\.csv:3: '/lab/day2/a\.mp4' and '/lab/day1/a\.mp4' are two paths"
    ):
        annotations.read("boris_csv", tmp_path / "events.csv", videos=["a.mp4"])
    with pytest.raises(
        AnnotationError, match=r"csv:3: video '/lab/day2/a\.mp4' is not in the source, where day1/a\.mp4 is"
    ):
        annotations.read("boris_csv", tmp_path / "events.csv", videos=["day1/a.mp4"])


def test_a_column_that_differs_within_a_video_says_nothing_about_it(tmp_path: Path) -> None:
    found = read(tmp_path, row_8("bite", "POINT", "1", arena="north"), row_8("bite", "POINT", "2", arena="south"))
    assert "arena" not in found.columns["clips/a.mp4"]


def test_old_layout_with_lines_before_the_header(tmp_path: Path) -> None:
    text = (
        "Observation id\to1\n\nMedia file(s)\n\nPlayer #1\tC:\\clips\\a.mp4\n\nObservation date\t2016-05-01\n\n"
        "Time offset (s)\t2.0\n\nIndependent variables\nvariable\tvalue\nnest\tN7\n\n"
        "Time\tMedia file path\tTotal length\tFPS\tSubject\tBehavior\tBehavioral category\tComment\tStatus\n"
        "3.0\tC:\\clips\\a.mp4\t60\t25\t\tgroom\t\t\tSTART\n00:01:04.5\tC:\\clips\\a.mp4\t60\t25\t\tgroom\t\t\tSTOP\n"
    )
    (tmp_path / "old.tsv").write_text(text)
    found = annotations.read("boris_csv", tmp_path / "old.tsv", videos=VIDEOS)
    assert times(found) == [("clips/a.mp4", "groom", 1.0, 62.5)]
    assert found.columns["clips/a.mp4"]["nest"] == "N7"
    assert found.events[0].source == "old.tsv:16"


def test_aggregated_events(tmp_path: Path) -> None:
    header = "Observation id,Media file,arena,Subject,Behavior,Modifiers,Behavior type,Start (s),Stop (s),Duration (s)"
    found = read(
        tmp_path,
        "o1,a.mp4,north,m1,groom,,STATE,1.0,2.5,1.5",
        "o1,a.mp4,north,m1,bite,,POINT,3.0,3.0,NA",
        header=header,
    )
    assert times(found) == [("clips/a.mp4", "groom", 1.0, 2.5), ("clips/a.mp4", "bite", 3.0, None)]


def test_a_folder_of_exports_with_its_subfolders(tmp_path: Path) -> None:
    (tmp_path / "day2").mkdir()
    read(tmp_path, row_8("bite", "POINT", "1"), name="one.csv")
    read(tmp_path / "day2", row_8("bite", "POINT", "2", id="o2", media="b.mp4", source="b.mp4"), name="one.csv")
    found = annotations.read("boris_csv", tmp_path, videos=VIDEOS)
    assert times(found) == [("clips/b.mp4", "bite", 2.0, None), ("clips/a.mp4", "bite", 1.0, None)]


def test_a_video_has_one_observation(tmp_path: Path) -> None:
    with pytest.raises(
        AnnotationError, match=r"csv:3: clips/a\.mp4 is already in observation 'o1'; keep one of the two"
    ):
        read(tmp_path, row_8("bite", "POINT", "1"), row_8("bite", "POINT", "1.1", id="o2"))
    (tmp_path / "both" / "anna").mkdir(parents=True)
    read(tmp_path / "both", row_8("bite", "POINT", "1"))
    read(tmp_path / "both" / "anna", row_8("bite", "POINT", "1.1"))
    with pytest.raises(AnnotationError, match=r"a\.mp4 is already in observation 'o1' of anna/events\.csv; keep one"):
        annotations.read("boris_csv", tmp_path / "both", videos=VIDEOS)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([row_8("groom", "START", "1")], r"events\.csv:2: groom starts and has no STOP"),
        ([row_8("groom", "STOP", "1")], r"events\.csv:2: groom stops and has no START"),
        ([row_8("groom", "START", "1"), row_8("groom", "START", "2")], r"events\.csv:3: groom starts again"),
        ([row_8("groom", "START", "5"), row_8("groom", "STOP", "4")], r"events\.csv:3: groom stops at 4 s, before"),
        ([row_8("groom", "START", "x")], r"events\.csv:2: 'x' is no time"),
        ([row_8("groom", "START", "nan")], r"events\.csv:2: 'nan' is no time"),
        ([row_8("groom", "BEGIN", "1")], "behavior type 'BEGIN'; write START, STOP or POINT"),
        ([row_8("groom", "POINT", "1", media="zz.mp4")], r"events\.csv:2: video 'zz\.mp4' is not in the source"),
        ([row_8("", "POINT", "1")], r"events\.csv:2: no behavior"),
        (["o1,short"], r"events\.csv:2: 2 columns where the header has 20"),
        (
            [row_8("groom", "START", "1"), row_8("groom", "STOP", "70", media="b.mp4")],
            "starts in clips/a.mp4 and stops in clips/b.mp4",
        ),
    ],
)
def test_malformed_rows(tmp_path: Path, rows: list[str], message: str) -> None:
    with pytest.raises(AnnotationError, match=message):
        read(tmp_path, *rows)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("path,label", "no header with Behavior and Time"),
        ("Time,Behavior,Status", "lacks Media file name"),
        ("Time,Behavior,Media file name", "lacks Behavior type"),
        ("Behavior,Media file name,Start (s)", "not Stop"),
        ("Behavior,Behavior type,Time,time,Media file name", "two columns are named 'time' but for case"),
    ],
)
def test_other_headers(tmp_path: Path, header: str, message: str) -> None:
    with pytest.raises(AnnotationError, match=message):
        read(tmp_path, header=header)
