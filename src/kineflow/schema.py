"""The version that every file says it has: one of before is migrated or refused, one of after is refused, by name."""

import re
from dataclasses import dataclass
from pathlib import Path

from kineflow.errors import DataError

LINE = re.compile(r"# kineflow (\w+) (\d+)")


@dataclass(frozen=True)
class FileSchema:
    """A kind of file and the version that is written.

    Args:
        name: what files of this kind call themselves.
        version: rises with every change of their content's meaning.
        remedy: what to do about a file that is too old to be read.
        oldest: the first version that is still read; that of today if None.
    """

    name: str
    version: int
    remedy: str
    oldest: int | None = None

    def check(self, where: object, version: object) -> int:
        """The version of the file `where`.

        Raises:
            DataError: it is too old, or of a newer Kineflow, or none.
        """
        if not isinstance(version, int) or isinstance(version, bool):
            raise DataError(f"{where}: {self.name} version {version!r} is none; {self.remedy}")
        if version > self.version:
            raise DataError(
                f"{where}: {self.name} version {version} was written by a newer Kineflow, this one reads up to "
                f"{self.version}; upgrade it"
            )
        if version < (self.version if self.oldest is None else self.oldest):
            raise DataError(
                f"{where}: {self.name} version {version} is too old, this Kineflow reads {self.version}; {self.remedy}"
            )
        return version

    @property
    def line(self) -> str:
        """The first line of a text file of today's version."""
        return f"# kineflow {self.name} {self.version}"

    def check_lines(self, path: Path, lines: list[str]) -> list[str]:
        """The lines of a text file without the one that says its version, which version 1 did not have.

        Raises:
            DataError: it is of another kind, or its version is not read.
        """
        found = LINE.fullmatch(lines[0].rstrip("\n")) if lines else None
        if found is None:
            self.check(path, 1)
            return lines
        if found[1] != self.name:
            raise DataError(f"{path}: holds {found[1]}, not {self.name}; {self.remedy}")
        self.check(path, int(found[2]))
        return lines[1:]
