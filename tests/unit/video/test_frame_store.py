import json
import pickle
import tracemalloc
import zipfile
from array import array
from pathlib import Path

import cv2
import numpy as np
import pytest
import simplejpeg

from kineflow.errors import DataError
from kineflow.video.flow import compute_flow
from kineflow.video.flow_store import FlowRule
from kineflow.video.frame_store import FrameReader, writing_frames
from kineflow.video.pack import PackReader, PackWriter, writing_pack

SHAPE = (24, 40)


def picture(value: int) -> np.ndarray:
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    return np.stack([4 * x + value, 6 * y + value, x + y], axis=-1).astype(np.uint8)


def write_store(path: Path, *, num_frames: int = 5) -> Path:
    with writing_frames(path, fps=10.0, height=SHAPE[0], width=SHAPE[1], quality=95) as writer:
        for index in range(num_frames):
            jpeg = simplejpeg.encode_jpeg(picture(10 * index), quality=95, colorsubsampling="444")
            writer.append(jpeg, source_frame=3 * index, timestamp_sec=0.1 * index + 0.004)
    return path


def test_frames_come_back_in_any_order_with_their_source(tmp_path: Path) -> None:
    reader = FrameReader(write_store(tmp_path / "a.zip"))
    assert (reader.num_frames, reader.height, reader.width, reader.fps, reader.quality) == (5, 24, 40, 10.0, 95)
    np.testing.assert_array_equal(reader.source_frames, [0, 3, 6, 9, 12])
    np.testing.assert_allclose(reader.timestamps_sec, [0.004, 0.104, 0.204, 0.304, 0.404])
    frames = reader.read([4, 0, 4])
    assert frames.shape == (3, 24, 40, 3)
    for frame, value in zip(frames, (40, 0, 40), strict=True):
        assert np.abs(frame.astype(int) - picture(value)).mean() < 2
    gray = cv2.cvtColor(picture(20), cv2.COLOR_RGB2GRAY)
    assert np.abs(reader.read_gray(2).astype(int) - gray).mean() < 2
    assert reader.read([]).shape == (0, 24, 40, 3)


def test_common_tools_open_it(tmp_path: Path) -> None:
    path = write_store(tmp_path / "a.zip")
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == [*(f"{index:06d}.jpg" for index in range(5)), "index.json"]
        assert cv2.imdecode(np.frombuffer(archive.read("000003.jpg"), np.uint8), cv2.IMREAD_COLOR).shape == (24, 40, 3)
        assert json.loads(archive.read("index.json"))["source_frames"] == [0, 3, 6, 9, 12]


def test_the_bytes_are_those_of_a_zip_written_member_by_member(tmp_path: Path) -> None:
    """Also beyond 65,535 members, where the directory of a ZIP takes another form."""
    data = [bytes([item % 251]) * (item % 3) for item in range(66_000)]
    path, times, plain = tmp_path / "a.zip", array("d", [0.0, 0.1, 1e-7]), tmp_path / "plain.zip"
    with writing_pack(path, suffix="bin") as pack:
        for item in data:
            pack.append(item)
        pack.finish({"kind": "x", "times": times, "corners": np.array([[1, 2], [3, 4]]), "none": array("q")})
    infos, offsets, position = [], [], 0
    with zipfile.ZipFile(plain, "w") as archive:
        for number in range(len(data) + 1):
            name = "index.json" if number == len(data) else f"{number:06d}.bin"
            info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            info.create_system, info.external_attr = 3, 0o644 << 16
            infos.append(info)
        for info, item in zip(infos, data, strict=False):
            archive.writestr(info, item)
            position += 30 + len(info.filename) + len(item)
            offsets.append(position - len(item))
        index = {"kind": "x", "times": times.tolist(), "corners": [[1, 2], [3, 4]], "none": []}
        index |= {"offsets": offsets, "sizes": [len(item) for item in data]}
        text = json.dumps(index, separators=(",", ":")).encode()
        archive.writestr(infos[-1], text)
        archive.comment = b"kineflow index %012d %012d" % (position + 30 + len("index.json"), len(text))
    assert path.read_bytes() == plain.read_bytes()
    reader = PackReader(path, kind="x", version=None)  # type: ignore[arg-type]
    assert [reader.read(item) for item in (0, 1, 65_999)] == [data[0], data[1], data[65_999]]


