"""Read params.yaml, and say in one sentence what is wrong with it."""

from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from kineflow.errors import ParamsError
from kineflow.params.whole import Params


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
        raise ParamsError(f"{where}: {'; '.join(_explain(error) for error in err.errors())}") from err


def _explain(error: Any) -> str:
    key = ".".join(str(part) for part in error["loc"]) or "params"
    if error["type"] == "extra_forbidden":
        return f"{key}: unknown key"
    if error["type"] == "missing":
        return f"{key}: missing"
    message = str(error["msg"]).removeprefix("Value error, ")
    given = error["input"]
    shown = f" (given: {given!r})" if isinstance(given, str | int | float | bool) else ""
    return f"{key}: {message[0].lower()}{message[1:]}{shown}"
