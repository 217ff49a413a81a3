"""A release model on disk: one folder with its weights and everything that is needed to use them.

`bundle.json` holds the task, the classes and the members. The probability of a class is the weighted mean over the
streams of the mean over each stream's members: one refit, or the models of all folds.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kineflow.atomic import replacing
from kineflow.data.preprocessing import Preprocessing
from kineflow.data.probabilities import Labels
from kineflow.descriptors.inputs import FisherInput
from kineflow.errors import DataError
from kineflow.models.frame_features import BACKBONE_FILE, Embedder
from kineflow.schema import FileSchema
from kineflow.training.model_config import ModelConfig

if TYPE_CHECKING:
    import torch
    from torch import nn

    from kineflow.training.recipe import Precision

# 1 knew neither labels nor window_stride_sec, 2 networks only, 3 weighed all streams alike, 4 had no embedder,
# 5 no embeddings in bf16.
SCHEMA = FileSchema("bundle", version=6, oldest=1, remedy="train it again, or load it with the Kineflow that made it")
BUNDLE_JSON = "bundle.json"


@dataclass(frozen=True)
class Member:
    """One network of a release model.

    Args:
        stream: rgb, flow, pose or student; members of one stream are averaged first.
        weights: file of its state dict, relative to the bundle.
        embedder: of a model on embeddings: what frames are embedded by; its backbone's weights lie beside `weights`.
            None: it can only be scored on features that are there.
    """

    stream: str
    model: ModelConfig
    preprocessing: Preprocessing
    precision: "Precision"
    weights: str
    embedder: Embedder | None = None

    @property
    def needs_backbone(self) -> bool:
        """Whether it lacks what embeds the frames that it reads."""
        return self.preprocessing.stream == "embedding" and self.embedder is None

    @property
    def backbone_weights(self) -> str:
        """File of the embedder's backbone, relative to the bundle."""
        return str(Path(self.weights).with_name(BACKBONE_FILE))


@dataclass(frozen=True)
class FisherMember:
    """One classifier of descriptors of a release model.

    Args:
        stream: fv.
        preprocessing: from a video to its descriptors.
        weights: file of its arrays (safetensors), relative to the bundle.
    """

    stream: str
    preprocessing: FisherInput
    weights: str


AnyMember = Member | FisherMember


@dataclass(frozen=True)
class Bundle:
    """What `bundle.json` says.

    Args:
        root: the folder.
        labels: whether the classes exclude each other.
        window_stride_sec: task frame: from one window to the next where a whole video is labelled; a frame that
            several hold gets their mean. None: windows tile the video.
        stream_weights: of the streams' probabilities, relative to one another. None: all the same.
        training_videos: sha256 of each video that any member was trained on.
        training_groups: the groups of those videos.
    """

    root: Path
    task: str
    classes: tuple[str, ...]
    members: tuple[AnyMember, ...]
    training_videos: tuple[str, ...]
    training_groups: tuple[str, ...]
    labels: Labels
    window_stride_sec: float | None = None
    stream_weights: Mapping[str, float] | None = None

    def weight_of(self, stream: str) -> float:
        """How much the probabilities of `stream` count, relative to the others."""
        return 1.0 if self.stream_weights is None else self.stream_weights[stream]

    def load_model(self, member: Member, device: "torch.device") -> "nn.Module":
        """The network of `member` with its weights, in eval mode.

        Raises:
            DataError: the weights do not fit the model.
        """
        import torch

        from kineflow.training.precision import lay_out

        model = lay_out(member.model.build(seed=0), device, member.precision)
        state = torch.load(self.root / member.weights, map_location="cpu", weights_only=True)
        try:
            model.load_state_dict(state)
        except RuntimeError as err:
            raise DataError(f"{self.root / member.weights}: does not fit {member.model.name}") from err
        return model.to(device).eval()


