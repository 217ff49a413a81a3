from pathlib import Path

import h5py
import numpy as np
import pytest

from kineflow.annotations.pose import read_pose
from kineflow.annotations.pose.deeplabcut_csv import is_deeplabcut
from kineflow.errors import AnnotationError, ParamsError

SINGLE = "scorer,net,net,net\nbodyparts,nose,nose,nose\ncoords,x,y,likelihood\n"
MULTI = (
    "scorer,net,net,net,net,net,net\nindividuals,m1,m1,m1,m2,m2,m2\nbodyparts,nose,nose,nose,nose,nose,nose\n"
    "coords,x,y,likelihood,x,y,likelihood\n"
)
NAMES = b"(lp0\n(Vnet\nVnose\nVx\ntp1\na(Vnet\nVnose\nVy\ntp2\na(Vnet\nVnose\nVlikelihood\ntp3\na."
EVIL = b"cos\nsystem\n(S'true'\ntR."


def write_table(path: Path, values: np.ndarray, *, names: bytes = NAMES, first: int = 0) -> Path:
    """As pandas lays out `to_hdf(format="table")`."""
    rows = np.zeros(len(values), [("index", "i8"), ("values_block_0", "f8", (values.shape[1],))])
    rows["index"], rows["values_block_0"] = np.arange(len(values)) + first, values
    with h5py.File(path, "w") as file:
        table = file.create_dataset("df_with_missing/table", data=rows)
        table.attrs["values_block_0_kind"] = np.bytes_(names)
    return path


def write_fixed(path: Path, values: np.ndarray) -> Path:
    """As pandas lays out `to_hdf(format="fixed")`."""
    levels = [([b"net"], [0, 0, 0]), ([b"nose"], [0, 0, 0]), ([b"likelihood", b"x", b"y"], [1, 2, 0])]
    with h5py.File(path, "w") as file:
        group = file.create_group("df_with_missing")
        group.attrs["axis0_nlevels"], group.attrs["nblocks"] = 3, 1
        for level, (names, codes) in enumerate(levels):
            group[f"block0_items_level{level}"], group[f"block0_items_label{level}"] = np.array(names), codes
        group["axis1"], group["block0_values"] = np.arange(len(values)), values
    return path


def test_single_animal_csv(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(SINGLE + "0,1.5,2.5,0.9\n1,,,\n")
    track = read_pose(tmp_path / "a.csv")
    assert (track.bodyparts, track.individuals, track.num_frames) == (("nose",), ("",), 2)
    np.testing.assert_array_equal(track.xy_px, np.array([[[[1.5, 2.5]]], [[[np.nan, np.nan]]]], np.float32))
    np.testing.assert_array_equal(track.likelihood, np.array([[[0.9]], [[np.nan]]], np.float32))
    assert is_deeplabcut(tmp_path / "a.csv")


def test_multi_animal_csv(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(MULTI + "0,1,2,0.5,3,4,0.25\n")
    track = read_pose(tmp_path / "a.csv")
    assert track.individuals == ("m1", "m2")
    assert track.xy_px.tolist() == [[[[1.0, 2.0]], [[3.0, 4.0]]]]
    assert track.likelihood.tolist() == [[[0.5], [0.25]]]


def test_both_layouts_of_hdf5(tmp_path: Path) -> None:
    values = np.array([[1.0, 2.0, 0.5], [3.0, 4.0, 0.25]])
    for path in (write_table(tmp_path / "t.h5", values), write_fixed(tmp_path / "f.h5", values)):
        track = read_pose(path)
        assert track.bodyparts == ("nose",)
        assert track.xy_px.tolist() == [[[[1.0, 2.0]]], [[[3.0, 4.0]]]]
        assert track.likelihood.tolist() == [[[0.5]], [[0.25]]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the header rows are not scorer"),
        ("a,b\n0,1\n", "the header rows are not scorer"),
        (SINGLE + "0,1,2\n", r"p\.csv:4: 3 columns where the header has 4"),
        (SINGLE + "1,1,2,0.5\n", r"p\.csv:4: frame 1 where 0 follows"),
        (SINGLE + "0,1,x,0.5\n", r"p\.csv:4: 'x' is no number"),
        (SINGLE.replace("likelihood", "z"), "is not x, y or likelihood"),
        (SINGLE.replace("net,net,net", "net,net,other"), "several scorers"),
        ("scorer,n,n\nbodyparts,a,a\ncoords,x,y\n", "a lacks the column likelihood"),
    ],
)
def test_malformed_csv(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "p.csv").write_text(text)
    with pytest.raises(AnnotationError, match=message):
        read_pose(tmp_path / "p.csv")


def test_malformed_hdf5(tmp_path: Path) -> None:
    values = np.ones((2, 3))
    (tmp_path / "text.h5").write_text("no HDF5")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = 1
    cut = write_table(tmp_path / "cut.h5", values)
    cut.write_bytes(cut.read_bytes()[:-100])
    for path, message in (
        (tmp_path / "text.h5", r"text\.h5: no readable HDF5"),
        (tmp_path / "other.h5", "no df_with_missing"),
        (cut, r"cut\.h5: no readable HDF5"),
        (write_table(tmp_path / "late.h5", values, first=5), "frames are not 0 to 1"),
        (write_table(tmp_path / "evil.h5", values, names=EVIL), "names os.system, and only plain lists are read"),
        (tmp_path / "gone.h5", "is not there"),
    ):
        with pytest.raises(AnnotationError, match=message):
            read_pose(path)
    with pytest.raises(ParamsError, match=r"no reader of keypoints takes \.txt"):
        read_pose(tmp_path / "a.txt")
