import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from kineflow.errors import DataError
from kineflow.store import is_npy
from kineflow.video.feature_store import STORED_AS, FeatureReader, Precision, write_features


def written(path: Path, features_ND: np.ndarray, precision: Precision) -> FeatureReader:
    write_features(path, [features_ND], num_frames=len(features_ND), precision=precision)
    return FeatureReader(path)


def nearest_bf16(value: float) -> float:
    """The slow way: of the two float32 whose lower half is zero, the nearer one; of two as near, the even one."""
    (bits,) = struct.unpack("<I", struct.pack("<f", value))
    below, above = (struct.unpack("<f", struct.pack("<I", (bits >> 16) + up << 16))[0] for up in (0, 1))
    if abs(value - below) == abs(above - value):
        return float(above if bits >> 16 & 1 else below)
    return float(min(below, above, key=lambda near: abs(value - near)))


def test_bf16_rounds_to_the_nearest_and_ties_to_even(tmp_path: Path) -> None:
    given = [0.0, 1.0, 1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-8 + 2**-20, -(1 + 2**-7), 70_000.0, 1e-40, -3e38]
    told = [0.0, 1.0, 1.0, 1 + 2**-6, 1 + 2**-7, -(1 + 2**-7), 137 * 512.0, 2.0**-133, -226 * 2.0**120]
    read_ND = written(tmp_path / "v.npy", np.array([given], np.float32), "bf16").read([0])
    assert read_ND.dtype == np.float32
    assert read_ND[0].tolist() == told


def test_bf16_rounds_as_the_slow_way_does(tmp_path: Path) -> None:
    bits = np.random.default_rng(0).integers(0, 0x7F7F0000, (200, 40), np.uint32)  # below the largest bf16
    bits[:40] = bits[:40] & 0xFFFF0000 | 0x8000  # ties
    features_ND = bits.view(np.float32) * np.where(bits & 1, -1, 1).astype(np.float32)
    read_ND = written(tmp_path / "v.npy", features_ND, "bf16").read(range(200))
    np.testing.assert_array_equal(read_ND, [[nearest_bf16(float(value)) for value in row] for row in features_ND])


def test_every_bf16_is_widened_as_torch_widens_it(tmp_path: Path) -> None:
    bits = np.arange(2**16, dtype=np.uint16).reshape(256, 256)
    np.save(tmp_path / "v.npy", bits.view(STORED_AS["bf16"]))
    read_ND = FeatureReader(tmp_path / "v.npy").read(range(256))
    np.testing.assert_array_equal(read_ND, torch.from_numpy(bits).view(torch.bfloat16).float().numpy())


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_what_numpy_has_is_stored_as_numpy_stores_it(tmp_path: Path, precision: Precision) -> None:
    features_ND = np.random.default_rng(0).normal(size=(7, 5)).astype(np.float32)
    features_ND[0] = [6e-8, 2**-25, 3 * 2**-25, 65_519, -0.0]  # of fp16: the least, ties, the largest, a sign
    np.save(tmp_path / "numpy.npy", features_ND.astype(STORED_AS[precision]))
    columns_first = np.asfortranarray(features_ND)
    write_features(tmp_path / "v.npy", [columns_first[:4], columns_first[4:]], num_frames=7, precision=precision)
    assert (tmp_path / "v.npy").read_bytes() == (tmp_path / "numpy.npy").read_bytes()


@pytest.mark.parametrize("precision", list(STORED_AS))
def test_frames_are_read_in_the_order_asked_for(tmp_path: Path, precision: Precision) -> None:
    features_ND = np.arange(12, dtype=np.float32).reshape(4, 3)  # exact in all of them
    reader = written(tmp_path / "v.npy", features_ND, precision)
    assert is_npy(tmp_path / "v.npy")
    assert (len(reader), reader.num_features) == (4, 3)
    read_TD = reader.read(np.array([3, 0, 3]))
    assert read_TD.dtype == np.float32
    np.testing.assert_array_equal(read_TD, features_ND[[3, 0, 3]])
    with pytest.raises(IndexError):
        reader.read([4])


def test_a_stored_bf16_cannot_be_taken_for_a_number(tmp_path: Path) -> None:
    written(tmp_path / "v.npy", np.ones((2, 3), np.float32), "bf16")
    with pytest.raises((TypeError, ValueError)):
        np.load(tmp_path / "v.npy").astype(np.float32)


@pytest.mark.parametrize(
    ("precision", "value", "message"),
    [
        ("fp16", 7e4, r"features reach 7e\+04, and fp16 holds up to 6.55e\+04; set embed.precision to bf16 or fp32"),
        ("bf16", -3.4e38, r"features reach 3.4e\+38, and bf16 holds up to 3.39e\+38; set embed.precision to fp32"),
    ],
)
def test_what_the_precision_cannot_hold_is_refused(
    tmp_path: Path, precision: Precision, value: float, message: str
) -> None:
    features_ND = np.array([[1.0, value]], np.float32)
    with pytest.raises(DataError, match=message):
        written(tmp_path / "v.npy", features_ND, precision)
    np.testing.assert_array_equal(written(tmp_path / "wide.npy", features_ND, "fp32").read([0]), features_ND)


def test_a_damaged_store_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "v.npy"
    with pytest.raises(DataError, match=r"v\.npy: its features cannot be read"):
        FeatureReader(path)
    written(path, np.ones((4, 3), np.float32), "bf16")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"v\.npy: its features cannot be read .*; make it again"):
        FeatureReader(path)
    for other in (np.ones((4, 3), np.int64), np.ones(4, np.float32)):
        np.save(path, other)
        with pytest.raises(DataError, match=r"v\.npy: holds no features of frames"):
            FeatureReader(path)
