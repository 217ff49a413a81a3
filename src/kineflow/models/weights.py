"""Fill a model with the weights of a file, and say what became of each."""

import hashlib
import pickle
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from kineflow.errors import DataError
from kineflow.models.checkpoints import rename_public
from kineflow.models.classifier import VideoClassifier
from kineflow.models.weight_sources import find_checkpoint
from kineflow.store import file_sha256

# Wrappers that training tools leave before a parameter's name, and checkpoints round their tensors.
_PREFIX = re.compile(r"^(?:module\.|_orig_mod\.|model\.)+")
PICKLE_START = b"\x80"  # of what torch wrote before 1.6
_CONTAINERS = ("state_dict", "model_state_dict", "model_state", "model", "state_dict_ema")


@dataclass(frozen=True)
class WeightsReport:
    """What became of a checkpoint's tensors and of a model's.

    Attributes:
        source: as the user wrote it.
        path: the file that was read.
        sha256: digest of that file, in hex.
        matched: names in the model that were filled, `adapted` among them.
        adapted: the first layer, where its input channels were made to fit by the mean rule.
        inflated: 3D kernels that were filled from 2D ones, repeated over time.
        dropped: names that both have, in shapes that differ: "name: (64, 3, 7, 7) in the file, ... wanted".
        unused: names in the file that the model does not have.
        missing: names in the model that the file does not fill; they keep their values.
    """

    source: str
    path: Path
    sha256: str
    matched: tuple[str, ...]
    adapted: tuple[str, ...]
    inflated: tuple[str, ...]
    dropped: tuple[str, ...]
    unused: tuple[str, ...]
    missing: tuple[str, ...]

    def to_json(self) -> dict[str, object]:
        """Return counts, and the names of what did not match, as plain JSON values."""
        return {
            "sha256": self.sha256,
            "num_matched": len(self.matched),
            "num_adapted": len(self.adapted),
            "num_inflated": len(self.inflated),
            "dropped": list(self.dropped),
            "unused": list(self.unused),
            "new": list(self.missing),
        }

    def __str__(self) -> str:
        """Return one line of counts."""
        return (
            f"{self.source}: {len(self.matched)} tensors matched ({len(self.adapted)} adapted to the input "
            f"channels, {len(self.inflated)} inflated from 2D), {len(self.dropped)} dropped for their shape, "
            f"{len(self.unused)} unused, {len(self.missing)} of the model's new"
        )


def load_weights(model: VideoClassifier, source: str, *, path: Path | None = None) -> WeightsReport:
    """Copy into a model what fits of a checkpoint.

    A checkpoint's name matches as it stands or behind `backbone.network.`, so that files of this package, of
    torchvision and of timm's ResNets all load; the names of other public families are translated first
    (`checkpoints.py`). A 2D kernel fills a 3D one of the same height and width.

    Args:
        model: changed in place; stays on its device.
        source: what the user calls it, as `find_checkpoint` reads it.
        path: its file, where that was found before.

    Raises:
        DataError: the file cannot be read safely, nothing in it fits, or what fits is not finite.
        ParamsError, ServiceError: as `find_checkpoint`.
    """
    path = path or find_checkpoint(source, backbone=model.name.partition(".")[0])
    found = read_state_dict(path)
    fitted = fit_tensors(model, found)
    if not fitted.filled:
        example = next(iter(found), "none")
        raise DataError(
            f"{path}: none of its {len(found)} tensors (such as {example}) fits {model.name}: choose the "
            f"checkpoint of the same backbone"
        )
    broken = [name for name, tensor in fitted.filled.items() if not tensor.isfinite().all()]
    if broken:
        raise DataError(
            f"{path}: {len(broken)} of its tensors hold numbers that are not finite, the first fills {broken[0]}: "
            f"the training that wrote it broke down; choose an earlier checkpoint"
        )
    model.load_state_dict(fitted.filled, strict=False)
    return WeightsReport(
        source=source,
        path=path,
        sha256=file_sha256(path),
        matched=tuple(fitted.filled),
        adapted=tuple(fitted.adapted),
        inflated=tuple(name for name in fitted.inflated if name in fitted.filled),
        dropped=tuple(fitted.dropped),
        unused=tuple(fitted.unused),
        missing=tuple(name for name in model.state_dict() if name not in fitted.filled),
    )


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint, on the CPU, without running any code in it.

    Raises:
        DataError: it is no checkpoint, is damaged, or holds more than tensors and plain values.
    """
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            content: object = load_file(path)
        else:
            _check_archive(path)
            content = torch.load(path, map_location="cpu", weights_only=True)
    except (FileNotFoundError, DataError):
        raise
    except pickle.UnpicklingError as err:
        raise DataError(
            f"{path}: refused, because it holds more than tensors, which could run code when loaded: save its "
            f"state_dict alone"
        ) from err
    except Exception as err:  # each format has its own errors for a damaged file
        raise DataError(f"{path}: not a readable checkpoint ({type(err).__name__}): fetch it again") from err
    return _tensors_of(content, path)


def _check_archive(path: Path) -> None:
    """Refuse what torch would misread: other files, whose error looks like code, and damage, which it does not see."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged is not None:
            raise DataError(f"{path}: damaged, the checksum of its part {damaged} does not match: fetch it again")
        return
    with path.open("rb") as file:
        if file.read(1) != PICKLE_START:
            raise DataError(f"{path}: not a checkpoint (perhaps a web page or a pointer of Git LFS): fetch it again")


