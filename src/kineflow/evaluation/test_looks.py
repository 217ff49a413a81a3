"""A record of each look at the test clips: a test set that is looked at often is no test set any more."""

import json
import time
from collections.abc import Iterable
from pathlib import Path

from kineflow.store import digest

FILE = "test_looks.jsonl"


def log_test_look(home: Path, *, by: str, models: Iterable[str], clip_ids: Iterable[str]) -> None:
    """Append a line to `test_looks.jsonl`.

    Args:
        home: of the workspace's unversioned state.
        by: who looks, for example `evaluate`.
        models: what is scored: streams, or registered versions.
        clip_ids: the test clips; their number and a digest are kept.
    """
    clips = sorted(set(clip_ids))
    look = {
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "by": by,
        "models": list(models),
        "num_clips": len(clips),
        "clips_digest": digest(clips=clips),
    }
    home.mkdir(parents=True, exist_ok=True)
    with (home / FILE).open("a", encoding="utf-8") as file:
        file.write(json.dumps(look) + "\n")
