"""Every branch of the rule, on hand-made scores."""

from dataclasses import replace

import pytest

from kineflow.registry.decide import Candidate, Rule, decide

RULE = Rule("video_top1_acc", min_gain=0.05, min_clips=20, beat_baselines=True)
CHAMPION = Candidate("1", cv=0.80, baselines={"majority": 0.2}, folds_digest="f", test=0.80, num_clips=40)
CHALLENGER = Candidate("2", cv=0.85, baselines={"majority": 0.2, "hof": 0.7}, folds_digest="f", test=0.85, num_clips=40)


@pytest.mark.parametrize(
    ("challenger_test", "promoted"), [(0.85, True), (0.8499, False), (0.80, False), (0.5, False), (1.0, True)]
)
def test_the_gain_on_test_clips_decides(challenger_test: float, promoted: bool) -> None:
    decision = decide(CHAMPION, replace(CHALLENGER, test=challenger_test), RULE, has_test=True)
    assert decision.promote is promoted
    assert decision.basis == "test"
    assert decision.num_clips == 40
    assert decision.gain == pytest.approx(challenger_test - 0.80)


def test_the_reason_names_gain_and_need() -> None:
    decision = decide(CHAMPION, replace(CHALLENGER, test=0.804), RULE, has_test=True)
    assert decision.reason.startswith("+0.4 pt; needs +5.0 pt")
    assert "0.800 -> 0.804 on 40 test clips" in decision.reason


def test_too_few_clips_are_refused_however_good_it_is() -> None:
    decision = decide(CHAMPION, replace(CHALLENGER, test=1.0, num_clips=19), RULE, has_test=True)
    assert not decision.promote
    assert "only 19 test clips" in decision.reason
    assert decide(CHAMPION, replace(CHALLENGER, test=1.0, num_clips=20), RULE, has_test=True).promote


def test_without_a_test_set_the_same_folds_are_compared() -> None:
    assert decide(CHAMPION, CHALLENGER, RULE, has_test=False).promote
    assert decide(CHAMPION, CHALLENGER, RULE, has_test=False).basis == "cv"
    other = decide(CHAMPION, replace(CHALLENGER, folds_digest="g", cv=1.0), RULE, has_test=False)
    assert not other.promote
    assert "different folds" in other.reason
    unknown = [replace(c, folds_digest=None) for c in (CHAMPION, CHALLENGER)]
    assert not decide(*unknown, RULE, has_test=False).promote


def test_the_first_version_must_beat_every_baseline() -> None:
    assert decide(None, CHALLENGER, RULE, has_test=True).promote
    weak = replace(CHALLENGER, cv=0.7)
    decision = decide(None, weak, RULE, has_test=True)
    assert not decision.promote  # equal is not better
    assert "baseline hof (0.700)" in decision.reason
    assert decide(None, weak, replace(RULE, beat_baselines=False), has_test=True).promote


def test_a_later_version_must_beat_them_too() -> None:
    decision = decide(CHAMPION, replace(CHALLENGER, baselines={"hof": 0.9}), RULE, has_test=True)
    assert not decision.promote
    assert decision.basis == "baselines"


@pytest.mark.parametrize("unknown", [None, float("nan")])
def test_what_is_unknown_speaks_against(unknown: float | None) -> None:
    assert not decide(CHAMPION, replace(CHALLENGER, test=unknown), RULE, has_test=True).promote
    assert not decide(None, replace(CHALLENGER, cv=unknown), RULE, has_test=True).promote
    assert not decide(replace(CHAMPION, cv=unknown), CHALLENGER, RULE, has_test=False).promote


def test_the_champion_itself_and_blocked_versions_are_not_promoted() -> None:
    assert "champion already" in decide(CHAMPION, CHAMPION, RULE, has_test=True).reason
    blocked = decide(CHAMPION, replace(CHALLENGER, blocked="was rolled back on X: bad"), RULE, has_test=True)
    assert not blocked.promote
    assert blocked.reason == "version 2 was rolled back on X: bad"
    assert not decide(None, replace(CHALLENGER, blocked="was rolled back"), RULE, has_test=True).promote


def test_a_version_that_cannot_be_scored_is_named() -> None:
    decision = decide(replace(CHAMPION, incomparable="it does not know the class 'x'"), CHALLENGER, RULE, has_test=True)
    assert not decision.promote
    assert decision.reason == "the champion cannot be scored on today's test clips: it does not know the class 'x'"


def test_a_loss_is_better_when_lower() -> None:
    rule = Rule("video_log_loss", min_gain=0.1, min_clips=1, beat_baselines=True, lower_is_better=True)
    champion = replace(CHAMPION, test=0.9)
    good = replace(CHALLENGER, cv=0.6, baselines={"majority": 1.6}, test=0.8)
    assert decide(champion, good, rule, has_test=True).promote
    assert not decide(champion, replace(good, test=1.0), rule, has_test=True).promote
    assert not decide(None, replace(good, cv=1.7), rule, has_test=True).promote
