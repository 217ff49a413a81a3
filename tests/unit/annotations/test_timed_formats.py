"""Formats with times: BORIS projects, ActivityNet, VIA."""

import json
from pathlib import Path
from typing import Any

import pytest

from kineflow import annotations
from kineflow.errors import AnnotationError

VIDEOS = ["a.mp4", "b.mp4", "c.mp4", "side.mp4", "v_x.mp4"]


def times(found: annotations.Annotations) -> list[tuple[str, str, float | None, float | None]]:
    return [(event.video_id, event.label, event.start_sec, event.stop_sec) for event in found.events]


def project(events: list[list[Any]], **observation: Any) -> dict[str, Any]:
    return {
        "behaviors_conf": {"1": {"type": "Point event", "code": "bite"}, "0": {"type": "State event", "code": "run"}},
        "observations": {
            "o1": {
                "type": "MEDIA", "file": {"1": ["/m/a.mp4", "/m/b.mp4", "/m/c.mp4"], "2": []}, "time offset": 10.0,
                "media_info": {"length": {"/m/a.mp4": 60.0, "/m/b.mp4": 30.0}, "offset": {"1": 0.0}},
                "independent_variables": {"nest": "N7"}, "events": events,
            } | observation
        },
    }  # fmt: skip


def read_project(tmp_path: Path, content: object) -> annotations.Annotations:
    (tmp_path / "p.boris").write_text(content if isinstance(content, str) else json.dumps(content))
    return annotations.read("boris_project", tmp_path / "p.boris", videos=VIDEOS)


def test_chapters_cut_states_and_take_their_points(tmp_path: Path) -> None:
    # On the clock without the offset of 10 s, a.mp4 is 0 to 60, b.mp4 60 to 90, c.mp4 90 to the end.
    found = read_project(tmp_path, project([
        [65.0, "m1", "run", "", ""], [105.0, "m1", "run", "", ""],
        [70.0, "No focal subject", "bite", "", "", 12], [66.0, "m2", "run", "", ""], [68.0, "m2", "run", "", ""],
    ]))  # fmt: skip
    assert times(found) == [
        ("a.mp4", "run", 55.0, 60.0),
        ("b.mp4", "run", 0.0, 30.0),
        ("c.mp4", "run", 0.0, 5.0),
        ("a.mp4", "run", 56.0, 58.0),
        ("b.mp4", "bite", 0.0, None),
    ]
    assert [event.subject for event in found.events] == ["m1", "m1", "m1", "m2", ""]
    assert found.events[0].source == "p.boris: observations.o1.events[0]"
    assert found.classes == ("run", "bite")
    assert found.columns["c.mp4"] == {"Observation id": "o1", "nest": "N7"}


def test_a_second_player_is_another_view_with_its_offset(tmp_path: Path) -> None:
    media = {"file": {"1": ["a.mp4"], "2": ["side.mp4"], "3": ["elsewhere.mp4"]}, "time offset": 0.0,
             "media_info": {"length": {}, "offset": {"1": 0.0, "2": 1.5}}}  # fmt: skip
    events = [[1.0, "", "run", "", ""], [4.0, "", "run", "", ""], [0.5, "", "bite", "", ""]]
    assert times(read_project(tmp_path, project(events, **media))) == [
        ("a.mp4", "bite", 0.5, None),
        ("a.mp4", "run", 1.0, 4.0),
        ("side.mp4", "run", 0.0, 2.5),
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "the file is empty"),
        (json.dumps(project([]))[:-20], r"p\.boris:1: no JSON"),
        ({"observations": {}}, "'behaviors_conf' is missing"),
        (project([[11.0, "", "run", "", ""]]), r"events\[0\]: run starts and never stops"),
        (project([["x", "", "bite", "", ""]]), r"events\[0\]\[0\]: 'x' is no number"),
        (project([[11.0, "", "fly", "", ""]]), r"events\[0\]: 'fly' is not in the ethogram"),
        (project([[11.0, ""]]), r"events\[0\]: 2 is missing"),
        (project([], file={"1": ["zz.mp4"]}), r"o1\.file\.1: video 'zz\.mp4' is not in the source"),
        (project([], media_info={"length": {}}), "length: '/m/a.mp4' is missing"),
        (project([], type="LIVE"), "'LIVE' observations have no video"),
        (project([], media_creation_date_as_offset=True), "times count from the media's creation date"),
        ('{"observations": {"o1": {}, "o1": {}}}', "key 'o1' is there twice in one object"),
    ],
)
def test_malformed_projects(tmp_path: Path, content: object, message: str) -> None:
    with pytest.raises(AnnotationError, match=message):
        read_project(tmp_path, content)


def read_activitynet(tmp_path: Path, content: object) -> annotations.Annotations:
    (tmp_path / "n.json").write_text(content if isinstance(content, str) else json.dumps(content))
    return annotations.read("activitynet", tmp_path / "n.json", videos=VIDEOS)


