"""The classifier: for each channel a codebook and linear machines, whose margins are averaged and then calibrated."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from kineflow.data.probabilities import Labels
from kineflow.descriptors.calibration import Calibration, fit_calibration, uncalibrated
from kineflow.descriptors.fisher import Codebook, fit_codebook
from kineflow.descriptors.fit_progress import Tell, in_silence
from kineflow.descriptors.local import Channel, LocalDescriptors, joined
from kineflow.descriptors.svm import LinearMachines, Rows, fit_machines
from kineflow.errors import DataError

MAX_CODEBOOK_DESCRIPTORS = 40_000  # over all clips: bounds memory, and time
MAX_INNER_FOLDS = 5

Floats = NDArray[np.float32]
Features = Mapping[Channel, Floats]  # the Fisher vectors of each channel, (N, D) or (D,)


@dataclass(frozen=True)
class FisherRecipe:
    """How a classifier is fitted.

    Args:
        channels: which descriptors.
        num_components: of the principal components of a descriptor.
        num_gaussians: of the mixture.
        svm_c: see `fit_machines`.
        flip: train on mirror images too, and average the margins of a clip and of its mirror image.
        class_weights: balanced: see `fit_machines`.
        seed: of the descriptors that codebooks are fitted on, and of the mixtures.
    """

    channels: tuple[Channel, ...]
    num_components: int
    num_gaussians: int
    svm_c: float
    flip: bool
    class_weights: Literal["none", "balanced"]
    seed: int


@dataclass(frozen=True)
class FisherModel:
    """A fitted classifier of K classes; `codebooks` and `machines` by channel."""

    codebooks: Mapping[Channel, Codebook]
    machines: Mapping[Channel, LinearMachines]
    calibration: Calibration
    flip: bool

    def probs(self, descriptors: LocalDescriptors, labels: Labels) -> NDArray[np.float64]:
        """The probability of each class for one clip, (K,)."""
        seen = [descriptors, descriptors.mirrored()] if self.flip else [descriptors]
        margins_K = np.mean([self._margins(encoded(self.codebooks, view)) for view in seen], axis=0)
        return self.calibration.probs(margins_K[None], labels)[0]

    def _margins(self, features: Features) -> Floats:
        return mean_margins(self.machines, {name: vector[None] for name, vector in features.items()})[0]

    @property
    def num_parameters(self) -> int:
        """Numbers in all of its arrays."""
        return sum(array.size for array in self.arrays().values())

    def num_macs(self, num_descriptors: float) -> int:
        """Multiply-adds of judging a clip of so many descriptors, the descriptors given."""
        macs = 0.0
        for name, codebook in self.codebooks.items():
            # projection, distances to the Gaussians, sums of points and of squares
            macs += num_descriptors * (codebook.axes_PD.size + 4 * codebook.means_GE.size)
            macs += self.machines[name].weights_KD.size
        return int(macs * (2 if self.flip else 1))

    def arrays(self) -> dict[str, Floats]:
        """Every array by name."""
        found = {"slope_K": self.calibration.slope_K, "offset_K": self.calibration.offset_K}
        for name in self.codebooks:
            parts = {**vars(self.codebooks[name]), **vars(self.machines[name])}
            found |= {f"{name}.{key}": array for key, array in parts.items()}
        return found


@dataclass(frozen=True)
class Fitted:
    """A classifier, and what it says of its own training clips.

    Args:
        inner_margins_NK: of each training clip, by machines of an inner fold that did not see its group; None where
            there is only one group.
        num_descriptors: of a training clip, in the mean.
    """

    model: FisherModel
    inner_margins_NK: Floats | None
    num_descriptors: float


def fit_model(
    descriptors_of: Callable[[int], LocalDescriptors],
    targets_NK: NDArray[np.floating],
    groups_N: Sequence[str],
    recipe: FisherRecipe,
    labels: Labels,
    tell: Tell = in_silence,
) -> Fitted:
    """Fit a classifier; the descriptors of one clip are in memory at a time.

    Args:
        descriptors_of: of the clip of a row; called several times.
        targets_NK: 1, 0, or nan where nobody knows.
        groups_N: inner folds, which calibrate, keep groups together.
        tell: of all parts but `judge`.

    Raises:
        DataError: too few descriptors for the codebooks.
    """
    codebooks, num_descriptors = _fit_codebooks(descriptors_of, len(groups_N), recipe, tell)
    rows = []
    for row in range(len(groups_N)):
        rows.append(_views(codebooks, descriptors_of(row), flip=recipe.flip))
        tell("encode", (row + 1) / len(groups_N))
    inner_folds = _inner_folds(groups_N)
    machines: dict[Channel, LinearMachines] = {}
    margins = []
    for index, name in enumerate(recipe.channels):
        views = [np.stack([of_clip[view][name] for of_clip in rows]) for view in range(2 if recipe.flip else 1)]
        tell_channel = partial(_tell_channel, tell, index, len(recipe.channels))
        machines[name], of_channel_NK = _fit_channel(views, targets_NK, inner_folds, recipe, tell_channel)
        margins.append(of_channel_NK)
    inner: Floats | None = np.stack(margins).mean(axis=0) if inner_folds else None
    calibration = uncalibrated(targets_NK.shape[1]) if inner is None else fit_calibration(inner, targets_NK, labels)
    return Fitted(FisherModel(codebooks, machines, calibration, recipe.flip), inner, num_descriptors)


def num_inner_folds(groups: Sequence[str]) -> int:
    """How many inner folds calibrate; none where there is but one group."""
    num_groups = len(set(groups))
    return min(MAX_INNER_FOLDS, num_groups) if num_groups > 1 else 0


def encoded(codebooks: Mapping[Channel, Codebook], descriptors: LocalDescriptors) -> Features:
    """The Fisher vector of each channel, (D,)."""
    return {
        name: codebook.fisher_vector(descriptors.channel(name), descriptors.place_N3)
        for name, codebook in codebooks.items()
    }


def mean_margins(machines: Mapping[Channel, LinearMachines], features: Features) -> Floats:
    """The margins of rows, averaged over the channels, (N, K)."""
    return np.mean([machines[name].margins(features[name]) for name in machines], axis=0, dtype=np.float32)


def save_model(path: Path, model: FisherModel) -> None:
    """Write the arrays as safetensors, to the same bytes each time."""
    from safetensors.numpy import save_file

    save_file({name: np.ascontiguousarray(array) for name, array in model.arrays().items()}, path)


def load_model(path: Path, *, flip: bool) -> FisherModel:
    """Read what `save_model` wrote.

    Raises:
        DataError: the file is none of these.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        arrays = load_file(path)
        names: list[Channel] = [name for name in ("hof", "mbh", "hog") if f"{name}.centre_D" in arrays]
        codebooks = {name: Codebook(**_fields(arrays, name, Codebook)) for name in names}
        machines = {name: LinearMachines(**_fields(arrays, name, LinearMachines)) for name in names}
        return FisherModel(codebooks, machines, Calibration(arrays["slope_K"], arrays["offset_K"]), flip)
    except (SafetensorError, KeyError, OSError) as err:
        raise DataError(f"{path}: holds no Fisher vector model; train it again") from err


