"""Where weights come from: a value of `weights` in params, and the local file that it names.

| value | file |
|---|---|
| a path | itself |
| `torchvision:NAME`, `timm:NAME` | in that library's cache; nothing is downloaded |
| `s3://bucket/key` | a copy, kept by its content |
| `pretrained` | what torchvision or timm publishes for the backbone; downloaded where it is not in their cache |

Versions of the registry are found by the stages, which know it.
"""

import re
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import URLError

import torch

from kineflow import storage
from kineflow.errors import DataError, ParamsError, ServiceError
from kineflow.models.torchvision_compat import declare_missing_torchvision_ops
from kineflow.store import file_sha256, home

FILE_SUFFIXES = (".pt", ".pth", ".pyth", ".bin", ".safetensors")
PRETRAINED_WORD = "pretrained"
REGISTRY_PREFIX = "registry:"
DOWNLOAD_TIMEOUT_SEC = 20.0  # without an answer
_SHA256 = re.compile(r"[0-9a-f]{64}")
_RESNETS = ("resnet18", "resnet34", "resnet50", "resnet101")
_AS_NAMED = (
    *_RESNETS, "vgg13", "inception_v3",
    "mc3_18", "r3d_18", "r2plus1d_18", "s3d", "swin3d_t", "swin3d_s", "swin3d_b", "mvit_v2_s",
)  # fmt: skip
# By backbone, the weights that fill all of it.
PRETRAINED: Mapping[str, str] = {
    **{name: f"torchvision:{name}" for name in _AS_NAMED},
    **{f"{name}_{levels}": f"torchvision:{name}" for name in _RESNETS for levels in ("dual", "triple", "quadruple")},
    **{
        f"tsm_{name}{form}": f"torchvision:{name}"
        for name in ("resnet18", "resnet50")
        for form in ("", "_in_place", "_online")
    },
    "inception_resnet_v2": "timm:inception_resnet_v2.tf_in1k",
}


def find_checkpoint(source: str, *, backbone: str | None = None) -> Path:
    """Return the local file that a `weights` value names.

    Args:
        source: as the table above says.
        backbone: that `pretrained` weights are for; None where there is none to choose them by.

    Raises:
        ParamsError: there is no such file or name, or it is not in the local cache; the message says where it
            is looked for.
        DataError: the file is not what was published, or the object is not there.
        ServiceError: it cannot be downloaded; the message says which URL, and where to put the file.
    """
    kind, colon, name = source.partition(":")
    if source == PRETRAINED_WORD:
        return _pretrained(backbone)
    if colon and kind == "torchvision":
        return _in_torchvision_cache(name)
    if colon and kind == "timm":
        return _in_timm_cache(name)
    if source.startswith(REGISTRY_PREFIX):
        raise ParamsError(f"weights {source!r}: versions of the registry start streams.<stream>.weights only")
    if Path(source).suffix not in FILE_SUFFIXES:
        raise ParamsError(
            f"weights {source!r} is neither a file or s3:// object ending in {', '.join(FILE_SUFFIXES)} nor timm:NAME "
            f"nor torchvision:NAME nor registry:NAME/VERSION nor pretrained"
        )
    if storage.is_s3(source):
        return storage.fetch(source, cache_dir=home() / "objects")[0]
    path = Path(source).expanduser()
    if not path.is_file():
        raise ParamsError(f"weights {source!r}: there is no such file; put it there or correct the path")
    return path


def _pretrained(backbone: str | None) -> Path:
    published = PRETRAINED.get(backbone or "")
    if published is None:
        raise ParamsError(
            f"weights 'pretrained': neither torchvision nor timm publishes weights of {backbone or 'this network'}; "
            f"give the path of a file, or choose among {', '.join(sorted(PRETRAINED))}"
        )
    kind, _, name = published.partition(":")
    return _download_torchvision(name) if kind == "torchvision" else _download_timm(name)


def _in_torchvision_cache(name: str) -> Path:
    url, path = _torchvision_file(name)
    if not path.is_file():
        raise ParamsError(
            f"weights 'torchvision:{name}' are not on this machine: put {path.name} from {url} at {path}, or "
            f"give the path of the file"
        )
    _check_name_hash(path)
    return path


