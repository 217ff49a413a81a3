import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import yaml

from benchmarks.clips import write_clip
from kineflow import storage
from kineflow.errors import AnnotationError, DataError, ParamsError, ServiceError
from kineflow.params import Params, only, parse_params
from kineflow.stages import ingest, paths, sync
from kineflow.stages.source_manifest import read_sources
from kineflow.stages.stage import StageReport
from kineflow.stages.starting_weights import find_starting_weights
from kineflow.tables import EVENTS, FRAME_LABELS, NEAR_COPIES, VIDEOS, read_table
from tests.s3_server import KEY, SECRET, serve_bucket

FPS = 10


def encode(path: Path, *, num_frames: int = 8, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=Fraction(FPS))
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        for _ in range(num_frames):
            image = av.VideoFrame.from_ndarray(noise.integers(0, 255, (32, 32, 3), np.uint8), format="rgb24")
            container.mux(stream.encode(image))
        container.mux(stream.encode(None))
    return path


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("KINEFLOW_HOME", raising=False)
    for seed, name in enumerate(("jump/a.mp4", "jump/b b #!().mp4", "sit/c.avi")):
        encode(tmp_path / "videos" / name, seed=seed)
    return tmp_path


def make_params(repository: Path, **data: Any) -> Params:
    values = yaml.safe_load((repository / "params" / "sample.yaml").read_text())
    task = data.pop("task", "clip")
    values["sample"] = data.pop("sample", None)
    values["data"] |= {"source": "videos", "annotations": "videos", "format": "class_folders", "group_from": "video"}
    values["data"] |= data
    if task == "frame":
        values["task"] = task
        values["promotion"]["metric"] = "frame_macro_f1"
        values["clips"]["window_sec"] = 1.0
    return parse_params(values, where="test")


def run_sync(params: Params) -> StageReport:
    report = StageReport("sync")
    sync.run(only(params, sync.PARAMS), report)
    return report


def run_ingest(params: Params) -> StageReport:
    report = StageReport("ingest")
    ingest.run(only(params, ingest.PARAMS), report)
    return report


def settle(folder: Path) -> None:
    """Date the files back, so that sync may trust their times."""
    for path in folder.rglob("*"):
        os.utime(path, ns=(10**18, 10**18 + path.stat().st_size))


def test_sync_lists_content_and_reads_it_once(project: Path, repository: Path) -> None:
    (project / "videos" / "jump" / "upload.mp4.part").write_bytes(b"half")
    (project / "videos" / "notes.txt").write_text("no video")
    settle(project / "videos")
    params = make_params(repository)
    assert run_sync(params).skipped == 0
    first = paths.SOURCES.read_bytes()
    sources = read_sources(paths.SOURCES)
    assert [(s.kind, s.key) for s in sources] == [
        ("video", "jump/a.mp4"),
        ("video", "jump/b b #!().mp4"),
        ("video", "sit/c.avi"),
    ]
    assert first.startswith(b"# kineflow sources 2\nkind\tkey\tnum_bytes\tsha256\n")
    paths.SOURCES.unlink()  # DVC does
    again = run_sync(params)
    assert (again.items, again.skipped) == (3, 3)
    assert paths.SOURCES.read_bytes() == first
    shutil.rmtree(".kineflow")  # a fresh clone makes the same bytes
    run_sync(params)
    assert paths.SOURCES.read_bytes() == first


def test_sync_sees_another_checkpoint_under_the_same_name(project: Path, repository: Path) -> None:
    values = make_params(repository).model_dump(mode="json", by_alias=True)
    values["streams"]["rgb"]["weights"] = "start.pt"
    params = parse_params(values, where="test")
    with pytest.raises(ParamsError, match=r"start\.pt"):
        run_sync(params)
    listed = []
    for content in (b"one", b"two"):
        (project / "start.pt").write_bytes(content)
        run_sync(params)
        listed.append(paths.WEIGHTS.read_text())
    digests = [hashlib.sha256(content).hexdigest() for content in (b"one", b"two")]
    assert listed == [f"key\tweights\tsha256\nstreams.rgb.weights\tstart.pt\t{digest}\n" for digest in digests]


