"""Results that `dvc pull` brought are put into the store, so that on a fresh machine, too, a change costs only itself.

DVC keeps whole outs: with one video more it has nothing to offer, and takes the out of before away. The store knows
each video's result by its key, which the out's index names.
"""

from contextlib import suppress
from pathlib import Path

from kineflow.errors import DataError
from kineflow.stages import paths
from kineflow.store import ResultStore, home
from kineflow.video.result_index import INDEX, VideoResult, read_index

OUTS = (
    (paths.FRAMES, "frames", "zip"),
    (paths.FLOW, "flow", "zip"),
    (paths.POSE, "pose", "zip"),
    (paths.EMBEDDINGS, "embeddings", "npy"),
)


def adopt_pulled_results() -> int:
    """Link what the outs hold and the store lacks; the number of such results."""
    num_adopted = 0
    for out, kind, suffix in OUTS:
        store = ResultStore(home() / "store" / kind)
        rows: list[VideoResult] = []
        if (out / INDEX).is_file():
            with suppress(DataError):  # of another version: made again anyway
                rows = read_index(out)
        if all(row.key in store for row in (rows[:1] + rows[len(rows) // 2 :][:1] + rows[-1:])):
            continue
        for row in rows:
            path = out / f"{row.video_id}.{suffix}"
            if row.key not in store and _is_protected(path):
                store.adopt(row.key, path)
                num_adopted += 1
    return num_adopted


def _is_protected(path: Path) -> bool:
    """Whether it is as DVC left it: DVC makes read-only what it links to its cache."""
    return path.is_file() and not path.stat().st_mode & 0o222