def _download_torchvision(name: str) -> Path:
    url, path = _torchvision_file(name)
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        with _one_sentence(url, path), _timeout(DOWNLOAD_TIMEOUT_SEC):
            torch.hub.download_url_to_file(url, str(path), _named_hash(path), progress=False)
    _check_name_hash(path)
    return path


def _torchvision_file(name: str) -> tuple[str, Path]:
    """The URL of a model's or of named weights, and the file that torchvision would make of it."""
    declare_missing_torchvision_ops()
    import torchvision

    try:
        if name in torchvision.models.list_models():
            url = torchvision.models.get_model_weights(name).DEFAULT.url
        else:
            url = torchvision.models.get_weight(name).url
    except (ValueError, AttributeError, KeyError) as err:
        raise ParamsError(
            f"weights 'torchvision:{name}': torchvision has no such model or weights; write a name such as "
            f"torchvision:resnet18 or torchvision:ResNet18_Weights.IMAGENET1K_V1"
        ) from err
    return url, Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[-1]


def _named_hash(path: Path) -> str | None:
    # torchvision writes the first digits of the SHA-256 into the name: resnet18-f37072fd.pth.
    named = re.search(r"-([0-9a-f]{8})\.pth$", path.name)
    return named.group(1) if named else None


def _check_name_hash(path: Path) -> None:
    named = _named_hash(path)
    if named and not file_sha256(path).startswith(named):
        raise DataError(f"{path}: its SHA-256 does not begin with {named}: fetch it again")


def _in_timm_cache(name: str) -> Path:
    path = _cached_by_timm(name)
    if path.is_file():
        return path
    raise ParamsError(
        f"weights 'timm:{name}' are not on this machine: put model.safetensors of the hub's "
        f"{_timm_config(name).hf_hub_id} at {path}, or give the path of the file"
    )


def _download_timm(name: str) -> Path:
    path = _cached_by_timm(name)
    if path.is_file():
        return path
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    url = hf_hub_url(_timm_config(name).hf_hub_id, "model.safetensors")
    path.parent.mkdir(parents=True, exist_ok=True)
    with _one_sentence(url, path), _timeout(DOWNLOAD_TIMEOUT_SEC):
        try:
            announced = get_hf_file_metadata(url).etag or ""  # of a large file, its SHA-256
        except Exception as err:  # the hub's client has changed its HTTP library, and errors, before
            raise URLError(str(err).splitlines()[0]) from err
        if not _SHA256.fullmatch(announced):
            raise URLError("the hub announces no SHA-256")
        torch.hub.download_url_to_file(url, str(path), announced, progress=False)
    return path


def _cached_by_timm(name: str) -> Path:
    """The file in the hub's cache, or else the one that may be put beside torchvision's, there or not."""
    from huggingface_hub import try_to_load_from_cache

    config = _timm_config(name)
    for filename in ("model.safetensors", "pytorch_model.bin"):
        cached = try_to_load_from_cache(config.hf_hub_id, filename)
        if isinstance(cached, str):
            return Path(cached)
    return Path(torch.hub.get_dir()) / "checkpoints" / f"{config.architecture}.{config.tag}.safetensors"


def _timm_config(name: str) -> Any:
    declare_missing_torchvision_ops()
    import timm

    arch = name.partition(".")[0]
    try:
        config = timm.models.get_pretrained_cfg(name) if timm.is_model(arch) else None
    except RuntimeError:  # a known model, an unknown tag after the dot
        config = None
    if config is None or not config.hf_hub_id:
        known = ", ".join(timm.list_pretrained(f"{arch}*")[:5]) or "none of that name"
        raise ParamsError(f"weights 'timm:{name}': timm has no such pretrained model; it has {known}")
    return config


@contextmanager
def _one_sentence(url: str, path: Path) -> Iterator[None]:
    """Turn what a download raises into one sentence."""
    try:
        yield
    except RuntimeError as err:  # torch's, for another hash
        raise DataError(f"{url}: what came is not what was published ({err}): run again") from err
    except OSError as err:  # URLError, HTTPError and timeouts among them
        reason = getattr(err, "reason", None) or err
        raise ServiceError(
            f"weights 'pretrained': {url} cannot be downloaded ({reason}): put the file at {path}, or run where there "
            f"is a network"
        ) from err


@contextmanager
def _timeout(seconds: float) -> Iterator[None]:
    """Give up on sockets that do not answer; torch's download sets no limit of its own."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