def write_bundle(bundle: Bundle, weights: Mapping[str, Path]) -> None:
    """Write the folder `bundle.root`, whole or not at all; `weights` says where each member's files are now."""
    values = {
        "schema_version": SCHEMA.version,
        "task": bundle.task,
        "labels": bundle.labels,
        "window_stride_sec": bundle.window_stride_sec,
        "classes": list(bundle.classes),
        "stream_weights": None if bundle.stream_weights is None else dict(bundle.stream_weights),
        "members": [_member_json(member) for member in bundle.members],
        "training_videos": sorted(set(bundle.training_videos)),
        "training_groups": sorted(set(bundle.training_groups)),
    }
    with replacing(bundle.root) as partial:
        partial.mkdir()
        for name, source in weights.items():
            (partial / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, partial / name)
        (partial / BUNDLE_JSON).write_text(json.dumps(values, indent=1) + "\n")
        shutil.rmtree(bundle.root, ignore_errors=True)


def read_bundle(root: Path) -> Bundle:
    """Read the bundle in the folder `root`.

    Raises:
        DataError: there is none, or it is of another version.
    """
    try:
        values: dict[str, Any] = json.loads((root / BUNDLE_JSON).read_text())
    except FileNotFoundError as err:
        raise DataError(f"{root}: holds no {BUNDLE_JSON}, so it is no release model") from err
    version = SCHEMA.check(root, values.get("schema_version"))
    if version == 1:
        values |= {"labels": "independent" if values["task"] == "frame" else "exclusive", "window_stride_sec": None}
    if version < 4:
        values["stream_weights"] = None
    return Bundle(
        root=root,
        task=values["task"],
        classes=tuple(values["classes"]),
        members=tuple(_member_from_json(member, root) for member in values["members"]),
        training_videos=tuple(values["training_videos"]),
        training_groups=tuple(values["training_groups"]),
        labels=values["labels"],
        window_stride_sec=values["window_stride_sec"],
        stream_weights=values["stream_weights"],
    )


def assemble_bundle(parts: Sequence[Path], out: Path, *, stream_weights: Mapping[str, float] | None = None) -> Bundle:
    """Join the bundles of several streams into one at `out`.

    Args:
        stream_weights: of each stream; all the same if None.

    Raises:
        DataError: they answer different questions, or the weights are of other streams.
    """
    bundles = [read_bundle(part) for part in parts]
    first = bundles[0]
    for other in bundles[1:]:
        if (other.task, other.labels, other.classes) != (first.task, first.labels, first.classes):
            raise DataError(f"{other.root} and {first.root} have different classes and cannot be fused")
    members = tuple(
        replace(member, weights=f"{member.stream}/{Path(member.weights).name}")
        for bundle in bundles
        for member in bundle.members
    )
    streams = sorted({member.stream for member in members})
    if stream_weights is not None and streams != sorted(stream_weights):
        raise DataError(
            f"{out}: joins {', '.join(streams)}, but the weights are of {', '.join(sorted(stream_weights))}"
        )
    sources = {
        f"{member.stream}/{Path(name).name}": bundle.root / name
        for bundle in bundles
        for member in bundle.members
        for name in _files(member)
    }
    joined = replace(
        first,
        root=out,
        members=members,
        training_videos=tuple(v for bundle in bundles for v in bundle.training_videos),
        training_groups=tuple(g for bundle in bundles for g in bundle.training_groups),
        stream_weights=stream_weights,
    )
    write_bundle(joined, sources)
    return joined


def _files(member: AnyMember) -> tuple[str, ...]:
    if isinstance(member, Member) and member.embedder is not None:
        return member.weights, member.backbone_weights
    return (member.weights,)


def _member_json(member: AnyMember) -> dict[str, Any]:
    kind = "fisher" if isinstance(member, FisherMember) else "network"
    return {"kind": kind} | asdict(member) | {"preprocessing": member.preprocessing.to_json()}


def _member_from_json(values: dict[str, Any], root: Path) -> AnyMember:
    weights = root / values["weights"]
    if not weights.resolve().is_relative_to(root.resolve()):
        raise DataError(f"{root}: the weights file {values['weights']} is outside of the bundle")
    if values.get("kind", "network") == "fisher":
        described = FisherInput.from_json(values["preprocessing"], where=root)
        return FisherMember(stream=values["stream"], preprocessing=described, weights=values["weights"])
    preprocessing = Preprocessing.from_json(values["preprocessing"], where=root)  # first: it refuses what is too old
    return Member(
        stream=values["stream"],
        model=ModelConfig(**values["model"]),
        preprocessing=preprocessing,
        precision=values["precision"],
        weights=values["weights"],
        embedder=None if values.get("embedder") is None else Embedder(**values["embedder"]),
    )
