"""Read params.yaml, and say in one sentence what is wrong with it."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from kineflow.errors import ParamsError
from kineflow.params.whole import Params

UNION_TYPE = re.compile(r"(constrained-)?(int|float|str|bool)|literal\[.*\]")  # how pydantic names one in a location


def load_params(path: Path) -> Params:
    """Read and check `path`.

    Raises:
        ParamsError: the file is missing or no YAML, or a key is unknown, missing, of the wrong type or impossible.
    """
    try:
        text = path.read_text()
    except FileNotFoundError as err:
        raise ParamsError(f"{path} is not there; `kineflow use sample` writes one") from err
    except (IsADirectoryError, UnicodeDecodeError) as err:
        raise ParamsError(f"{path} is no text file in UTF-8; `kineflow use sample` writes one") from err
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as err:
        raise ParamsError(f"{path} is not valid YAML: {' '.join(str(err).split())}") from err
    return parse_params(values, where=str(path))


def parse_params(values: Any, *, where: str) -> Params:
    """Check a mapping as `load_params` does; `where` names it in errors."""
    try:
        return Params.model_validate(values)
    except ValidationError as err:
        raise ParamsError(f"{where}: {'; '.join(_explain_all(err.errors(), values))}") from err


def _explain_all(errors: Sequence[Any], values: Any) -> list[str]:
    """A sentence for each key: what was wrong with each of several types that it may have is one of them."""
    alternatives: dict[tuple[Any, ...], list[Any]] = {}
    for error in errors:
        loc = error["loc"]
        is_type = len(loc) > 1 and UNION_TYPE.fullmatch(str(loc[-1])) is not None and not _is_key(loc, values)
        alternatives.setdefault(loc[:-1] if is_type else loc, []).append(error)
    return [_explain(key, found) for key, found in alternatives.items()]


def _is_key(loc: Sequence[Any], values: Any) -> bool:
    """Whether `values` has a key there, though it may be named like a type."""
    for part in loc:
        if not isinstance(values, dict) or part not in values:
            return False
        values = values[part]
    return True


def _explain(loc: tuple[Any, ...], alternatives: Sequence[Any]) -> str:
    key, error = ".".join(map(str, loc)), alternatives[0]
    if error["type"] == "extra_forbidden":
        return f"{key}: unknown key"
    if error["type"] == "missing":
        return f"{key}: missing"
    first, *others = dict.fromkeys(map(_message, alternatives))
    message = ", or ".join([first, *(other.removeprefix("Input should be ") for other in others)])
    where = f"{key}: {message[0].lower()}{message[1:]}" if key else message
    given = error["input"]
    if given is None or isinstance(given, bool):
        return f"{where} (given: {str(given).lower().replace('none', 'null')})"
    if not isinstance(given, str | int | float):
        return where
    wants_number = any(each["type"] in ("int_type", "float_type") for each in alternatives)
    return f"{where} (given: {given!r}){_as_number(given) if wants_number else ''}"


def _message(error: Any) -> str:
    """What pydantic says, without the words that are about Python."""
    if error["type"] == "model_type":
        return "Input should be keys of its own, indented below it"
    return str(error["msg"]).removeprefix("Value error, ").replace(" after validation", "")


def _as_number(given: Any) -> str:
    """How to write what YAML took for text as the number that was meant; empty where none was."""
    try:
        float(given)
    except ValueError:
        return ""
    if not isinstance(given, str):
        return ""
    if isinstance(yaml.safe_load(given), int | float):
        return f"; write {given} without quotes"
    mantissa, has_exponent, exponent = given.lower().partition("e")
    if not has_exponent:
        return ""
    return (
        f"; YAML takes {given} for text, so write {mantissa if '.' in mantissa else mantissa + '.0'}e{int(exponent):+d}"
    )
