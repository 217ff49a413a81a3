"""`kineflow use`: write a shipped preset as params.yaml."""

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from kineflow.atomic import write_text
from kineflow.errors import ParamsError
from kineflow.params import parse_params
from kineflow.setup.out_path import require_place
from kineflow.setup.yaml_text import change_values

SPACES = "search"  # in the folder of the presets


def preset_folder() -> Path:
    """The folder of the shipped presets: that of the workspace, else that of the repository of this package.

    Raises:
        ParamsError: there is none.
    """
    for folder in (Path("params"), Path(__file__).resolve().parents[3] / "params"):
        if any(folder.glob("*.yaml")):
            return folder
    raise ParamsError("the folder params/ with the presets is not here; change to the root of the repository")


def preset_names() -> tuple[str, ...]:
    """Names of the shipped presets, sorted."""
    return tuple(sorted(path.stem for path in preset_folder().glob("*.yaml")))


def preset_text(name: str) -> str:
    """A preset as shipped; small-data is small_data.

    Raises:
        ParamsError: there is no such preset; the message lists the known, nearest first.
    """
    names, name = preset_names(), name.replace("-", "_")
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1, cutoff=0.4)
        ordered = near + [known for known in names if known not in near]
        raise ParamsError(f"there is no preset {name!r}; known: {', '.join(ordered)}")
    return (preset_folder() / f"{name}.yaml").read_text()


def space_values(name: str) -> dict[str, Any]:
    """The section `search` of a shipped space (`params/search/`), or of a YAML file.

    Raises:
        ParamsError: there is no such space, or it is something else.
    """
    folder = preset_folder() / SPACES
    path = folder / f"{name}.yaml" if (folder / f"{name}.yaml").is_file() else Path(name)
    if not path.is_file():
        known = ", ".join(sorted(found.stem for found in folder.glob("*.yaml")))
        raise ParamsError(f"there is no space {name!r}; known: {known}, or name a YAML file")
    try:
        values = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as err:
        raise ParamsError(f"{path} cannot be read as YAML: {' '.join(str(err).split())}") from err
    if not isinstance(values, dict) or not isinstance(values.get("search"), dict):
        raise ParamsError(f"{path}: a space is a YAML file with a section search, as in params.yaml")
    found: dict[str, Any] = values["search"]
    return found


def write_changes(path: Path, changes: Mapping[str, Any]) -> None:
    """Give keys of the params file `path` other values, comments kept.

    Raises:
        ParamsError: a key is not in the file, or a value is impossible.
    """
    text = change_values(path.read_text(), changes, where=str(path))
    parse_params(yaml.safe_load(text), where=str(path))
    write_params(path, text, force=True)


def use_preset(name: str, out: Path, overrides: Mapping[str, str], *, force: bool = False) -> Path:
    """Write the preset `name` to `out`, comments kept.

    Args:
        name: of a preset, for example `sample`.
        out: usually `params.yaml`. A preset that was not touched since it was written is replaced freely.
        overrides: values by key, such as `{"streams.rgb.epochs": "5"}`, each read as YAML.
        force: replace whatever is there.

    Returns:
        `out`.

    Raises:
        ParamsError: no such preset, key or value; or `out` exists with changes of the user.
    """
    require_place(out)
    values = {key: parse_value(key, value) for key, value in overrides.items()}
    text = change_values(preset_text(name), values, where=f"preset {name}")
    parse_params(yaml.safe_load(text), where=f"preset {name}")
    write_params(out, text, force=force)
    return out


def write_params(out: Path, text: str, *, force: bool) -> None:
    """Write params, whole or not at all.

    Raises:
        ParamsError: `out` exists, is no untouched preset, and `force` is not given.
    """
    if out.exists() and not force and out.read_text() not in {preset_text(name) for name in preset_names()}:
        raise ParamsError(f"{out} exists and would be lost; name another file with --out, or pass --force")
    write_text(out, text)


def parse_value(key: str, value: str) -> Any:
    """The value of `--set KEY=VALUE`, read as YAML."""
    try:
        return yaml.safe_load(value)
    except yaml.YAMLError as err:
        raise ParamsError(f"--set {key}={value}: not a YAML value; quote it") from err
