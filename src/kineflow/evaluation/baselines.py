"""What a model has to beat: simple methods, trained and scored on the same folds and the same rows.

- `majority`: the most frequent class; of independent labels: how often each holds.
- `metadata`: the video's duration, size and rate, and the clip's length or the frame's place in the video, in a forest
  of extremely randomised trees. Where it does well, the data leak: labels can be told without looking.
- `hof`: a histogram of optical flow on a grid (see `hof.py`) in a linear SVM.
- `embedding` (task frame): the cached features of a frame by itself, in a logistic regression: what a still tells.

What they look at is in `baseline_features.py`.

Of exclusive classes they give the label, no probabilities, so they have no log loss. Of independent ones they give
scores in [0, 1]: a frequency, a fraction of trees, a sigmoid of the SVM's margin or of the logits. That ranks clips or
frames (average precision) and has its threshold where the method has it, but it is not calibrated.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kineflow.data.probabilities import Floats, sigmoid
from kineflow.errors import DataError
from kineflow.evaluation import hof
from kineflow.evaluation.baseline_features import Features, FeaturesOf, Rows
from kineflow.evaluation.metrics import scores
from kineflow.evaluation.predictions import TEST_FOLD, Examples

SVM_C = 10.0
LOGISTIC_C = 0.01  # hundreds of features, many of them alike
NUM_TREES = 100
MAX_TRAIN_FRAMES = 3000  # task frame: rows that a method is trained on
ROWS_AT_ONCE = 2048  # task frame: rows whose features are in memory at once, beside the training rows


@dataclass(frozen=True)
class Split:
    """Rows of the examples that a fold is trained on and scored on; fold -1 is the test set."""

    fold: int
    train: Rows
    score: Rows


@dataclass(frozen=True)
class BaselineScores:
    """The scores of one baseline: of each fold in order, and of the test set if there is one."""

    name: str
    folds: tuple[dict[str, float], ...]
    test: dict[str, float] | None


def make_splits(examples: Examples, folds: pd.DataFrame) -> list[Split]:
    """The training and scored rows of every fold, and of the test set if there is one.

    Args:
        examples: every clip once, of whatever role.
        folds: the folds table. The test set is scored by what all other clips teach.
    """
    clip_ids = examples.rows["clip_id"]

    def rows_of(role: str, fold: int) -> Rows:
        chosen = folds["clip_id"][(folds["role"] == role) & (folds["fold"] == fold)]
        return np.flatnonzero(clip_ids.isin(chosen).to_numpy())

    numbers = sorted(int(fold) for fold in folds["fold"][folds["role"] == "val"].unique())
    splits = [Split(fold, rows_of("train", fold), rows_of("val", fold)) for fold in numbers]
    is_test = clip_ids.isin(folds["clip_id"][folds["role"] == "test"]).to_numpy()
    if is_test.any():
        splits.append(Split(TEST_FOLD, np.flatnonzero(~is_test), np.flatnonzero(is_test)))
    return splits


def majority(examples: Examples, splits: Sequence[Split]) -> BaselineScores:
    """The class priors of the training rows, whatever the input."""
    num_classes = len(examples.classes)

    def predict(split: Split) -> Floats:
        truth = examples.truth[split.train]
        if examples.labels == "exclusive":
            known_N = truth[np.isfinite(truth)].astype(np.int64)
            counts_K = np.bincount(known_N, minlength=num_classes).astype(np.float64)
        else:
            known_NK = np.isfinite(truth)
            counts_K = np.where(known_NK, truth, 0.0).sum(axis=0) / np.maximum(known_NK.sum(axis=0), 1)
        return np.tile(counts_K, (len(split.score), 1))

    return _scored("majority", examples, splits, predict)


def metadata(examples: Examples, splits: Sequence[Split], features_of: FeaturesOf) -> BaselineScores:
    """Randomised trees on `metadata_features`."""
    return _scored("metadata", examples, splits, lambda split: _learn(examples, split, features_of, _forest))


def hof_grid(
    examples: Examples, splits: Sequence[Split], features_of: FeaturesOf, groups_N: NDArray[np.object_]
) -> BaselineScores:
    """A linear SVM on the descriptors of `hof.py`.

    Of exclusive classes of clips the training clips are doubled by their mirror images where that helps on inner folds
    of the training clips (it hurts where left and right are classes).

    Args:
        groups_N: the group of each row; inner folds keep groups together.
    """

    def predict(split: Split) -> Floats:
        if examples.task == "frame" or examples.labels == "independent":
            return _learn(examples, split, features_of, _svm)
        features_ND = features_of(split.train)
        truth_N = examples.truth[split.train].astype(np.int64)
        if _mirror_helps(features_ND, truth_N, groups_N[split.train]):
            features_ND, truth_N = _with_mirror_images(features_ND, truth_N)
        return _svm_classes(features_ND, truth_N, features_of(split.score), len(examples.classes))

    return _scored("hof", examples, splits, predict)


def embedding(examples: Examples, splits: Sequence[Split], features_of: FeaturesOf) -> BaselineScores:
    """A logistic regression on `embedding_features`."""
    return _scored("embedding", examples, splits, lambda split: _learn(examples, split, features_of, _logistic))


def _scored(
    name: str, examples: Examples, splits: Sequence[Split], predict: Callable[[Split], Floats]
) -> BaselineScores:
    by_fold = {}
    for split in splits:
        if not len(split.train):
            raise DataError(f"baseline {name}: fold {split.fold} has no clips to train on; check the folds table")
        predicted_NK = predict(split)
        if examples.labels == "exclusive":
            predicted_NK = np.eye(len(examples.classes))[predicted_NK.argmax(axis=1)]
        found = scores(predicted_NK, examples.truth[split.score], task=examples.task)
        by_fold[split.fold] = {key: value for key, value in found.items() if not key.endswith("_log_loss")}
    test = by_fold.pop(TEST_FOLD, None)
    return BaselineScores(name, tuple(by_fold.values()), test)


Learner = Callable[[Features, NDArray[np.int64]], Callable[[Features], Floats]]


def _learn(examples: Examples, split: Split, features_of: FeaturesOf, learner: Learner) -> Floats:
    """The score of each class, learnt from labelled rows; of independent ones each by itself."""
    truth = examples.truth
    train = split.train
    if examples.task == "frame":
        train = _sampled(train, _one_column_each(truth, len(examples.classes)))
    features_ND = features_of(train)
    if examples.labels == "exclusive":
        predict_classes = _class_predictor(features_ND, truth[train], len(examples.classes), learner)
    else:
        predictors = [_behaviour_predictor(features_ND, truth_N, learner) for truth_N in truth[train].T]

        def predict_classes(rows_ND: Features) -> Floats:
            return np.stack([predict(rows_ND) for predict in predictors], axis=1)

    chunks = [split.score[start : start + ROWS_AT_ONCE] for start in range(0, len(split.score), ROWS_AT_ONCE)]
    return np.concatenate([predict_classes(features_of(chunk)) for chunk in chunks])


def _class_predictor(
    features_ND: Features, truth_N: Floats, num_classes: int, learner: Learner
) -> Callable[[Features], Floats]:
    labelled_N = np.isfinite(truth_N)
    target_N = truth_N[labelled_N].astype(np.int64)
    known = np.unique(target_N)
    if len(known) < 2:
        constant_K = np.eye(num_classes)[known[0] if len(known) else 0]
        return lambda rows_ND: np.tile(constant_K, (len(rows_ND), 1))
    predict = learner(features_ND[labelled_N], target_N)

    def predict_classes(rows_ND: Features) -> Floats:
        predicted_NK = np.zeros((len(rows_ND), num_classes))
        predicted_NK[:, known] = predict(rows_ND)
        return predicted_NK

    return predict_classes


def _behaviour_predictor(features_ND: Features, truth_N: Floats, learner: Learner) -> Callable[[Features], Floats]:
    labelled_N = np.isfinite(truth_N)
    target_N = truth_N[labelled_N].astype(np.int64)
    if len(np.unique(target_N)) < 2:
        constant = float(target_N[0]) if len(target_N) else 0.0
        return lambda rows_ND: np.full(len(rows_ND), constant)
    predict = learner(features_ND[labelled_N], target_N)
    return lambda rows_ND: predict(rows_ND)[:, 1]


def _sampled(rows: Rows, truth_NK: Floats) -> Rows:
    """At most `MAX_TRAIN_FRAMES` rows: half shared by the classes' positives, the rest spread evenly.

    Rare behaviours would vanish otherwise; it tilts the threshold towards them, as balanced weights would.
    """
    rows = rows[np.isfinite(truth_NK[rows]).any(axis=1)]
    if len(rows) <= MAX_TRAIN_FRAMES:
        return rows
    share = MAX_TRAIN_FRAMES // 2 // truth_NK.shape[1]
    parts = [_spread(rows[truth_NK[rows, k] == 1], share) for k in range(truth_NK.shape[1])]
    return np.unique(np.concatenate([*parts, _spread(rows, MAX_TRAIN_FRAMES // 2)]))


def _one_column_each(truth: Floats, num_classes: int) -> Floats:
    """Truth as (N, K) of 0, 1 or nan, of class indices too."""
    if truth.ndim == 2:
        return truth
    return np.where(np.isnan(truth)[:, None], np.nan, truth[:, None] == np.arange(num_classes))


def _spread(rows: Rows, count: int) -> Rows:
    """`count` of the rows at even distances, or all of them."""
    if len(rows) <= count:
        return rows
    return rows[np.linspace(0, len(rows) - 1, count).round().astype(np.int64)]


def _forest(features_ND: Features, target_N: NDArray[np.int64]) -> Callable[[Features], Floats]:
    from sklearn.ensemble import ExtraTreesClassifier

    forest = ExtraTreesClassifier(NUM_TREES, min_samples_leaf=2, random_state=0).fit(features_ND, target_N)
    return lambda rows_ND: np.asarray(forest.predict_proba(rows_ND), dtype=np.float64)


def _svm(features_ND: Features, target_N: NDArray[np.int64]) -> Callable[[Features], Floats]:
    """Scores of the classes in order: sigmoids of the margins, one class against the rest."""
    model = _linear_svm().fit(features_ND, target_N)

    def predict(rows_ND: Features) -> Floats:
        scores = sigmoid(np.asarray(model.decision_function(rows_ND), dtype=np.float64))
        return scores if scores.ndim == 2 else np.stack([1 - scores, scores], axis=1)

    return predict


def _logistic(features_ND: Features, target_N: NDArray[np.int64]) -> Callable[[Features], Floats]:
    """Probabilities of the classes in order, by one linear layer on standardised features."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(C=LOGISTIC_C, max_iter=2000))
    model.fit(features_ND, target_N)
    return lambda rows_ND: np.asarray(model.predict_proba(rows_ND))