def test_sync_sees_change_removal_and_same_size_edits(project: Path, repository: Path) -> None:
    params = make_params(repository)
    settle(project / "videos")
    run_sync(params)
    before = {source.key: source.sha256 for source in read_sources(paths.SOURCES)}
    video = project / "videos" / "jump" / "a.mp4"
    data = bytearray(video.read_bytes())
    data[-1] ^= 1
    video.write_bytes(data)
    (project / "videos" / "sit" / "c.avi").unlink()
    report = run_sync(params)
    after = {source.key: source.sha256 for source in read_sources(paths.SOURCES)}
    assert (report.items, report.skipped) == (2, 1)
    assert after.keys() == {"jump/a.mp4", "jump/b b #!().mp4"}
    assert after["jump/a.mp4"] != before["jump/a.mp4"]


def test_a_file_written_just_now_is_not_trusted(project: Path, repository: Path) -> None:
    params = make_params(repository)
    run_sync(params)
    assert run_sync(params).skipped == 0  # within two seconds of being written


def test_the_files_of_a_region_of_interest_are_sources(project: Path, repository: Path) -> None:
    values = yaml.safe_load((repository / "params" / "sample.yaml").read_text()) | {"sample": None}
    values["data"] |= {"source": "videos", "annotations": "videos", "format": "class_folders", "group_from": "video"}
    values["frames"]["roi"] |= {"kind": "boxes", "path": "cages/boxes.csv"}
    params = parse_params(values, where="test")
    with pytest.raises(DataError, match=r"cages/boxes\.csv"):
        run_sync(params)
    (project / "cages").mkdir()
    (project / "cages" / "notes.txt").write_text("not read")
    for text in ("video,x,y,width,height\n", "video,x,y,width,height\nsit/c.avi,0,0,16,16\n"):
        (project / "cages" / "boxes.csv").write_text(text)
        run_sync(params)
        found = [source for source in read_sources(paths.SOURCES) if source.kind == "roi"]
        assert [(source.key, source.sha256) for source in found] == [
            ("boxes.csv", hashlib.sha256(text.encode()).hexdigest())
        ]
    assert run_ingest(params).items == 3  # a CSV of boxes is no annotation


def test_annotation_files_are_sources(project: Path, repository: Path) -> None:
    lists = project / "lists"
    lists.mkdir()
    for name in ("trainlist01.txt", "testlist01.txt", "classInd.txt", "trainlist02.txt", "testlist02.txt"):
        (lists / name).write_text("x\n")
    run_sync(make_params(repository, annotations="lists/trainlist01.txt", format="ucf101"))
    found = [source.key for source in read_sources(paths.SOURCES) if source.kind == "annotation"]
    assert found == ["classInd.txt", "testlist01.txt", "trainlist01.txt"]


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        ({"source": "empty"}, DataError, "empty holds no videos; put some there"),
        ({"source": "absent"}, DataError, "absent is not there"),
        ({"annotations": "absent.csv", "format": "manifest"}, DataError, r"absent\.csv is not there"),
        ({"annotations": "empty", "format": "frame_csv"}, DataError, "empty holds no frame_csv annotations"),
        ({"source": "data/raw/mine"}, ParamsError, "which the pipeline empties"),
        ({"source": "."}, ParamsError, "holds the pipeline's own"),
        ({"source": "s3://bucket/x"}, ServiceError, "S3 at http://127.0.0.1:1 is out of reach"),
    ],
)
def test_sync_refuses(
    project: Path,
    repository: Path,
    monkeypatch: pytest.MonkeyPatch,
    data: dict[str, str],
    error: type[Exception],
    message: str,
) -> None:
    (project / "empty").mkdir()
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    with pytest.raises(error, match=message) as caught:
        run_sync(make_params(repository, **data))
    assert "\n" not in str(caught.value)
    assert not paths.SOURCES.exists()


def test_sync_renders_a_missing_sample(project: Path, repository: Path) -> None:
    sample = {
        "folder": "data/sample", "seed": 0, "num_groups": 1, "clips_per_class_per_group": 1, "clip_sec": 0.5,
        "fps": 10, "size_px": 32, "long_videos_per_group": 0, "long_sec": 5.0,
    }  # fmt: skip
    params = make_params(
        repository, sample=sample, source="data/sample/clips", annotations="data/sample/clips.csv", format="boris_csv",
        group_from="column:arena",
    )  # fmt: skip
    assert run_sync(params).items == 7  # six behaviours and their table
    run_ingest(params)
    videos, events = read_table(paths.VIDEOS, VIDEOS), read_table(paths.EVENTS, EVENTS)
    assert set(videos.group) == {"arena1"}
    assert events.label.nunique() == 6
    assert set(events.video_id) == set(videos.video_id)