def entry(*segment: object, **values: object) -> dict[str, Any]:
    return {
        "database": {"x": {"subset": "validation", "annotations": [{"label": "jump", "segment": segment}]} | values}
    }


def test_activitynet(tmp_path: Path) -> None:
    content = entry(1.5, 9)
    content["database"] |= {"a": {"subset": "training", "annotations": []}, "gone": {"subset": "testing"}}
    found = read_activitynet(tmp_path, content)
    assert times(found) == [("v_x.mp4", "jump", 1.5, 9.0)]
    assert found.roles == {"v_x.mp4": "val"}
    assert found.events[0].source == "n.json: database.x.annotations[0]"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"version": 1}, "'database' is missing"),
        (entry(9, 1), r"database\.x\.annotations\[0\]\.segment: stops at 1 s, before"),
        (entry(1), r"segment: 1 is missing"),
        (entry("x", 1), "'x' is no number"),
        (entry(1, 2, subset="dev"), "'dev'; write training"),
        ({"database": {"zz": entry(1, 2)["database"]["x"]}}, "'zz' is not in the source"),
        ('{"database": {', "no JSON"),
        ("", "is empty"),
    ],
)
def test_malformed_activitynet(tmp_path: Path, content: object, message: str) -> None:
    with pytest.raises(AnnotationError, match=message):
        read_activitynet(tmp_path, content)


VIA = """# Exported using VGG Video Annotator
# ATTRIBUTE = {"1":{"aname":"Activity","type":4,"options":{"0":"walk","1":"run"}},"2":{"type":1}}
# CSV_HEADER = metadata_id,file_list,flags,temporal_coordinates,spatial_coordinates,metadata
"""


def via_row(temporal: str, value: str = "0", file: str = "a.mp4", spatial: str = "[]", attribute: str = "1") -> str:
    return f'"1_x","[""{file}""]",0,"{temporal}","{spatial}","{{""{attribute}"":""{value}""}}"\n'


def read_via(tmp_path: Path, text: str) -> annotations.Annotations:
    (tmp_path / "v.csv").write_text(text)
    return annotations.read("via_csv", tmp_path / "v.csv", videos=VIDEOS)


def test_via(tmp_path: Path) -> None:
    found = read_via(
        tmp_path, VIA + via_row("[1.5,2.75]") + via_row("[3]", "hop", attribute="2") + via_row("[]", file="b.mp4")
    )
    assert times(found) == [
        ("a.mp4", "walk", 1.5, 2.75),
        ("a.mp4", "hop", 3.0, None),
        ("b.mp4", "walk", None, None),
    ]
    assert found.events[0].source == "v.csv:4"


def test_via_ticked_options_addresses_and_spreadsheets(tmp_path: Path) -> None:
    found = read_via(tmp_path, VIA.replace(",metadata", ",metadata,,") + via_row("[1,2]", "0,1", "file:///m/%61.mp4"))
    assert times(found) == [("a.mp4", "walk", 1.0, 2.0), ("a.mp4", "run", 1.0, 2.0)]


def test_via_temporal_segments_only(tmp_path: Path) -> None:
    header = "# CSV_HEADER = metadata_id,file_list,temporal_segment_start,temporal_segment_end,metadata\n"
    found = read_via(tmp_path, header + '"1_x","[""a.mp4""]",1.5,2.75,"{""Activity"":""walk""}"\n')
    assert times(found) == [("a.mp4", "walk", 1.5, 2.75)]
    with pytest.raises(AnnotationError, match=r"v\.csv:2: stops at 1 s, before its start at 2 s"):
        read_via(tmp_path, header + '"1_x","[""a.mp4""]",2,1,"{""Activity"":""walk""}"\n')


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (VIA + via_row("[1,2]", value="7"), r"v\.csv:4: metadata\.1: option '7' is none of 0, 1"),
        ("", "CSV_HEADER = ...` is missing"),
        (VIA.replace(",metadata\n", "\n"), "lacks metadata"),
        (VIA + via_row("[2,1]"), r"v\.csv:4: stops at 1 s, before"),
        (VIA + via_row("[1,"), r"v\.csv:4: temporal_coordinates: '\[1,' is no JSON"),
        (VIA + via_row("[1,2]", spatial="[2,1,1,5,5]"), "is a region of a frame"),
        (VIA + via_row("[1,2]", file="zz.mp4"), "'zz.mp4' is not in the source"),
        (VIA + via_row("[1,2]", value=""), "metadata has 0 labels"),
        (VIA + "1,2\n", "2 columns where the header has 6"),
        (VIA + via_row("[1,2]")[:20], "4: "),
    ],
)
def test_malformed_via(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(AnnotationError, match=message):
        read_via(tmp_path, text)


@pytest.mark.parametrize("format_", ["boris_project", "activitynet", "via_csv"])
def test_not_utf8(tmp_path: Path, format_: str) -> None:
    (tmp_path / "f").write_bytes(b"{\n\xff}")
    with pytest.raises(AnnotationError, match="f:2: not UTF-8"):
        annotations.read(format_, tmp_path / "f", videos=VIDEOS)
