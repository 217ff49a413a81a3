from pathlib import Path

import pytest

from kineflow.errors import DataError
from kineflow.store import file_sha256
from kineflow.video.pose_files import find_pose_files, list_pose_files
from tests.unit.annotations.test_pose_json import write_openpose

CSV = "scorer,net,net,net\nbodyparts,nose,nose,nose\ncoords,x,y,likelihood\n0,1,2,0.5\n"


def found(root: Path, *video_ids: str) -> dict:
    keys = [info.key for info in list_pose_files(str(root), param="pose.path")]
    return find_pose_files(str(root), keys, video_ids, {})


def test_files_and_folders_are_found_by_the_video_and_read(tmp_path: Path) -> None:
    (tmp_path / "monday").mkdir()
    (tmp_path / "monday" / "cage1DLC_resnet50.csv").write_text(CSV)
    write_openpose(tmp_path / "monday" / "cage2", [[], [], []])
    (tmp_path / "notes.txt").write_text("no keypoints")
    files = found(tmp_path, "monday/cage1.mp4", "monday/cage2.mp4")
    one, many = files["monday/cage1.mp4"], files["monday/cage2.mp4"]
    assert one.keys == ("monday/cage1DLC_resnet50.csv",)
    assert one.content == file_sha256(tmp_path / "monday" / "cage1DLC_resnet50.csv")
    assert (many.name, len(many.keys)) == ("monday/cage2", 3)
    assert one.read(cache_dir=tmp_path).bodyparts == ("nose",)
    assert many.read(cache_dir=tmp_path).num_frames == 3
    before = many.content
    (tmp_path / many.keys[1]).write_text('{"people": [ ]}')
    with pytest.raises(DataError, match="changed since sync"):
        many.read(cache_dir=tmp_path)
    assert found(tmp_path, "monday/cage2.mp4")["monday/cage2.mp4"].content != before


def test_none_or_several_are_refused(tmp_path: Path) -> None:
    (tmp_path / "aDLC_x.csv").write_text(CSV)
    (tmp_path / "a.json").write_text("{}")
    with pytest.raises(DataError, match=r"several files \(a\.json, aDLC_x\.csv\) for a\.mp4"):
        found(tmp_path, "a.mp4")
    with pytest.raises(DataError, match=r"no keypoints for sub/b\.mp4; give one, named sub/bDLC\*\.csv, sub/b\.json"):
        found(tmp_path, "sub/b.mp4")
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match=r"none holds no keypoints .*; correct pose\.path"):
        found(tmp_path / "none", "a.mp4")