def test_ingest_tables(project: Path, repository: Path) -> None:
    params = make_params(repository, group_from="folder")
    run_sync(params)
    report = run_ingest(params)
    assert (report.items, report.skipped, report.quarantined) == (3, 0, 0)
    videos = read_table(paths.VIDEOS, VIDEOS).set_index("video_id")
    row = videos.loc["jump/a.mp4"]
    assert (row.uri, row.num_frames, row.duration_sec, row.codec) == (
        "videos/jump/a.mp4",
        8,
        pytest.approx(0.8),
        "mpeg4",
    )
    assert (row.fps_num, row.fps_den, row.group, row.status) == (10, 1, "jump", "ok")
    assert videos.reason.isna().all()
    events = read_table(paths.EVENTS, EVENTS)
    assert events.label.tolist() == ["jump", "jump", "sit"]
    assert events.start_sec.isna().all()
    assert len(read_table(paths.FRAME_LABELS, FRAME_LABELS)) == 0
    assert "stay at videos" in (paths.RAW / "REFERENCE.txt").read_text()
    before = {path: path.read_bytes() for path in paths.TABLES.iterdir()}
    assert run_ingest(params).skipped == 3  # nothing is decoded again
    assert {path: path.read_bytes() for path in paths.TABLES.iterdir()} == before


def test_ingest_finds_a_coarse_copy_in_another_group(project: Path, repository: Path) -> None:
    def encode_disc(path: Path, *, num_skipped: int, side_px: int) -> None:
        with av.open(str(path), "w") as container:
            stream = container.add_stream("mpeg4", rate=Fraction(FPS), options={"qscale": "8"})
            stream.width = stream.height = side_px
            for i in range(num_skipped, 40):
                rows, columns = np.mgrid[:side_px, :side_px] / side_px
                distance = np.hypot(rows - 0.5 - 0.3 * np.sin(i / 4), columns - 0.5 - 0.3 * np.cos(i / 7))
                grey = np.where(distance < 0.15, 30, 120 + 80 * rows).astype(np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(grey, format="gray").reformat(format="yuv420p")))
            container.mux(stream.encode(None))

    encode_disc(project / "videos" / "jump" / "z.mp4", num_skipped=0, side_px=96)
    encode_disc(project / "videos" / "sit" / "z.mp4", num_skipped=5, side_px=64)
    params = make_params(repository, group_from="video")
    run_sync(params)
    run_ingest(params)
    (row,) = read_table(paths.NEAR_COPIES, NEAR_COPIES).itertuples(index=False)
    assert (row.video_id, row.other_id, row.shift_sec) == ("jump/z.mp4", "sit/z.mp4", pytest.approx(-0.5))
    assert row.similarity > 0.95


def test_ingest_copies_for_dvc(project: Path, repository: Path) -> None:
    params = make_params(repository, keep="dvc")
    run_sync(params)
    run_ingest(params)
    videos = read_table(paths.VIDEOS, VIDEOS)
    assert videos.uri.tolist() == ["data/raw/jump/a.mp4", "data/raw/jump/b b #!().mp4", "data/raw/sit/c.avi"]
    copy, original = Path("data/raw/jump/a.mp4"), Path("videos/jump/a.mp4")
    assert copy.read_bytes() == original.read_bytes()
    assert copy.stat().st_ino != original.stat().st_ino  # DVC makes its files read-only
    first = copy.stat()
    (project / "videos" / "sit" / "c.avi").write_bytes((project / "videos" / "jump" / "b b #!().mp4").read_bytes())
    run_sync(params)
    shutil.rmtree(paths.RAW)  # as DVC does
    run_ingest(params)
    assert (copy.stat().st_ino, copy.stat().st_mtime_ns) == (first.st_ino, first.st_mtime_ns)  # not copied again
    assert Path("data/raw/sit/c.avi").read_bytes() == Path("videos/sit/c.avi").read_bytes()


