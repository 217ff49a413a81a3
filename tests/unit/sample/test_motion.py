import numpy as np
import pytest

from kineflow.sample.motion import poses_of
from kineflow.sample.spec import MOTION_PAIRS, Bout, PlannedVideo, SampleSpec, plan_videos

TARGET_XY = (0.85, 0.5)


def poses_for(behaviour: str, *, seed: int, num_frames: int = 40) -> np.ndarray:
    video = PlannedVideo("clips/x.mp4", 0, num_frames, (Bout(behaviour, 0, num_frames),), "x")
    return poses_of(video, fps=20, target_xy=TARGET_XY, rng=np.random.default_rng(seed))


@pytest.mark.parametrize("pair", MOTION_PAIRS[:2])
def test_the_second_of_a_pair_is_the_first_played_backwards(pair: tuple[str, str]) -> None:
    first, second = (poses_for(behaviour, seed=4) for behaviour in pair)
    for name in set(first.dtype.names or ()) - {"breath"}:
        np.testing.assert_array_equal(first[name], second[name][::-1])


def test_rest_holds_one_moment_of_grooming() -> None:
    groom, rest = poses_for("groom", seed=4), poses_for("rest", seed=4)
    names = [name for name in groom.dtype.names or () if name != "breath"]
    assert len(np.unique(rest[names])) == 1
    assert rest[0][names] in groom[names]
    assert len(np.unique(groom["head_yaw"].round(6))) > 20
    assert np.ptp(rest["breath"]) > 0.03


@pytest.mark.parametrize("seed", range(8))
def test_behaviours_do_what_their_names_say(seed: int) -> None:
    left = poses_for("circling_left", seed=seed)
    # y points down, so a shrinking heading turns to the left.
    assert np.all(np.diff(left["heading"]) < 0)
    assert np.pi / 2 < left["heading"][0] - left["heading"][-1] < 3 * np.pi
    approach = poses_for("approach", seed=seed)
    to_target = np.stack([TARGET_XY[0] - approach["x"], TARGET_XY[1] - approach["y"]])
    distance = np.hypot(*to_target)
    assert distance[0] - distance[-1] > 0.12
    facing = np.stack([np.cos(approach["heading"]), np.sin(approach["heading"])])
    assert np.all((to_target * facing).sum(0) / distance > 0.97)


def test_long_videos_move_without_jumps_and_stay_in_the_arena() -> None:
    spec = SampleSpec(seed=1, long_videos_per_group=2)
    for video in plan_videos(spec):
        if video.is_long:
            poses = poses_of(video, fps=spec.fps, target_xy=TARGET_XY, rng=np.random.default_rng(7))
            step = np.hypot(np.diff(poses["x"]), np.diff(poses["y"]))
            assert step.max() < 0.08
            turn = (np.diff(poses["heading"]) + np.pi) % (2 * np.pi) - np.pi
            assert np.abs(turn).max() < 1.2
            assert 0.15 < poses["x"].min() < poses["x"].max() < 0.8
            assert 0.15 < poses["y"].min() < poses["y"].max() < 0.85
