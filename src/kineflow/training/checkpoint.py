"""The state of a training between two epochs, on disk: whole or not at all."""

import pickle
from pathlib import Path
from typing import Any

import torch

from kineflow.atomic import replacing

SCHEMA_VERSION = 1


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write `state` (tensors, numbers, strings, lists and dicts of them)."""
    with replacing(path) as partial:
        save_tensors(partial, state | {"schema_version": SCHEMA_VERSION})


def save_tensors(path: Path, value: object) -> None:
    """`torch.save`, to the same bytes whatever the name of the file.

    Raises:
        OSError: as the disk gave it, which torch hides behind a RuntimeError.
    """
    with path.open("wb") as file:
        try:
            torch.save(value, file)
        except RuntimeError as err:
            if isinstance(err.__context__, OSError):
                raise err.__context__ from err
            raise


def load_checkpoint(path: Path) -> dict[str, Any] | None:
    """The state at `path`; None where there is none, or one that is damaged or of another version."""
    if not path.is_file():
        return None
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, EOFError, RuntimeError, ValueError, KeyError):
        return None  # a power cut: training from the start costs time and changes nothing
    return state if state.get("schema_version") == SCHEMA_VERSION else None
