"""`data/weights.tsv`: the checkpoints that params name, by content: another file under the same name is seen."""

from pathlib import Path

from kineflow.params import NETWORK_NAMES, Params
from kineflow.store import file_sha256


def write_weights(path: Path, params: Params) -> None:
    """List the checkpoint of every params key that names one, with its SHA-256, whole or not at all.

    Raises:
        ParamsError: a checkpoint is not there; nothing is downloaded.
    """
    named = {"embed.weights": params.embed.weights, "pose.weights": params.pose.weights}
    named |= {f"streams.{name}.weights": params.streams[name].weights for name in NETWORK_NAMES}
    rows = [f"{key}\t{source}\t{_sha256_of(source)}\n" for key, source in named.items() if source is not None]
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_text("".join(["key\tweights\tsha256\n", *rows]), encoding="utf-8")
    partial.replace(path)


def _sha256_of(source: str) -> str:
    from kineflow.models.weights import find_checkpoint  # imports torch

    return file_sha256(find_checkpoint(source))
