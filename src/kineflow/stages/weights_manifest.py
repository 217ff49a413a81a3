"""`data/weights.tsv`: the checkpoints that params name, by content: another file under the same name is seen.

`sync` finds their files, wherever they come from, and leaves a link to each in `store.home()`. Later stages follow it,
so that all of them start from the same content, though an alias of the registry may have moved on.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kineflow.atomic import replacing, write_text
from kineflow.errors import DataError
from kineflow.store import file_sha256, home

HEADER = "key\tweights\tsha256\n"


@dataclass(frozen=True)
class Weights:
    """A checkpoint that params name.

    Args:
        source: as params say.
        sha256: of the file.
    """

    source: str
    sha256: str


def write_weights(path: Path, files: Mapping[str, tuple[str, Path]]) -> None:
    """List each checkpoint with its SHA-256, whole or not at all, and link to it.

    Args:
        files: what params say and the file found, by the key of params.
    """
    rows = [f"{key}\t{source}\t{_link(file)}\n" for key, (source, file) in files.items()]
    write_text(path, "".join([HEADER, *rows]))


def read_weights(path: Path) -> dict[str, Weights]:
    """The checkpoints that `sync` found, by the key of params."""
    lines = path.read_text(encoding="utf-8").splitlines()[1:]
    rows = [line.split("\t") for line in lines]
    return {key: Weights(source, sha256) for key, source, sha256 in rows}


def weights_file(path: Path, key: str, source: str | None) -> Path | None:
    """The file that a key of params names, None where it names none.

    Args:
        path: of the list.
        source: what params say.

    Raises:
        DataError: `sync` did not find it, or it has changed since.
    """
    if source is None:
        return None
    again = "run `kineflow stage sync` again"
    found = read_weights(path).get(key) if path.is_file() else None
    if found is None or found.source != source:
        raise DataError(f"{key}: {source} is not in {path}; {again}")
    links = list(_links().glob(f"{found.sha256}.*"))
    if not links or not links[0].exists():
        raise DataError(f"{key}: the file of {source} is no longer on this machine; {again}")
    if file_sha256(links[0]) != found.sha256:
        raise DataError(f"{key}: the file of {source} has changed since sync ({links[0].resolve()}); {again}")
    return links[0].absolute()


def _link(file: Path) -> str:
    sha256 = file_sha256(file)
    with replacing(_links() / f"{sha256}{file.suffix}") as partial:
        partial.symlink_to(file.resolve())
    return sha256


def _links() -> Path:
    return home() / "weights"