def test_a_cut_or_changed_raw_video_does_not_go_under_dvc(project: Path, repository: Path) -> None:
    params = make_params(repository, keep="dvc")
    run_sync(params)
    run_ingest(params)
    copy, original = Path("data/raw/jump/a.mp4"), Path("videos/jump/a.mp4")
    os.truncate(copy, 100)  # the store's too: they are one file
    shutil.rmtree(paths.RAW)
    run_ingest(params)
    assert copy.read_bytes() == original.read_bytes()
    shutil.rmtree(".kineflow/store/raw")
    original.write_bytes(original.read_bytes()[:-1] + b"?")
    with pytest.raises(DataError, match=r"videos/jump/a\.mp4 changed since sync; run sync again"):
        run_ingest(params)


def test_ingest_quarantines_with_a_reason(project: Path, repository: Path, shared_data: Path) -> None:
    odd = shared_data / "odd_clips"
    for name in ("deepof/lfs_pointer.mp4", "decord/corrupted.mp4", "mp4parse/amr_nb_1f.3gp"):
        shutil.copyfile(odd / name, project / "videos" / "sit" / Path(name).name)
    params = make_params(repository)
    run_sync(params)
    report = run_ingest(params)
    videos = read_table(paths.VIDEOS, VIDEOS).set_index("video_id")
    bad = videos[videos.status == "quarantined"]
    assert set(bad.index) == {"sit/lfs_pointer.mp4", "sit/corrupted.mp4", "sit/amr_nb_1f.3gp"}
    assert "container cannot be read" in bad.loc["sit/lfs_pointer.mp4"].reason
    assert "no video stream" in bad.loc["sit/amr_nb_1f.3gp"].reason
    assert bad.num_frames.isna().all()
    assert (len(videos), report.quarantined) == (6, 3)
    assert any("sit/corrupted.mp4 is quarantined" in note for note in report.notes)


def test_ingest_tells_of_a_damaged_video_and_keeps_it(project: Path, repository: Path) -> None:
    path = project / "videos" / "sit" / "c.avi"
    write_clip(path, codec="mpeg4", height=120, width=160, fps=30, num_frames=60)
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 64] = bytes(64)
    path.write_bytes(data)
    params = make_params(repository)
    run_sync(params)
    report = run_ingest(params)
    row = read_table(paths.VIDEOS, VIDEOS).set_index("video_id").loc["sit/c.avi"]
    assert row.status == "ok"
    assert 1 <= row.num_corrupt_frames < row.num_frames
    words = f"sit/c.avi is damaged in {row.num_corrupt_frames:g} of {row.num_frames:g} frames"
    assert words in report.notes


def test_ingest_refuses_when_nothing_decodes(project: Path, repository: Path) -> None:
    for path in (project / "videos").rglob("*.*"):
        path.write_bytes(b"not a video")
    params = make_params(repository)
    run_sync(params)
    with pytest.raises(DataError, match=r"none of 3 videos can be decoded \(jump/a\.mp4: "):
        run_ingest(params)


def test_ingest_notices_a_change_since_sync(project: Path, repository: Path) -> None:
    params = make_params(repository)
    run_sync(params)
    encode(project / "videos" / "jump" / "a.mp4", num_frames=4)
    with pytest.raises(DataError, match=r"jump/a\.mp4 changed since sync"):
        run_ingest(params)


def test_an_annotation_of_a_missing_video(project: Path, repository: Path) -> None:
    (project / "list.csv").write_text("path,label,group\njump/a.mp4,jump,g\njump/gone.mp4,jump,g\n")
    params = make_params(repository, annotations="list.csv", format="manifest", group_from="annotations")
    run_sync(params)
    with pytest.raises(AnnotationError, match=r"list\.csv:3: video 'jump/gone\.mp4' is not in the source"):
        run_ingest(params)
    assert not paths.VIDEOS.exists()


BORIS = "Behavior,Behavior type,Time,Media file name\n"


def frame_params(repository: Path, **data: str) -> Params:
    defaults = {"annotations": "events.csv", "format": "boris_csv", "task": "frame"}
    return make_params(repository, **(defaults | data))


