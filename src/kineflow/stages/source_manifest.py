"""`data/sources.tsv`: every video and annotation file of the source, by its content."""

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from kineflow.atomic import replacing
from kineflow.errors import DataError
from kineflow.schema import FileSchema

COLUMNS = ("kind", "key", "num_bytes", "sha256")
SCHEMA = FileSchema("sources", version=2, oldest=1, remedy="run sync again")


@dataclass(frozen=True)
class Source:
    """One row of `data/sources.tsv`: a file's kind (video, annotation, roi or pose), key, size and SHA-256 (hex)."""

    kind: str
    key: str
    num_bytes: int
    sha256: str


def write_sources(path: Path, sources: Iterable[Source]) -> None:
    """Write the manifest, whole or not at all, sorted by kind and key."""
    with replacing(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        file.write(SCHEMA.line + "\n")
        writer.writerow(COLUMNS)
        ordered = sorted(sources, key=lambda item: (item.kind, item.key))
        writer.writerows((item.kind, item.key, item.num_bytes, item.sha256) for item in ordered)


def read_sources(path: Path) -> list[Source]:
    """Read what `write_sources` wrote.

    Raises:
        DataError: the file is missing, damaged, another file, or of another version.
    """
    if not path.is_file():
        raise DataError(f"{path} is not there; run sync first")
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.reader(SCHEMA.check_lines(path, file.readlines()), delimiter="\t"))
        if not rows or tuple(rows[0]) != COLUMNS:
            raise DataError(f"{path} is not a source manifest; run sync again")
        return [Source(kind, key, int(num_bytes), sha256) for kind, key, num_bytes, sha256 in rows[1:]]
    except (ValueError, csv.Error) as err:
        raise DataError(f"{path} is damaged; {SCHEMA.remedy}") from err
