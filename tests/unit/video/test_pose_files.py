from pathlib import Path

import pytest

from kineflow import storage
from kineflow.errors import DataError
from kineflow.inference.keypoints import find_keypoints
from kineflow.store import file_sha256
from kineflow.video.pose_files import find_pose_files, list_pose_files
from tests.s3_server import KEY, SECRET, serve_bucket
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
    with pytest.raises(DataError, match=r"a\.json is a file; name the folder .* in pose\.path"):
        found(tmp_path / "a.json", "a.mp4")


def test_keypoints_on_s3_are_listed_read_and_found_by_a_prediction(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "keypoints"
    write_openpose(root / "monday" / "cage2", [[], []])
    (root / "aDLC_x.csv").write_text(CSV)
    monkeypatch.setenv("KINEFLOW_HOME", str(tmp_path / "home"))
    for name, value in (("AWS_ACCESS_KEY_ID", KEY), ("AWS_SECRET_ACCESS_KEY", SECRET)):
        monkeypatch.setenv(name, value)
    with serve_bucket(tmp_path) as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        for info in storage.list_files(str(root)):
            storage.put_file(root / info.key, f"s3://bucket/lab/{info.key}")
        listed = list_pose_files("s3://bucket/lab", param="pose.path")
        assert [info.key for info in listed] == [info.key for info in storage.list_files(str(root))]
        hashes = {info.key: file_sha256(root / info.key) for info in listed}
        files = find_pose_files("s3://bucket/lab", hashes, ["monday/cage2.mp4", "a.mp4"], hashes)
        assert files["monday/cage2.mp4"].read(cache_dir=tmp_path / "objects").num_frames == 2
        assert files["a.mp4"].read(cache_dir=tmp_path / "objects").bodyparts == ("nose",)
        local = found(root, "a.mp4", "monday/cage2.mp4")
        assert {name: one.content for name, one in files.items()} == {name: one.content for name, one in local.items()}
        video = tmp_path / "elsewhere" / "a.mp4"
        video.parent.mkdir()
        assert find_keypoints(video, "a.mp4", trained_on="s3://bucket/lab").content == local["a.mp4"].content
        with pytest.raises(DataError, match=r"a\.mp4: this model looks at keypoints, and there are none beside"):
            find_keypoints(video, "b.mp4", trained_on="s3://bucket/lab")
    with pytest.raises(DataError, match=r"s3://bucket/lab/aDLC_x\.csv is not in the manifest"):
        find_pose_files("s3://bucket/lab", ["aDLC_x.csv"], ["a.mp4"], {})