def test_frame_labels_from_state_events(project: Path, repository: Path) -> None:
    """Frames at 0.0 ... 0.7 s; a state holds where start <= t < stop, and half a millisecond is rounding."""
    rows = ["groom,START,0.2,a.mp4", "groom,STOP,0.5,a.mp4", "rear,START,0.4004,a.mp4", "rear,STOP,0.8,a.mp4",
            "bite,POINT,0.3,a.mp4", "groom,START,0,c.avi", "groom,STOP,0.101,c.avi"]  # fmt: skip
    (project / "events.csv").write_text(BORIS + "\n".join(rows) + "\n")
    params = frame_params(repository)
    run_sync(params)
    report = run_ingest(params)
    labels = read_table(paths.FRAME_LABELS, FRAME_LABELS)
    a = labels[labels.video_id == "jump/a.mp4"]
    assert list(labels.columns) == ["video_id", "frame", "groom", "rear"]
    assert a.frame.tolist() == list(range(8))
    assert a.groom.tolist() == [0, 0, 1, 1, 1, 0, 0, 0]
    assert a.rear.tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    assert labels[labels.video_id == "sit/c.avi"].groom.tolist() == [1, 1, 0, 0, 0, 0, 0, 0]
    assert len(labels) == 16  # the third video is not annotated
    assert any("1 videos have no annotation" in note for note in report.notes)
    assert any("1 point events" in note for note in report.notes)


def test_frame_tables_against_decoded_counts(project: Path, repository: Path) -> None:
    (project / "tables").mkdir()
    (project / "tables" / "a.csv").write_text("groom\n" + "1\n" * 7)  # one row short: the last frame is unlabelled
    (project / "tables" / "c.csv").write_text("groom\n" + "0\n" * 3 + "-1\n" * 5 + "1\n")  # one row long: left out
    params = frame_params(repository, annotations="tables", format="frame_csv")
    run_sync(params)
    notes = run_ingest(params).notes
    assert [note for note in notes if "tables" in note] == [
        "1 tables have a row more than their videos have frames, and the last row of each is left out: c.csv",
        "1 tables have a row less than their videos have frames, and the last frame of each is unlabelled: a.csv",
    ]
    labels = read_table(paths.FRAME_LABELS, FRAME_LABELS)
    assert labels.groom.isna().tolist() == [False] * 7 + [True] + [False] * 3 + [True] * 5
    assert labels.groom.dropna().tolist() == [1] * 7 + [0] * 3
    (project / "tables" / "a.csv").write_text("groom\n" + "1\n" * 6)
    run_sync(params)
    with pytest.raises(AnnotationError, match=r"a\.csv: 6 rows for the 8 frames of jump/a\.mp4"):
        run_ingest(params)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            "groom,START,0.5,a.mp4\ngroom,STOP,1.5,a.mp4\n",
            r"events\.csv:2: groom is at 1\.5 s but jump/a\.mp4 lasts 0\.8",
        ),
        ("groom,START,-1,a.mp4\ngroom,STOP,0.5,a.mp4\n", r"events\.csv:2: groom starts at -1 s, before the video"),
        ("bite,POINT,7,a.mp4\ngroom,START,0,a.mp4\ngroom,STOP,0.5,a.mp4\n", r"events\.csv:2: bite is at 7 s"),
    ],
)
def test_events_outside_the_video(project: Path, repository: Path, rows: str, message: str) -> None:
    (project / "events.csv").write_text(BORIS + rows)
    params = frame_params(repository)
    run_sync(params)
    with pytest.raises(AnnotationError, match=message):
        run_ingest(params)


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        ({"task": "frame"}, ParamsError, "needs labels with start and stop"),
        ({"format": "frame_csv", "annotations": "tables"}, ParamsError, "set task: frame"),
        ({"group_from": "subject"}, ParamsError, "'subject' is no rule"),
        ({"group_from": "column:nest"}, AnnotationError, "no single value in column 'nest'"),
        ({"group_from": "regex:("}, ParamsError, "no regular expression"),
        ({"group_from": "regex:jump"}, ParamsError, "in parentheses"),
        ({"group_from": "regex:(jump)"}, AnnotationError, r"sit/c\.avi: '\(jump\)' does not match"),
    ],
)
def test_params_that_do_not_fit(
    project: Path, repository: Path, data: dict[str, str], error: type[Exception], message: str
) -> None:
    (project / "tables").mkdir()
    (project / "tables" / "a.csv").write_text("groom\n1\n")
    params = make_params(repository, **data)
    run_sync(params)
    with pytest.raises(error, match=message):
        run_ingest(params)


def test_groups_by_regex(project: Path, repository: Path) -> None:
    params = make_params(repository, group_from=r"regex:/(\w)[^/]*$")
    run_sync(params)
    run_ingest(params)
    assert read_table(paths.VIDEOS, VIDEOS).group.tolist() == ["a", "b", "c"]


