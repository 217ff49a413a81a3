"""Whether a challenger becomes the champion: a pure function of two scores and a rule."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from typing_extensions import TypeIs


@dataclass(frozen=True)
class Rule:
    """When a challenger is good enough.

    Args:
        metric: what is compared, for example video_top1_acc.
        min_gain: the challenger must be at least this much better.
        min_clips: on fewer test clips nothing is decided.
        beat_baselines: its cross-validated score must be better than that of every baseline.
        lower_is_better: of the metric.
    """

    metric: str
    min_gain: float
    min_clips: int
    beat_baselines: bool
    lower_is_better: bool = False


@dataclass(frozen=True)
class Candidate:
    """One version, and what is known of it.

    Args:
        version: in the registry.
        cv: its cross-validated score; None where it has none.
        baselines: cross-validated scores of the baselines on the same folds, by name.
        folds_digest: of the folds that it was cross-validated on.
        test: its score on the clips of `num_clips`; None without a test set.
        num_clips: test clips of today that neither version was trained on.
        blocked: why it may never be promoted by itself, for example that it was rolled back.
        incomparable: why it cannot be scored on the test clips of today.
    """

    version: str
    cv: float | None
    baselines: Mapping[str, float | None] = field(default_factory=dict)
    folds_digest: str | None = None
    test: float | None = None
    num_clips: int = 0
    blocked: str | None = None
    incomparable: str | None = None


@dataclass(frozen=True)
class Decision:
    """What follows, and why, in one phrase.

    Args:
        basis: what was compared: test clips, cross-validation, the baselines alone, or nothing.
        gain: how much better the challenger is, in units of the metric; None where nothing was compared.
    """

    promote: bool
    reason: str
    basis: Literal["test", "cv", "baselines", "none"] = "none"
    gain: float | None = None
    num_clips: int | None = None


def decide(champion: Candidate | None, challenger: Candidate, rule: Rule, *, has_test: bool) -> Decision:
    """Apply `rule`.

    Args:
        champion: None before the first promotion.
        has_test: whether there is a test set; without one the cross-validated scores are compared.

    Returns:
        promote is True only where every condition of the rule holds; everything unknown speaks against it.
    """
    if champion is not None and champion.version == challenger.version:
        return Decision(False, f"version {champion.version} is the champion already")
    if challenger.blocked is not None:
        return Decision(False, f"version {challenger.version} {challenger.blocked}")
    if rule.beat_baselines and (why := _beaten_by_a_baseline(challenger, rule)) is not None:
        return Decision(False, why, "baselines")
    if champion is None:
        return Decision(True, _first(challenger, rule), "baselines")
    return _by_test(champion, challenger, rule) if has_test else _by_folds(champion, challenger, rule)


def _beaten_by_a_baseline(challenger: Candidate, rule: Rule) -> str | None:
    score = challenger.cv
    if not _is_known(score):
        return f"it has no cross-validated {rule.metric} to hold against the baselines"
    for name, baseline in challenger.baselines.items():
        if _is_known(baseline) and _gain(baseline, score, rule) <= 0:
            return f"cross-validated {rule.metric} {score:.3f} does not beat the baseline {name} ({baseline:.3f})"
    return None


def _first(challenger: Candidate, rule: Rule) -> str:
    if rule.beat_baselines and challenger.baselines:
        return f"the first version, and cross-validated {rule.metric} {challenger.cv:.3f} beats every baseline"
    return "the first version"


def _by_test(champion: Candidate, challenger: Candidate, rule: Rule) -> Decision:
    for side, candidate in (("champion", champion), ("challenger", challenger)):
        if candidate.incomparable is not None:
            return Decision(False, f"the {side} cannot be scored on today's test clips: {candidate.incomparable}")
    num_clips = min(champion.num_clips, challenger.num_clips)
    if num_clips < rule.min_clips:
        reason = f"only {num_clips} test clips that neither version was trained on; needs {rule.min_clips}"
        return Decision(False, reason, "test", num_clips=num_clips)
    return _by_gain(champion.test, challenger.test, rule, "test", num_clips)


def _by_folds(champion: Candidate, challenger: Candidate, rule: Rule) -> Decision:
    if champion.folds_digest is None or champion.folds_digest != challenger.folds_digest:
        reason = "there is no test set, and champion and challenger were cross-validated on different folds"
        return Decision(False, reason, "cv")
    return _by_gain(champion.cv, challenger.cv, rule, "cv", None)


def _by_gain(
    champion: float | None,
    challenger: float | None,
    rule: Rule,
    basis: Literal["test", "cv"],
    num_clips: int | None,
) -> Decision:
    if not _is_known(champion) or not _is_known(challenger):
        return Decision(False, f"{rule.metric} is not known of both versions", basis, num_clips=num_clips)
    gain = _gain(champion, challenger, rule)
    enough = gain >= rule.min_gain - 1e-9  # so that 0.85 - 0.80 is 0.05
    where = f"on {num_clips} test clips" if basis == "test" else "cross-validated on the same folds"
    scores = f"{rule.metric} {champion:.3f} -> {challenger:.3f} {where}"
    reason = f"{_points(gain, rule)}; needs {_points(rule.min_gain, rule)} ({scores})"
    return Decision(enough, reason, basis, gain, num_clips)


def _gain(before: float, after: float, rule: Rule) -> float:
    return before - after if rule.lower_is_better else after - before


def _points(gain: float, rule: Rule) -> str:
    return f"{gain:+.4f}" if rule.lower_is_better else f"{100 * gain:+.1f} pt"


def _is_known(score: float | None) -> TypeIs[float]:
    return score is not None and math.isfinite(score)
