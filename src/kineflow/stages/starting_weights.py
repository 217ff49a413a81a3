"""The files of the weights that params name; `sync` alone looks for them, because it alone may ask the registry."""

import re
from pathlib import Path
from typing import TYPE_CHECKING

from kineflow.errors import ParamsError
from kineflow.params import NetworkName, Params

if TYPE_CHECKING:
    from kineflow.training.bundle import Member

_VERSION = re.compile(r"registry:(?P<name>[^@]+?)(?:/(?P<number>\d+)|@(?P<alias>[\w-]+))")


def find_starting_weights(params: Params) -> dict[str, tuple[str, Path]]:
    """What params say and the file that it names, by the key of params that names one; what is off needs none.

    Raises:
        ParamsError: a checkpoint, or a version of the registry, is not there.
        DataError: a file is not what was published or registered.
        ServiceError: S3, the registry or the publisher is out of reach.
    """
    found = {}
    if params.embed.enabled and params.embed.weights is not None:
        found["embed.weights"] = (params.embed.weights, _find(params.embed.weights, params.embed.backbone, None))
    if params.streams.pose.enabled and params.pose.weights is not None:
        found["pose.weights"] = (params.pose.weights, _find(params.pose.weights, None, None))
    for stream in params.streams.networks:
        config = params.streams[stream]
        if config.weights is not None:
            file = _find(config.weights, config.model.partition(".")[0], stream)
            found[f"streams.{stream}.weights"] = (config.weights, file)
    return found


def _find(source: str, backbone: str | None, stream: NetworkName | None) -> Path:
    from kineflow.models.weight_sources import REGISTRY_PREFIX, find_checkpoint  # imports torch

    if stream is not None and source.startswith(REGISTRY_PREFIX):
        return _registered(source, stream)
    return find_checkpoint(source, backbone=backbone)


def _registered(source: str, stream: NetworkName) -> Path:
    """The file of the one model in a version of the registry that saw the same kind of input."""
    from kineflow.registry.register import load_bundle_path
    from kineflow.training.bundle import Member, read_bundle

    wanted = _VERSION.fullmatch(source)
    if wanted is None:
        raise ParamsError(f"weights {source!r}: write registry:NAME/VERSION or registry:NAME@ALIAS")
    bundle = read_bundle(load_bundle_path(wanted["name"], wanted["number"] or wanted["alias"]))
    networks = [member for member in bundle.members if isinstance(member, Member)]
    fitting = [member for member in networks if _reads(member, stream)]
    if len(fitting) != 1:
        raise ParamsError(
            f"weights {source!r}: that version holds {len(fitting)} models of the stream {stream}; name one that was "
            f"registered with release.form: refit and holds that stream"
        )
    return bundle.root / fitting[0].weights


def _reads(member: "Member", stream: NetworkName) -> bool:
    return member.stream == stream or (stream == "rgb" and member.stream == "student")
