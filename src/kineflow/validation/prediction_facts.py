"""Facts about predictions: one row for each clip of each model and fold, and one for each model."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

KEYS = ["fold", "clip_id", "video_id", "frame"]
TEST_FOLD = -1


def prediction_facts(logits: Mapping[str, pd.DataFrame], expected: pd.DataFrame) -> pd.DataFrame:
    """One row for each clip that a model predicts or should: rows that are missing, repeated or not finite.

    Args:
        logits: the logits table of each model.
        expected: fold, clip_id, video_id, frame (-1 on task clip): the rows to be scored, each once.
    """
    parts = [_of_model(name, table, expected) for name, table in logits.items()]
    return pd.concat(parts, ignore_index=True)


def rows_fit(facts: pd.DataFrame) -> bool:
    """Whether the rows of all models are those to be scored, each once, with finite numbers."""
    counts = facts[["num_missing", "num_repeated", "num_not_finite"]]
    return bool((facts["rows"] == "to be scored").all() and (counts == 0).all(axis=None))


def _of_model(name: str, table: pd.DataFrame, expected: pd.DataFrame) -> pd.DataFrame:
    values = table.drop(columns=[*KEYS, "model"], errors="ignore").to_numpy(dtype=np.float64)
    found = table[KEYS].assign(frame=table["frame"].fillna(-1).astype("int64"))
    found["not_finite"] = ~np.isfinite(values).all(axis=1)
    found = found.groupby(KEYS, sort=False, dropna=False)["not_finite"].agg(["size", "sum"]).reset_index()
    joined = expected[KEYS].merge(found, on=KEYS, how="outer", indicator=True)
    joined = joined.assign(
        wanted=joined["_merge"] != "right_only",
        missing=joined["_merge"] == "left_only",
        repeated=(joined["size"].fillna(1) - 1).clip(lower=0),
        not_finite=joined["sum"].fillna(0),
    )
    by_clip = joined.groupby(["fold", "clip_id"], sort=True, dropna=False)
    sums = by_clip[["missing", "repeated", "not_finite"]].sum().astype("float64")
    wanted = by_clip["wanted"].all()
    return pd.DataFrame(
        {
            "item": [_item(name, fold, clip_id) for fold, clip_id in sums.index],
            "rows": wanted.map({True: "to be scored", False: "not to be scored"}).to_numpy(dtype=object),
            "num_missing": sums["missing"].to_numpy(),
            "num_repeated": sums["repeated"].to_numpy(),
            "num_not_finite": sums["not_finite"].to_numpy(),
        }
    )


def probability_facts(
    labels: str, probs: Mapping[str, NDArray[np.float64]], rows: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """One row for each clip of each model, and one for each model.

    Args:
        labels: `exclusive` or `independent`; sums say something of exclusive ones only.
        probs: (N, K) of each model, streams and their fusion.
        rows: N rows with fold and clip_id.

    Returns:
        the tables `probabilities` (how many are out of range, by how much their sum differs from 1) and `models`.
    """
    clips, models = [], []
    keys = [rows["fold"].to_numpy(), rows["clip_id"].to_numpy()]
    for name, probs_NK in probs.items():
        outside_N = ~((probs_NK >= 0) & (probs_NK <= 1)).all(axis=1)
        error_N = np.abs(probs_NK.sum(axis=1) - 1) if labels == "exclusive" else np.full(len(probs_NK), np.nan)
        each = pd.DataFrame({"out_of_range": outside_N.astype("float64"), "sum_error": error_N})
        by_clip = each.groupby(keys, sort=True).agg({"out_of_range": "sum", "sum_error": "max"})
        clips.append(by_clip.assign(item=[_item(name, fold, clip_id) for fold, clip_id in by_clip.index]))
        spread = float(np.ptp(probs_NK, axis=0).max()) if len(probs_NK) > 1 else np.nan
        models.append((f"model {name}", spread))
    columns = ["item", "out_of_range", "sum_error"]
    of_clips = pd.concat(clips, ignore_index=True)[columns] if clips else pd.DataFrame(columns=columns, dtype="float64")
    return of_clips, pd.DataFrame(models, columns=["item", "largest_spread"]).astype({"largest_spread": "float64"})


def _item(name: str, fold: int, clip_id: str) -> str:
    return f"{name}: clip {clip_id} of {'test' if fold == TEST_FOLD else f'fold {fold}'}"
