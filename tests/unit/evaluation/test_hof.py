"""Histograms of flow against hand-counted ones and a slow reference."""

import math

import numpy as np
import pytest

from kineflow.evaluation import hof
from kineflow.store import ResultStore
from kineflow.video.flow_store import FlowRule, writing_flow

SHAPE = (24, 36)  # 4 x 6 cells of 6 x 6 pixels


def constant(vector, num_flows=1):
    return np.broadcast_to(np.float32(vector), (num_flows, *SHAPE, 2)).copy()


def test_one_direction_falls_into_one_bin():
    for o in range(8):
        angle = o * math.pi / 4
        found = hof.flow_histograms(constant([2 * math.cos(angle), 2 * math.sin(angle)]))
        expected = np.zeros(9)
        expected[o] = 2.0
        assert found.shape == (1, 4, 6, 9)
        assert found == pytest.approx(np.broadcast_to(expected, found.shape), abs=1e-5)


def test_a_direction_between_two_bins_is_shared():
    angle = math.pi / 4 * 7.25  # a quarter of the way from bin 7 to bin 0
    found = hof.flow_histograms(constant([4 * math.cos(angle), 4 * math.sin(angle)]))[0, 0, 0]
    assert found == pytest.approx([1, 0, 0, 0, 0, 0, 0, 3, 0], abs=1e-4)


def test_still_pixels_count_for_their_own_bin_and_cells_are_apart():
    flow = constant([0.0, 0.0])
    flow[0, 6:12, 30:36] = [3.0, 0.0]  # row 1, column 5
    flow[0, 0:6, 0:3] = [0.0, 1.0]  # half of row 0, column 0
    found = hof.flow_histograms(flow)[0]
    assert found[1, 5].tolist() == pytest.approx([3, 0, 0, 0, 0, 0, 0, 0, 0])
    assert found[0, 0].tolist() == pytest.approx([0, 0, 0.5, 0, 0, 0, 0, 0, hof.STILL_PX / 2])
    assert found[3, 3].tolist() == pytest.approx([0] * 8 + [hof.STILL_PX])


def test_against_a_slow_reference_on_a_size_that_does_not_divide():
    rng = np.random.default_rng(0)
    flow = rng.normal(0, 0.2, (2, 11, 17, 2)).astype(np.float32)
    expected, pixels = np.zeros((2, 4, 6, 9)), np.zeros((4, 6))
    for y in range(11):
        for x in range(17):
            cell = (y * 4 // 11, x * 6 // 17)
            pixels[cell] += 1
            for t in range(2):
                u, v = (float(value) for value in flow[t, y, x])
                size = math.hypot(u, v)
                if size < hof.STILL_PX:
                    expected[(t, *cell, 8)] += hof.STILL_PX
                    continue
                place = (math.atan2(v, u) / (math.pi / 4)) % 8
                expected[(t, *cell, int(place) % 8)] += size * (1 - place % 1)
                expected[(t, *cell, (int(place) + 1) % 8)] += size * (place % 1)
    assert hof.flow_histograms(flow) == pytest.approx(expected / pixels[None, :, :, None], abs=1e-5)


def test_a_clip_keeps_its_order_in_time():
    early = np.concatenate([constant([1.0, 0.0], 6), constant([0.0, 1.0], 6)])
    found = hof.clip_descriptor(hof.flow_histograms(early)).reshape(6, 4, 6, 9)
    assert (found[:3, ..., 0] > 0).all() and (found[3:, ..., 0] < 1e-4).all() and (found[3:, ..., 2] > 0).all()
    assert np.linalg.norm(found) == pytest.approx(1.0)


@pytest.mark.parametrize("num_flows", [1, 2, 5, 7])
def test_short_clips_fill_every_stretch_of_time(num_flows):
    found = hof.clip_descriptor(hof.flow_histograms(constant([1.0, 0.0], num_flows))).reshape(6, -1)
    assert np.allclose(found, found[0]) and np.linalg.norm(found) == pytest.approx(1.0)
    assert not hof.clip_descriptor(np.zeros((0, 4, 6, 9), np.float32)).any()


def test_mirrored_descriptors_are_those_of_the_mirrored_flow():
    flow = np.random.default_rng(1).normal(0, 1, (7, *SHAPE, 2)).astype(np.float32)
    mirror = flow[:, :, ::-1] * np.float32([-1, 1])
    plain, expected = (hof.clip_descriptor(hof.flow_histograms(f)) for f in (flow, mirror))
    assert not np.allclose(plain, expected, atol=1e-3)
    assert hof.mirrored(plain[None])[0] == pytest.approx(expected, abs=1e-5)


def test_frame_descriptors_against_the_slow_sum():
    histograms = np.random.default_rng(2).random((40, 4, 6, 9)).astype(np.float32)
    frames = np.array([0, 5, 20, 40])
    found = hof.frame_descriptors(histograms, frames, window_flows=12)
    for frame, row in zip(frames, found, strict=True):
        parts = [histograms[max(0, frame + s) : max(0, frame + s + 2)].sum(axis=0) for s in range(-6, 6, 2)]
        expected = np.sqrt(np.stack(parts).ravel())
        assert row == pytest.approx(expected / np.linalg.norm(expected), abs=1e-5)


def test_a_video_is_computed_once(tmp_path, monkeypatch):
    path, store = tmp_path / "v.zip", ResultStore(tmp_path / "store")
    monkeypatch.setattr(hof, "PIXELS_AT_ONCE", 4 * 24 * 36)
    with writing_flow(path, rule=FlowRule("dis_medium", 4.0), fps=10.0, height=24, width=36, jpeg_quality=None) as w:
        for _ in range(11):
            w.append(constant([1.0, 0.0])[0])
    first = hof.video_histograms(path, store)
    assert first.shape == (11, 4, 6, 9) and first[..., 0] == pytest.approx(1.0, abs=0.02)
    monkeypatch.setattr(hof, "_compute", lambda path: pytest.fail("it was computed again"))
    assert np.array_equal(hof.video_histograms(path, store), first)