def _fields(arrays: Mapping[str, Floats], name: str, kind: type) -> dict[str, Floats]:
    return {field: arrays[f"{name}.{field}"] for field in kind.__dataclass_fields__}  # type: ignore[attr-defined]


def _views(codebooks: Mapping[Channel, Codebook], descriptors: LocalDescriptors, *, flip: bool) -> list[Features]:
    """Of the clip, and with `flip` of its mirror image."""
    seen = [descriptors, descriptors.mirrored()] if flip else [descriptors]
    return [encoded(codebooks, view) for view in seen]


def _fit_codebooks(
    descriptors_of: Callable[[int], LocalDescriptors], num_clips: int, recipe: FisherRecipe, tell: Tell
) -> tuple[dict[Channel, Codebook], float]:
    """A codebook for each channel, from some descriptors of every clip; the mean number of descriptors of a clip."""
    rng = np.random.default_rng(recipe.seed)
    parts, total = [], 0
    for clip in range(num_clips):
        found = descriptors_of(clip)
        total += len(found)
        some = found.chosen(rng.permutation(len(found))[: max(1, MAX_CODEBOOK_DESCRIPTORS // num_clips)])
        parts.append(_half_mirrored(some) if recipe.flip else some)
        tell("read", (clip + 1) / num_clips)
    sample = joined(parts)
    codebooks: dict[Channel, Codebook] = {}
    for name in recipe.channels:
        codebooks[name] = fit_codebook(
            sample.channel(name),
            sample.place_N3,
            num_components=recipe.num_components,
            num_gaussians=recipe.num_gaussians,
            seed=recipe.seed,
        )
        tell("codebooks", len(codebooks) / len(recipe.channels))
    return codebooks, total / num_clips


def _half_mirrored(descriptors: LocalDescriptors) -> LocalDescriptors:
    half = len(descriptors) // 2
    rows = np.arange(len(descriptors))
    return joined([descriptors.chosen(rows[:half]), descriptors.chosen(rows[half:]).mirrored()])


def _inner_folds(groups_N: Sequence[str]) -> list[NDArray[np.int64]]:
    """The rows that each inner fold holds out."""
    from sklearn.model_selection import GroupKFold

    num_folds = num_inner_folds(groups_N)
    if not num_folds:
        return []
    groups = np.asarray(groups_N, dtype=object)
    return [held_out for _, held_out in GroupKFold(num_folds).split(groups, groups=groups)]


def _tell_channel(tell: Tell, index: int, num_channels: int, share: float) -> None:
    tell("machines", (index + share) / num_channels)


def _fit_channel(
    views: Sequence[Floats],
    targets_NK: NDArray[np.floating],
    inner_folds: Sequence[NDArray[np.int64]],
    recipe: FisherRecipe,
    tell_share: Callable[[float], None],
) -> tuple[LinearMachines, Floats]:
    """Machines of all clips, and the margins of each clip by machines that saw nothing of its group, (N, K).

    Args:
        views: of the clips, and with `flip` of their mirror images.
        tell_share: is told the share of the machines that are fitted.
    """
    rows = Rows(np.concatenate(views))

    def fitted(targets_NK: NDArray[np.floating], start: LinearMachines | None = None) -> LinearMachines:
        balanced = recipe.class_weights == "balanced"
        return fit_machines(
            rows, np.concatenate([targets_NK] * len(views)), c=recipe.svm_c, balanced=balanced, start=start
        )

    machines = fitted(targets_NK)
    tell_share(1 / (1 + len(inner_folds)))
    margins_NK = np.zeros(targets_NK.shape, np.float32)
    for num_fitted, held_out in enumerate(inner_folds, start=2):
        seen_NK = np.array(targets_NK, np.float64)
        seen_NK[held_out] = np.nan
        inner = fitted(seen_NK, start=machines)
        margins_NK[held_out] = np.mean([inner.margins(view[held_out]) for view in views], axis=0)
        tell_share(num_fitted / (1 + len(inner_folds)))
    return machines, margins_NK
