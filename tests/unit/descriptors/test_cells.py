"""Cells of videos against means over pixels, in a mirror, and against a golden value."""

from pathlib import Path

import numpy as np
import pytest

from kineflow.descriptors import cells
from kineflow.descriptors.cells import CellRule, Scale, read_cells, video_cells, write_cells
from kineflow.descriptors.local import MIRRORED
from kineflow.errors import DataError
from kineflow.store import ResultStore
from tests.unit.descriptors.stores import make_stores, smooth_video

RULE = CellRule(short_side_px=24, scales=(Scale(6, 2), Scale(9, 2)), track=False)
# Per CODE_VERSION: the mean of each field's cells of `smooth_video(3, 24, 32)`. Where this fails, raise CODE_VERSION.
GOLDEN = {1: [0.38421, 0.12467, 0.14401, 0.89487]}


def made(folder: Path, gray: np.ndarray, flow: np.ndarray, rule: CellRule = RULE) -> cells.VideoCells:
    write_cells(*make_stores(folder, gray, flow), rule, folder / "cells")
    return read_cells(folder / "cells", rule)


def test_constant_motion_fills_every_cell_alike(tmp_path: Path) -> None:
    flow = np.broadcast_to(np.float32([4.0, 0.0]), (2, 24, 32, 2))
    found = made(tmp_path, np.full((3, 24, 32), 80), flow)
    assert [scale.shape for scale in found.scales] == [(2, 4, 5, 32), (2, 3, 4, 32)]
    length = np.sqrt(round(4 * 127 / 8) * 8 / 127)  # the store counts in steps
    for scale in found.scales:
        assert scale[..., :8] == pytest.approx(
            np.broadcast_to(length * np.array([1, 0.5, 0, 0, 0, 0, 0, 0.5]), scale[..., :8].shape), abs=2e-3
        )
        assert not np.asarray(scale[..., 8:]).any()  # no gradients


def test_area_means_are_means_over_pixels() -> None:
    values = np.random.default_rng(0).random((24, 32, 3)).astype(np.float32)
    assert cells.area_means(values, (4, 4)) == pytest.approx(values.reshape(4, 6, 4, 8, 3).mean(axis=(1, 3)), abs=1e-6)
    line = np.array([[1.0, 2.0, 4.0]], np.float32)[..., None]
    # cells of 1.5 pixels: (1 + 2 / 2) / 1.5 and (2 / 2 + 4) / 1.5
    assert cells.area_means(line, (1, 2))[0, :, 0] == pytest.approx([4 / 3, 10 / 3])


def test_a_mirror_permutes_columns_and_directions(tmp_path: Path) -> None:
    gray, flow = smooth_video(3, 24, 32)
    plain = made(tmp_path / "a", gray, flow)
    mirror = made(tmp_path / "b", gray[:, :, ::-1], flow[:, :, ::-1] * np.array([-1, 1], np.float32))
    for seen, expected in zip(mirror.scales, plain.scales, strict=True):
        by_field = np.asarray(expected, np.float32)[:, :, ::-1].reshape(*expected.shape[:3], 4, 8)
        swapped = np.stack([by_field[..., f, MIRRORED[f]] for f in range(4)], axis=3).reshape(seen.shape)
        for field, tolerance in enumerate((0.01, 0.01, 0.01, 0.5)):  # JPEGs are not mirrored exactly
            part = slice(8 * field, 8 * field + 8)
            assert np.asarray(seen[..., part], np.float32) == pytest.approx(swapped[..., part], abs=tolerance)


def test_larger_videos_are_averaged_down_and_their_flow_with_them(tmp_path: Path) -> None:
    flow = np.broadcast_to(np.float32([0.0, 4.0]), (1, 48, 64, 2))
    (found, _) = made(tmp_path, np.full((2, 48, 64), 80), flow).scales
    assert found.shape == (1, 4, 5, 32)
    assert found[0, 0, 0, 2] == pytest.approx(np.sqrt(2.0), abs=0.01)  # half as many pixels
    assert cells.described_size(48, 64, 24) == (24, 32) and cells.described_size(20, 30, 24) == (20, 30)


def test_the_code_version_rises_with_the_result(tmp_path: Path) -> None:
    (found, _) = made(tmp_path, *smooth_video(3, 24, 32)).scales
    means = np.asarray(found, np.float32).reshape(3, 4, 5, 4, 8).mean(axis=(0, 1, 2, 4))
    assert means.tolist() == pytest.approx(GOLDEN[cells.CODE_VERSION], abs=2e-3)


def test_drift_is_in_tiles_and_blind_to_single_pixels(tmp_path: Path) -> None:
    flow = np.zeros((1, 24, 32, 2), np.float32)
    flow[0, ..., 0] = 3.0
    flow[0, 10, 10] = [-8.0, 8.0]  # an outlier
    rule = CellRule(24, (Scale(6, 2),), track=True)
    (found,) = made(tmp_path, np.full((2, 24, 32), 80), flow, rule).scales
    assert found.shape == (1, 8, 11, 34)
    assert np.asarray(found[0, ..., 32], np.float32) == pytest.approx(np.full((8, 11), 3 * 11 / 32), abs=0.02)
    assert np.asarray(found[0, ..., 33], np.float32) == pytest.approx(np.zeros((8, 11)), abs=1e-6)


def test_computed_once(tmp_path: Path) -> None:
    make_stores(tmp_path, *smooth_video(2, 24, 32))
    store = ResultStore(tmp_path / "store")
    paths = tmp_path / "frames.zip", tmp_path / "flow.zip"
    key = cells.cells_key("f", "g", RULE)
    first = video_cells(*paths, key, RULE, store)
    paths[1].unlink()
    again = video_cells(*paths, key, RULE, store)
    assert all((a == b).all() for a, b in zip(first.scales, again.scales, strict=True))
    assert cells.cells_key("f", "g", CellRule(24, RULE.scales, track=True)) != key


def test_a_video_of_one_frame_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="one frame has no motion"):
        made(tmp_path, np.zeros((1, 24, 32)), np.zeros((0, 24, 32, 2)))
