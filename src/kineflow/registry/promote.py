"""Move the alias `champion`, forward by a decision or back by hand, and keep the history that MLflow does not.

Setting an alias is last-write-wins in MLflow. A lock makes promotions of this workspace follow each other; each is
written to the model's tags in the registry and to `.kineflow/promotions.jsonl`.
"""

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from kineflow.errors import DataError, ParamsError
from kineflow.registry import tracking
from kineflow.registry.decide import Candidate, Decision, Rule, decide
from kineflow.registry.register import CHALLENGER, CHAMPION, load_bundle_path, read_document, version_of
from kineflow.store import home

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from kineflow.registry.compare import TestData

DECISION_TAG = "kineflow.decision"
ROLLED_BACK_TAG = "kineflow.rolled_back"
HISTORY_PREFIX = "kineflow.history."


@dataclass(frozen=True)
class HistoryEntry:
    """One move of the alias.

    Args:
        at: UTC, ISO 8601.
        version: champion from then on.
        previous: champion until then; None for the first.
    """

    at: str
    kind: Literal["promote", "rollback"]
    version: str
    previous: str | None
    reason: str


@dataclass(frozen=True)
class Outcome:
    """What came of a promotion."""

    name: str
    challenger: str
    champion: str | None
    decision: Decision


def promote_challenger(name: str, rule: Rule, *, data: "TestData | None", release_stream: str) -> Outcome:
    """Compare the challenger with the champion, record the reason, and move the alias if the rule says so.

    Args:
        name: of the registered model.
        data: the test clips of today; None where there is no test set.
        release_stream: the stream whose cross-validated score stands for the challenger.

    Raises:
        ParamsError: there is no challenger, or its metrics lack the rule's metric.
        ServiceError: the registry is out of reach.
    """
    from filelock import FileLock

    client = tracking.client()
    home().mkdir(parents=True, exist_ok=True)
    with FileLock(home() / "promotion.lock"):
        found = version_of(client, name, CHALLENGER)
        if found is None:
            raise ParamsError(f"the registry has no challenger of {name!r}; run the stage register")
        current = version_of(client, name, CHAMPION)
        champion, challenger = _candidates(client, name, current, found, rule, data, release_stream)
        decision = decide(champion, challenger, rule, has_test=data is not None)
        text = json.dumps({"at": _now(), "against": champion.version if champion else None, **asdict(decision)})
        client.set_model_version_tag(name, found.version, DECISION_TAG, text)
        _log({"model": name, "challenger": str(found.version), **json.loads(text)})
        if decision.promote:
            _move(client, name, "promote", str(found.version), champion.version if champion else None, decision.reason)
    after = str(found.version) if decision.promote else (champion.version if champion else None)
    return Outcome(name, str(found.version), after, decision)


def promote_by_hand(name: str, version: str, *, reason: str) -> HistoryEntry:
    """Make a version the champion whatever the rule says; the reason is kept.

    Raises:
        ParamsError: there is no such version, or it is the champion already.
        DataError: its files are not those that were registered.
        ServiceError: the registry is out of reach.
    """
    from filelock import FileLock

    client = tracking.client()
    home().mkdir(parents=True, exist_ok=True)
    with FileLock(home() / "promotion.lock"):
        load_bundle_path(name, version)
        current = version_of(client, name, CHAMPION)
        previous = str(current.version) if current is not None else None
        found = version_of(client, name, version)
        assert found is not None  # its bundle could be loaded
        if str(found.version) == previous:
            raise ParamsError(f"version {previous} of {name!r} is the champion already")
        return _move(client, name, "promote", str(found.version), previous, f"by hand: {reason}")