@dataclass
class FittedTensors:
    """Tensors of a checkpoint by the model's names, and what was done to them; see `WeightsReport`."""

    filled: dict[str, Tensor] = field(default_factory=dict)
    adapted: list[str] = field(default_factory=list)
    inflated: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)


def fit_tensors(model: VideoClassifier, found: Mapping[str, Tensor]) -> FittedTensors:
    """Return what of a checkpoint's tensors goes where in a model, which stays as it is."""
    bare = {_PREFIX.sub("", name): tensor for name, tensor in found.items()}
    wanted = model.state_dict()
    first = {f"{layer}.weight" for layer in model.first_layers}
    fitted = FittedTensors()
    for name, tensor in rename_public(bare, model_name=model.name).items():
        target = _target_name(name, wanted)
        if target is None:
            fitted.unused.append(name)
            continue
        shape = wanted[target].shape
        if tensor.ndim == 4 and len(shape) == 5 and tensor.shape[2:] == shape[3:]:
            tensor = inflate_kernel(tensor, num_frames=shape[2])
            fitted.inflated.append(target)
        if target in first and tensor.shape != shape and _is_rgb_of(tensor, shape):
            tensor = adapt_input_channels(tensor, in_channels=shape[1])
            fitted.adapted.append(target)
        if tensor.shape == shape:
            fitted.filled[target] = tensor
        else:
            fitted.dropped.append(f"{target}: {tuple(tensor.shape)} in the file, {tuple(shape)} wanted")
    return fitted


def check_fit(wanted: Mapping[str, Tensor], found: Mapping[str, Tensor], *, name: str, path: Path, param: str) -> None:
    """Make sure that a checkpoint has all tensors of a network and no others.

    Args:
        wanted: of the network. found: of the file.
        name: torchvision's, of the network.
        param: the key of params that named the file.

    Raises:
        DataError: it is the checkpoint of another network; names the first difference.
    """
    other = f"give {param} a state_dict of torchvision's {name}"
    if missing := [key for key in wanted if key not in found]:
        raise DataError(
            f"{path}: not the weights of {name}: it lacks {missing[0]} and {len(missing) - 1} more; {other}"
        )
    if unused := [key for key in found if key not in wanted]:
        raise DataError(f"{path}: not the weights of {name}: {name} has no {unused[0]}; {other}")
    for key, tensor in wanted.items():
        if found[key].shape != tensor.shape:
            shapes = f"{key} is {tuple(found[key].shape)} there, {tuple(tensor.shape)} in {name}"
            raise DataError(f"{path}: not the weights of {name}: {shapes}; {other}")


def state_dict_sha256(state: Mapping[str, Tensor]) -> str:
    """Return a SHA-256, in hex, over names, types, shapes and values; memory layout and device do not count."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def adapt_input_channels(weight_OC: Tensor, *, in_channels: int) -> Tensor:
    """Make a first layer that was trained on RGB read `in_channels` channels.

    Args:
        weight_OC: kernel (out, 3, ...).
        in_channels: channels wanted.

    Returns:
        (out, in_channels, ...): the mean over RGB, repeated.

    Source: Wang et al. 2016, Temporal segment networks, cross-modality pre-training.
    """
    mean_O1 = weight_OC.mean(dim=1, keepdim=True)
    return mean_O1.expand(-1, in_channels, *weight_OC.shape[2:]).contiguous()


def inflate_kernel(weight_OCHW: Tensor, *, num_frames: int) -> Tensor:
    """Make a kernel that was trained on images read `num_frames` frames.

    On a clip of one frame repeated, the network then answers as the 2D one on that frame, but for what zeros in time
    add at the clip's ends.

    Args:
        weight_OCHW: 2D kernel.
        num_frames: of the 3D kernel.

    Returns:
        (O, C, num_frames, H, W): the kernel in every frame, divided by their number.

    Source: Carreira and Zisserman 2017, Quo vadis, action recognition? 2.2.
    """
    return (weight_OCHW[:, :, None] / num_frames).expand(-1, -1, num_frames, -1, -1).contiguous()


def _tensors_of(content: object, path: Path) -> dict[str, Tensor]:
    for key in _CONTAINERS:
        if isinstance(content, dict) and isinstance(content.get(key), Mapping):
            content = content[key]
            break
    if isinstance(content, Mapping):
        tensors = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
        if tensors:
            return tensors
    raise DataError(f"{path}: holds no named tensors: save a model's state_dict there")


def _target_name(name: str, wanted: Mapping[str, Tensor]) -> str | None:
    bare = name.removeprefix("backbone.").removeprefix("network.")
    for candidate in (name, f"backbone.{name}", f"backbone.network.{bare}"):
        if candidate in wanted:
            return candidate
    return None


def _is_rgb_of(tensor: Tensor, shape: torch.Size) -> bool:
    same_otherwise = tensor.shape[:1] == shape[:1] and tensor.shape[2:] == shape[2:]
    return tensor.ndim == len(shape) and tensor.shape[1] == 3 and same_otherwise
