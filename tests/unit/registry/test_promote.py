"""Promotion and rollback on a real registry."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from kineflow.errors import ParamsError
from kineflow.registry import tracking
from kineflow.registry.compare import TestData
from kineflow.registry.decide import Rule
from kineflow.registry.lineage import Lineage
from kineflow.registry.promote import history, promote_by_hand, promote_challenger, rollback
from kineflow.registry.register import register_bundle

RULE = Rule("video_top1_acc", min_gain=0.05, min_clips=20, beat_baselines=True)


@pytest.fixture
def register(
    registry: Path, bundle: Path, lineage: Lineage, metrics_of: Callable[..., dict[str, Any]]
) -> Callable[[float], str]:
    """Register a new version with this cross-validated score."""

    def make(score: float) -> str:
        (bundle / "rgb/weights.pt").write_text(str(score))
        return register_bundle(bundle, model_name="m", metrics=metrics_of(score), lineage=lineage).version

    return make


def champion() -> str:
    return str(tracking.client().get_model_version_by_alias("m", "champion").version)


def promote() -> Any:
    return promote_challenger("m", RULE, data=None, release_stream="rgb")


def test_the_alias_moves_only_when_the_rule_says_so(registry: Path, register: Callable[[float], str]) -> None:
    register(0.80)
    assert promote().champion == "1" == champion()
    register(0.82)
    outcome = promote()
    assert (outcome.challenger, outcome.champion, outcome.decision.promote) == ("2", "1", False)
    assert outcome.decision.reason.startswith("+2.0 pt; needs +5.0 pt")
    assert champion() == "1"
    register(0.86)
    assert promote().champion == "3" == champion()
    assert not promote().decision.promote
    moves = [(entry.kind, entry.previous, entry.version) for entry in history("m")]
    assert moves == [("promote", None, "1"), ("promote", "1", "3")]
    tags = tracking.client().get_model_version("m", "2").tags
    assert json.loads(tags["kineflow.decision"])["reason"] == outcome.decision.reason
    log = [json.loads(line) for line in (registry / ".kineflow/promotions.jsonl").read_text().splitlines()]
    assert len(log) == 4 + 2  # four decisions, two moves


def test_a_weak_first_version_stays_a_challenger(registry: Path, register: Callable[[float], str]) -> None:
    register(0.4)
    outcome = promote()
    assert outcome.champion is None
    assert "does not beat the baseline majority" in outcome.decision.reason
    with pytest.raises(ParamsError, match="no champion"):
        rollback("m", reason="x")


def test_rollback_goes_to_the_champion_before_and_stays_there(registry: Path, register: Callable[[float], str]) -> None:
    register(0.70)
    promote()
    with pytest.raises(ParamsError, match="no earlier champion"):
        rollback("m", reason="x")
    register(0.80)
    promote()
    register(0.90)
    promote()
    assert champion() == "3"
    assert rollback("m", reason="it misses rearing").version == "2"
    assert champion() == "2"
    outcome = promote()  # the next night, the same challenger
    assert not outcome.decision.promote
    assert "it misses rearing" in outcome.decision.reason
    assert rollback("m", reason="again").version == "1"
    assert champion() == "1"
    assert [entry.kind for entry in history("m")] == ["promote"] * 3 + ["rollback"] * 2


def test_a_damaged_champion_neither_stops_a_run_nor_stays_for_ever(
    registry: Path, register: Callable[[float], str]
) -> None:
    register(0.70)
    promote()
    register(0.80)
    (stored, _) = sorted(registry.rglob("artifacts/**/rgb/weights.pt"), key=lambda path: path.stat().st_mtime)
    stored.write_text("0.71")  # as long as before
    nothing = pd.DataFrame()
    today = TestData("clip", "exclusive", nothing, nothing, nothing, nothing, 10.0, registry)
    outcome = promote_challenger("m", RULE, data=today, release_stream="rgb")
    assert not outcome.decision.promote
    assert "the champion cannot be scored on today's test clips: m version 1" in outcome.decision.reason
    assert promote_by_hand("m", "challenger", reason="the champion is lost").previous == "1"
    assert champion() == "2"
    with pytest.raises(ParamsError, match="is the champion already"):
        promote_by_hand("m", "2", reason="again")


def test_without_a_challenger_there_is_nothing_to_promote(registry: Path) -> None:
    with pytest.raises(ParamsError, match="no challenger"):
        promote()


def test_an_unknown_metric_names_those_that_are(registry: Path, register: Callable[[float], str]) -> None:
    register(0.8)
    with pytest.raises(ParamsError, match="none of video_top1_acc"):
        promote_challenger("m", Rule("accuracy", 0.0, 1, True), data=None, release_stream="rgb")
