"""How the models of a stream begin: from which weights, which videos those have seen, and what of them trains when."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch

from kineflow.errors import DataError
from kineflow.params import FinetuneParams
from kineflow.stages.stage import StageReport
from kineflow.training.bundle import BUNDLE_JSON, read_bundle
from kineflow.training.finetune import Finetune, Phase, split_blocks
from kineflow.training.model_config import ModelConfig


def weights_key(name: str) -> str:
    """The key of params that says what the model `name` (rgb, flow, pose or student) starts from."""
    return f"streams.{'rgb' if name == 'student' else name}.weights"


def finetune_of(
    params: FinetuneParams | None, model: ModelConfig, *, epochs: int, report: StageReport
) -> Finetune | None:
    """The value that recipes hold, and a line of the report that says what it means for `model`.

    Raises:
        ParamsError: the model has fewer blocks than are to train, or a backbone without weights.
    """
    if params is None:
        return None
    finetune = Finetune(**params.model_dump())
    with torch.device("meta"):
        shape = replace(model, weights=None).build(seed=0)
    frozen, trained = split_blocks(shape, Phase(0, 1, "sgd", 1.0, finetune))
    head = f"pooling and head for {finetune.head_epochs} of {epochs} epochs, then " if finetune.head_epochs else ""
    report.note(f"training {head}the last {len(trained)} of {len(frozen) + len(trained)} blocks with pooling and head")
    return finetune


def tell_weights(model: ModelConfig, source: str, report: StageReport) -> None:
    """Load the weights of `model` once, and note what became of them.

    Raises:
        DataError: the file cannot be read, or nothing in it fits.
    """
    _, loaded = model.load(seed=0)
    assert loaded is not None
    report.note(f"starting from {source} ({loaded.sha256[:12]}): {loaded}")
    for text in (*loaded.dropped, *(f"{name}: new" for name in loaded.missing)):
        report.note(f"  {text}")


def check_unseen(weights: Path, *, source: str, judged: Mapping[str, str], sha256: Mapping[str, str]) -> None:
    """Refuse weights that were trained on a video that validation or test is to judge: its scores would be no test.

    A release model lies beside the list of its training videos; of other files nothing is known.

    Args:
        source: as params say.
        judged: the group of each video that is judged. sha256: of each video.

    Raises:
        DataError: they were; names the video.
    """
    file = weights.resolve()
    roots = [folder for folder in (file.parent, file.parent.parent) if (folder / BUNDLE_JSON).is_file()]
    if not roots:
        return
    bundle = read_bundle(roots[0])
    seen = set(bundle.training_videos)
    shared = [video for video in judged if sha256[video] in seen]
    if seen & set(sha256.values()):  # the same data set, whose groups mean the same
        shared += [video for video, group in judged.items() if group in bundle.training_groups]
    if shared:
        raise DataError(
            f"{source} was trained on {shared[0]} or its group, which this training is judged by: start from a model "
            f"of other data, or with weights: null"
        )