def test_an_open_store_holds_few_bytes_for_each_frame(tmp_path: Path) -> None:
    with writing_frames(tmp_path / "a.zip", fps=10.0, height=1, width=1, quality=95) as writer:
        for index in range(20_000):
            writer.append(b"", source_frame=1000 + index, timestamp_sec=index / 7)
    tracemalloc.start()
    try:
        reader = FrameReader(tmp_path / "a.zip")
        held_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(reader) * 32 <= held_bytes < len(reader) * 34  # four numbers of eight bytes


def test_the_same_frames_give_the_same_bytes(tmp_path: Path) -> None:
    first, second = write_store(tmp_path / "a.zip"), write_store(tmp_path / "b.zip")
    assert first.read_bytes() == second.read_bytes()


def test_a_reader_survives_pickling_and_closing(tmp_path: Path) -> None:
    reader = FrameReader(write_store(tmp_path / "a.zip"))
    wanted = reader.read([2])
    copy = pickle.loads(pickle.dumps(reader))
    reader.close()
    np.testing.assert_array_equal(copy.read([2]), wanted)
    np.testing.assert_array_equal(reader.read([2]), wanted)


def test_what_is_not_there_is_refused(tmp_path: Path) -> None:
    reader = FrameReader(write_store(tmp_path / "a.zip"))
    for item in (5, -1):
        with pytest.raises(IndexError, match=f"item {item} wanted, it has 5"):
            reader.read([item])
    with pytest.raises(DataError, match="is not there"):
        FrameReader(tmp_path / "none.zip")


@pytest.mark.parametrize("keep", [0, 10, 1000, -1])
def test_a_store_that_is_cut_off_is_refused(tmp_path: Path, keep: int) -> None:
    path = write_store(tmp_path / "a.zip")
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError, match="cut off"):
        FrameReader(path)


def test_another_kind_or_version_is_refused_by_name(tmp_path: Path) -> None:
    with writing_pack(tmp_path / "a.zip", suffix="bin") as pack:
        pack.append(b"x")
        pack.finish({"kind": "frames", "version": 1})
    with pytest.raises(DataError, match="holds frames version 1, wanted frames version 3"):
        FrameReader(tmp_path / "a.zip")
    with pytest.raises(DataError, match="wanted flow version 1"):
        PackReader(tmp_path / "a.zip", kind="flow", version=1)
    assert PackReader(tmp_path / "a.zip", kind="frames", version=1).read(0) == b"x"


def overwrite(path: Path, start: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(start)
        file.write(data)


@pytest.mark.parametrize("data", [b"\x00" * 64, b"\x55"])
def test_damage_inside_a_frame_is_refused_by_name_and_the_others_are_read(data: bytes, tmp_path: Path) -> None:
    path = write_store(tmp_path / "a.zip")
    pack = FrameReader(path)._pack
    overwrite(path, int(pack._offsets[2] + pack._sizes[2]) - 100, data)
    reader = FrameReader(path)
    assert len(reader.read([0, 1, 3, 4])) == 4
    for read in (lambda: reader.read([1, 2]), lambda: reader.read_gray(2), lambda: reader.read_scaled(2)):
        with pytest.raises(DataError, match=r"a\.zip: item 2 is damaged; delete it with its links \(find \. -samefile"):
            read()
    with pytest.raises(DataError, match="item 2 is damaged"):
        compute_flow(path, tmp_path / "flow.zip", rule=FlowRule("dis_fast", 8.0), jpeg_quality=90)


def test_damage_inside_the_index_is_refused(tmp_path: Path) -> None:
    path = write_store(tmp_path / "a.zip")
    overwrite(path, path.read_bytes().index(b'"timestamps_sec"'), b"\x00" * 20)
    with pytest.raises(DataError, match=r"a\.zip: its index is damaged; delete it"):
        FrameReader(path)


def test_each_item_has_its_checksum_whatever_the_length_of_its_name(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        pack = PackWriter(archive, "jpg")
        for item in range(3):
            pack.append(b"%d" % item * (item + 1))
        pack._offsets, pack._sizes = pack._offsets[-1:] * 1_000_000, pack._sizes[-1:] * 1_000_000
        pack.append(b"last")
        pack.finish({"kind": "k", "version": 1})
    with PackReader(tmp_path / "a.zip", kind="k", version=1) as reader:
        assert reader.read(1_000_000) == b"last"
