from collections import Counter
from itertools import pairwise

import pytest

from kineflow.errors import ParamsError
from kineflow.sample.spec import BEHAVIOURS, MOTION_PAIRS, SampleSpec, plan_videos


def test_default_sample_has_every_class_in_every_arena_equally_often() -> None:
    videos = plan_videos(SampleSpec())
    counts = Counter((v.group, v.bouts[0].behaviour) for v in videos if not v.is_long)
    assert counts == {(group, behaviour): 4 for group in range(6) for behaviour in BEHAVIOURS}
    for video in videos:
        if video.is_long:
            assert {bout.behaviour for bout in video.bouts} == set(BEHAVIOURS)


def test_bouts_follow_one_another_with_gaps_inside_the_video() -> None:
    for video in plan_videos(SampleSpec(long_videos_per_group=2, long_sec=45.0)):
        if video.is_long:
            assert len(video.bouts) == 12  # two rounds of about 22 s
            edges = [edge for bout in video.bouts for edge in (bout.start_frame, bout.stop_frame)]
            assert all(earlier < later for earlier, later in pairwise([0, *edges, video.num_frames]))


def test_classes_share_durations_and_the_clips_of_a_pair_share_the_scene() -> None:
    clips = [v for v in plan_videos(SampleSpec(seed=5)) if not v.is_long]
    durations = {b: sorted(v.num_frames for v in clips if v.bouts[0].behaviour == b) for b in BEHAVIOURS}
    assert len(set(durations["rest"])) > 3
    assert all(durations[behaviour] == durations["rest"] for behaviour in BEHAVIOURS)
    for one, other in MOTION_PAIRS:
        keys = [sorted(v.scene_key for v in clips if v.bouts[0].behaviour == b) for b in (one, other)]
        assert keys[0] == keys[1]
        assert len(set(keys[0])) == 24


def test_names_are_unique_and_do_not_tell_the_class() -> None:
    videos = plan_videos(SampleSpec())
    assert len({v.name for v in videos}) == len(videos) == 6 * 6 * 4 + 6
    first = [v.bouts[0].behaviour for v in videos if v.name.endswith("_clip001.mp4")]
    assert len(set(first)) > 1


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        ({"size_px": 97}, "size_px"),
        ({"num_groups": 0}, "num_groups"),
        ({"behaviours": ("groom", "fly")}, "'fly'"),
        ({"behaviours": ("groom", "groom")}, "twice"),
        ({"clip_sec": 0.2}, "clip_sec"),
        ({"long_sec": 1.0}, "long_sec"),
    ],
)
def test_impossible_specs_are_refused_by_name(wrong: dict, word: str) -> None:
    with pytest.raises(ParamsError, match=word):
        SampleSpec(**wrong)
