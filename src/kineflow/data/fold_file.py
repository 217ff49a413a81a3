"""Folds composed by hand: `data/folds.csv`, columns group, fold and, if wanted, role (`development` or `test`)."""

from pathlib import Path

from kineflow.annotations.delimited import Row, read_rows
from kineflow.errors import DataError


def read_fold_file(path: Path, *, groups: set[str]) -> tuple[dict[str, int], set[str]]:
    """The validation fold of each development group, and the groups held out for test (their fold is empty or -1).

    Args:
        groups: that have clips; each needs one row.

    Raises:
        AnnotationError: it is no UTF-8 text of comma, semicolon or tab separated rows.
        DataError: the file is missing, or a row is wrong, repeated, of an unknown group, or missing; folds that are
            not numbered from 0 without a gap, or fewer than two.
    """
    if not path.is_file():
        raise DataError(f"{path} is not there; splits.kind: file wants it, with the columns group,fold,role")
    folds: dict[str, int] = {}
    test: set[str] = set()
    rows = read_rows(path)
    header = next(rows, Row(f"{path.name}:1", ()))
    if header.cells not in (("group", "fold"), ("group", "fold", "role")):
        raise DataError(f"{header.source}: {','.join(header.cells)!r} is not group,fold or group,fold,role")
    for line in rows:
        row, where = line.cells, line.source
        group, fold, role = [*row, "development"][:3] if len(row) == len(header.cells) else ("", "", "")
        role = role or "development"
        if group not in groups:
            raise DataError(f"{where}: {','.join(row)!r} names no group with clips; correct or remove it")
        if group in folds or group in test:
            raise DataError(f"{where}: group {group!r} has a row above; keep one")
        if role == "test" and fold in ("", "-1"):
            test.add(group)
        elif role == "development" and fold.isascii() and fold.isdigit() and len(fold) < 5:
            folds[group] = int(fold)
        else:
            raise DataError(
                f"{where}: {','.join(row)!r} needs a fold from 0 and the role development (or none), "
                "or no fold and the role test"
            )
    missing = sorted(groups - set(folds) - test)
    if missing:
        raise DataError(f"{path}: group {missing[0]!r} has clips and no row; add one")
    numbers = sorted(set(folds.values()))
    if len(numbers) < 2 or numbers != list(range(len(numbers))):
        raise DataError(f"{path}: its folds are {', '.join(map(str, numbers)) or 'none'}; number at least two from 0")
    return folds, test