def _svm_classes(train_ND: Features, truth_N: NDArray[np.int64], rows_ND: Features, num_classes: int) -> Floats:
    """One-hot labels of a linear SVM, one against the rest."""
    if len(np.unique(truth_N)) < 2:
        return np.tile(np.eye(num_classes)[truth_N[0]], (len(rows_ND), 1))
    predicted_N = _linear_svm().fit(train_ND, truth_N).predict(rows_ND)
    return np.asarray(np.eye(num_classes)[predicted_N])


def _linear_svm():  # type: ignore[no-untyped-def]  # sklearn has no types
    from sklearn.svm import LinearSVC

    return LinearSVC(C=SVM_C, random_state=0, max_iter=20000)


def _mirror_helps(features_ND: Features, truth_N: NDArray[np.int64], groups_N: NDArray[np.object_]) -> bool:
    from sklearn.model_selection import GroupKFold

    num_groups = len(np.unique(groups_N.astype(str)))
    if num_groups < 2:
        return False
    right = {False: 0, True: 0}
    for train, held_out in GroupKFold(min(3, num_groups)).split(features_ND, truth_N, groups_N):
        for mirror in right:
            inner_ND, inner_truth_N = features_ND[train], truth_N[train]
            if mirror:
                inner_ND, inner_truth_N = _with_mirror_images(inner_ND, inner_truth_N)
            predicted_NK = _svm_classes(inner_ND, inner_truth_N, features_ND[held_out], int(truth_N.max()) + 1)
            right[mirror] += int((predicted_NK.argmax(axis=1) == truth_N[held_out]).sum())
    return right[True] > right[False]


def _with_mirror_images(features_ND: Features, truth_N: NDArray[np.int64]) -> tuple[Features, NDArray[np.int64]]:
    return np.concatenate([features_ND, hof.mirrored(features_ND)]), np.concatenate([truth_N, truth_N])
