"""Local descriptors against slow references, in a mirror, and following a motion."""

import numpy as np
import pytest

from kineflow.descriptors import local
from kineflow.descriptors.cells import CellRule, Scale, VideoCells
from kineflow.descriptors.local import LocalDescriptors, clip_descriptors, time_borders

RNG = np.random.default_rng(0)


def video(*, num_flows=8, rows=4, columns=5, cell_flows=2):
    cells = RNG.random((num_flows, rows, columns, 32)).astype(np.float16)
    return VideoCells(CellRule(99, (Scale(8, cell_flows),), track=False), (cells,))


def some(count=5):
    shares = RNG.random((count, 3, 2, 2, 4, 8)).astype(np.float32)
    return LocalDescriptors(shares, RNG.uniform(-0.5, 0.5, (count, 3)).astype(np.float32))


@pytest.mark.parametrize(
    ("num_flows", "cell_flows", "expected"),
    [
        (10, 5, [(0, 3), (3, 6), (6, 10)]),  # never fewer than three stretches
        (20, 5, [(0, 5), (5, 10), (10, 15), (15, 20)]),
        (22, 5, [(0, 5), (5, 11), (11, 16), (16, 22)]),  # no flow is left over
        (3, 5, [(0, 1), (1, 2), (2, 3)]),
        (2, 5, [(0, 1), (0, 1), (1, 2)]),  # some are shared
        (1, 5, [(0, 1), (0, 1), (0, 1)]),
    ],
)
def test_stretches_of_time(num_flows, cell_flows, expected):
    assert time_borders(num_flows, cell_flows) == expected


def test_dense_descriptors_against_loops(monkeypatch):
    monkeypatch.setattr(local, "_moving", lambda descriptors: descriptors)
    cells = video()
    values = np.asarray(cells.scales[0][1:7], np.float32)  # frames 1 to 7: six flows
    found = clip_descriptors(cells, 1, 8)
    expected, places = [], []
    for y in range(3):
        for x in range(4):
            parts = [values[2 * t : 2 * t + 2, y + r, x + c].mean(axis=0) for t, r, c in np.ndindex(3, 2, 2)]
            expected.append(np.reshape(parts, (3, 2, 2, 4, 8)))
            places.append([0.0, (y + 1) / 4 - 0.5, (x + 1) / 5 - 0.5])
    assert found.shares_N == pytest.approx(np.array(expected), abs=1e-6)
    assert found.place_N3 == pytest.approx(np.array(places), abs=1e-6)


def test_a_clip_sees_nothing_outside_of_it():
    cells = video(num_flows=12)
    alone = VideoCells(cells.rule, (cells.scales[0][3:9],))
    inside, whole = clip_descriptors(cells, 3, 10), clip_descriptors(alone, 0, 7)
    assert (inside.shares_N == whole.shares_N).all() and (inside.place_N3 == whole.place_N3).all()


def test_what_moves_less_than_the_mean_is_left_out():
    cells = np.zeros((6, 4, 6, 32), np.float16)
    cells[:, :, 4:, :8] = 1.0  # the two columns on the right move
    cells[:, :, :, 24:] = 5.0  # there is texture everywhere
    found = clip_descriptors(VideoCells(CellRule(99, (Scale(8, 2),), track=False), (cells,)), 0, 7)
    assert sorted(set(found.place_N3[:, 2].round(4))) == [round(4 / 6 - 0.5, 4), round(5 / 6 - 0.5, 4)]
    still = VideoCells(CellRule(99, (Scale(8, 2),), track=False), (np.zeros((6, 4, 6, 32), np.float16),))
    assert len(clip_descriptors(still, 0, 7)) == 0
    assert len(clip_descriptors(still, 3, 4)) == 0  # one frame


def test_channels_are_roots_of_fractions():
    descriptors = some()
    flow_ND = descriptors.shares_N[..., 0, :].reshape(5, 96)
    assert descriptors.channel("hof") == pytest.approx(np.sqrt(flow_ND / flow_ND.sum(axis=1, keepdims=True)), abs=1e-6)
    assert [descriptors.channel(name).shape[1] for name in ("hof", "mbh", "hog")] == [96, 192, 96]
    for name in ("hof", "mbh", "hog"):
        assert np.linalg.norm(descriptors.channel(name), axis=1) == pytest.approx(np.ones(5), abs=1e-5)
    nothing = LocalDescriptors(np.zeros((1, 3, 2, 2, 4, 8), np.float32), np.zeros((1, 3), np.float32))
    assert not nothing.channel("mbh").any()


def test_a_mirror_of_a_mirror_is_the_clip():
    descriptors = some()
    twice = descriptors.mirrored().mirrored()
    assert (twice.shares_N == descriptors.shares_N).all() and (twice.place_N3 == descriptors.place_N3).all()
    once = descriptors.mirrored()
    assert (once.place_N3[:, 2] == -descriptors.place_N3[:, 2]).all()
    # what moved right (0) on the left moves left (4) on the right
    assert (once.shares_N[:, :, :, 1, 0, 4] == descriptors.shares_N[:, :, :, 0, 0, 0]).all()
    # the gradient of x along y turns, that along x does not; that of y the other way round
    assert (once.shares_N[:, :, :, 1, 1, 0] == descriptors.shares_N[:, :, :, 0, 1, 0]).all()
    assert (once.shares_N[:, :, :, 1, 1, 6] == descriptors.shares_N[:, :, :, 0, 1, 2]).all()
    assert (once.shares_N[:, :, :, 1, 2, 4] == descriptors.shares_N[:, :, :, 0, 2, 0]).all()


def tracked(tiles):
    return clip_descriptors(VideoCells(CellRule(99, (Scale(8, 2),), track=True), (tiles.astype(np.float16),)), 0, 7)


def test_tracking_what_stands_still_is_as_not_tracking():
    tiles = np.zeros((6, 8, 10, 34), np.float32)
    tiles[..., :32] = RNG.random((6, 8, 10, 32)).astype(np.float16)
    of_tiles = tiles[..., :32].reshape(6, 4, 2, 5, 2, 32).mean(axis=(2, 4))
    dense = VideoCells(CellRule(99, (Scale(8, 2),), track=False), (of_tiles.astype(np.float16),))
    still = clip_descriptors(dense, 0, 7)
    found = tracked(tiles)
    assert found.place_N3 == pytest.approx(still.place_N3, abs=1e-6)
    assert found.shares_N == pytest.approx(still.shares_N, abs=2e-3)


def test_tracking_follows_the_motion():
    """A pattern that moves a tile to the right with every flow looks the same to who moves along."""
    pattern = RNG.random((8, 30, 32)).astype(np.float16)
    tiles = np.zeros((6, 8, 20, 34), np.float32)
    for t in range(6):
        tiles[t, ..., :32] = pattern[:, 10 - t : 30 - t]
    tiles[..., 32] = 1.0
    found = tracked(tiles)
    middle = np.abs(found.place_N3[:, 2]) < 0.15  # away from the border, where it must stop
    assert middle.sum() > 3
    parts = found.shares_N[middle]
    assert parts[:, 0] == pytest.approx(parts[:, 1], abs=2e-3) and parts[:, 0] == pytest.approx(parts[:, 2], abs=2e-3)
    tiles[..., 32] = 0.0
    standing = tracked(tiles).shares_N
    assert np.abs(standing[:, 0] - standing[:, 2]).max() > 0.2