@contextmanager
def counted_downloads() -> Iterator[list[str]]:
    """The keys of the objects whose bytes are asked for inside the block."""
    fetched: list[str] = []

    def note(params: dict[str, Any], **_: Any) -> None:
        fetched.append(params["Key"])

    events = storage.s3.client().meta.events
    events.register("before-parameter-build.s3.GetObject", note)
    try:
        yield fetched
    finally:
        events.unregister("before-parameter-build.s3.GetObject", note)


def test_videos_and_annotations_on_s3(project: Path, repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "list.csv").write_text("path,label,group\njump/a.mp4,jump,g1\nsit/c.avi,sit,g2\n")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    (project / "server").mkdir()
    with serve_bucket(project / "server") as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        for info in storage.list_files("videos"):
            storage.put_file(Path("videos") / info.key, f"s3://bucket/lab/{info.key}")
        storage.put_file(Path("list.csv"), "s3://bucket/notes/list.csv")
        params = make_params(
            repository, source="s3://bucket/lab", annotations="s3://bucket/notes/list.csv", format="manifest",
            group_from="annotations",
        )  # fmt: skip
        assert run_sync(params).skipped == 0
        assert run_sync(params).skipped == 4  # nothing is fetched again
        with counted_downloads() as fetched:
            storage.put_file(encode(project / "new.mp4", seed=9), "s3://bucket/lab/sit/c.mp4")
            storage.put_file(encode(project / "other.mp4", seed=10), "s3://bucket/lab/jump/a.mp4")
            assert run_sync(params).skipped == 3
            assert sorted(fetched) == ["lab/jump/a.mp4", "lab/sit/c.mp4"]  # the new one and the changed one
            fetched.clear()
            storage.put_file(Path("videos/jump/a.mp4"), "s3://bucket/lab/jump/a.mp4")
            storage.s3.client().delete_object(Bucket="bucket", Key="lab/sit/c.mp4")
            assert run_sync(params).skipped == 3
            assert fetched in ([], ["lab/jump/a.mp4"])  # a server may give equal bytes the ETag of before
        remote = paths.SOURCES.read_bytes()
        run_ingest(params)
        videos = read_table(paths.VIDEOS, VIDEOS)
        assert videos.uri[0] == "s3://bucket/lab/jump/a.mp4"
        assert videos.group.tolist() == ["g1", "jump/b b #!().mp4", "g2"]
        assert read_table(paths.EVENTS, EVENTS).source.tolist() == ["list.csv:2", "list.csv:3"]
        shutil.rmtree(".kineflow/store")  # what was fetched is still there
        storage.put_file(encode(project / "late.mp4", seed=11), "s3://bucket/lab/sit/c.avi")  # since sync
        run_ingest(make_params(repository, source="s3://bucket/lab", annotations="s3://bucket/notes/list.csv",
                               format="manifest", group_from="annotations", keep="dvc"))  # fmt: skip
        assert Path("data/raw/sit/c.avi").read_bytes() == Path("videos/sit/c.avi").read_bytes()
    run_sync(make_params(repository, annotations="list.csv", format="manifest", group_from="annotations"))
    assert paths.SOURCES.read_bytes() == remote  # the same content, wherever it is


def test_sync_imports_nothing_heavy() -> None:
    code = "import sys, kineflow.stages.sync; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"pandas", "pyarrow", "torch", "cv2", "av", "boto3", "ray"} & set(loaded)


def test_weights_are_looked_for_where_their_stream_is_on(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "start.pt").write_bytes(b"weights")
    values = yaml.safe_load((repository / "params" / "tiny.yaml").read_text())
    values["distill"]["enabled"] = False
    values["release"]["stream"] = "rgb"
    values["streams"]["rgb"]["weights"] = "start.pt"
    values["streams"]["flow"] |= {"enabled": False, "weights": "nowhere.pt"}
    values["embed"]["weights"] = "nowhere.pt"
    found = find_starting_weights(only(parse_params(values, where="test"), sync.PARAMS))
    assert {key: (source, path.name) for key, (source, path) in found.items()} == {
        "streams.rgb.weights": ("start.pt", "start.pt")
    }
    values["streams"]["flow"]["enabled"] = True
    with pytest.raises(ParamsError, match=r"nowhere\.pt"):
        find_starting_weights(only(parse_params(values, where="test"), sync.PARAMS))