def rollback(name: str, *, reason: str) -> HistoryEntry:
    """Give the alias back to the champion before the present one, which is then never promoted by itself again.

    Raises:
        ParamsError: there is no earlier champion.
        ServiceError: the registry is out of reach.
    """
    from filelock import FileLock

    client = tracking.client()
    home().mkdir(parents=True, exist_ok=True)
    with FileLock(home() / "promotion.lock"):
        current = version_of(client, name, CHAMPION)
        if current is None:
            raise ParamsError(f"{name!r} has no champion, so there is nothing to roll back")
        version = str(current.version)
        moves = [entry for entry in history(name) if entry.kind == "promote" and entry.version == version]
        previous = moves[-1].previous if moves else None
        if previous is None or version_of(client, name, previous) is None:
            raise ParamsError(f"{name!r} has no earlier champion than version {version}")
        client.set_model_version_tag(name, version, ROLLED_BACK_TAG, f"was rolled back on {_now()}: {reason}")
        return _move(client, name, "rollback", previous, version, reason)


def history(name: str) -> list[HistoryEntry]:
    """Every move of the alias, oldest first, as the registry holds it."""
    tags = tracking.client().get_registered_model(name).tags
    keys = sorted(key for key in tags if key.startswith(HISTORY_PREFIX))
    return [HistoryEntry(**json.loads(tags[key])) for key in keys]


def _candidates(
    client: "MlflowClient",
    name: str,
    current: Any | None,
    found: Any,
    rule: Rule,
    data: "TestData | None",
    release_stream: str,
) -> tuple[Candidate | None, Candidate]:
    challenger = _candidate(client, found, rule, release_stream)
    if current is None:
        return None, challenger
    champion = _candidate(client, current, rule, current.tags.get("kineflow.release_stream", release_stream))
    if data is None or champion.version == challenger.version:
        return champion, challenger
    from dataclasses import replace

    from kineflow.registry.compare import score_on_test

    folders = [load_bundle_path(name, challenger.version)]
    try:
        folders.insert(0, load_bundle_path(name, champion.version))
    except DataError as err:  # a damaged champion must not keep its successors from being built and pushed
        return replace(champion, incomparable=str(err)), challenger
    before, after = score_on_test(data, folders, rule.metric, min_clips=rule.min_clips)
    return (
        replace(champion, test=before.value, num_clips=before.num_clips, incomparable=before.incomparable),
        replace(challenger, test=after.value, num_clips=after.num_clips, incomparable=after.incomparable),
    )


def _candidate(client: "MlflowClient", version: Any, rule: Rule, stream: str) -> Candidate:
    metrics = read_document(client, version.run_id, "metrics.json")
    return Candidate(
        version=str(version.version),
        cv=_mean(metrics["cv"].get(stream), rule.metric),
        baselines={
            name: _mean(scores, rule.metric) for name, scores in metrics["baselines"].items() if rule.metric in scores
        },
        folds_digest=version.tags.get("kineflow.folds_digest"),
        blocked=version.tags.get(ROLLED_BACK_TAG),
    )


def _mean(scores: Mapping[str, Any] | None, metric: str) -> float | None:
    if scores is None:
        return None
    if metric not in scores:
        raise ParamsError(f"promotion.metric: {metric} is none of {', '.join(scores)}")
    value = scores[metric]["mean"]
    return None if value is None else float(value)


def _move(
    client: "MlflowClient",
    name: str,
    kind: Literal["promote", "rollback"],
    version: str,
    previous: str | None,
    reason: str,
) -> HistoryEntry:
    entry = HistoryEntry(_now(), kind, version, previous, reason)
    # The history first: an alias without its reason is worse than a reason whose alias did not move.
    key = f"{HISTORY_PREFIX}{len(history(name)) + 1:06d}"
    client.set_registered_model_tag(name, key, json.dumps(asdict(entry)))
    client.set_registered_model_alias(name, CHAMPION, version)
    _log({"model": name, **asdict(entry)})
    return entry


def _log(values: Mapping[str, Any]) -> None:
    path: Path = home() / "promotions.jsonl"
    with path.open("a") as file:
        file.write(json.dumps(values) + "\n")


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
