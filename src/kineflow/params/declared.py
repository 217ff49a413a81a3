"""What a stage gets to see: the sections that it declares, and no others."""

from collections.abc import Sequence
from typing import Any, NoReturn

from kineflow.params.section import S, Section
from kineflow.params.whole import Params


def only(params: Params, keys: Sequence[str]) -> Params:
    """The same params with every section withheld that `keys` (as in a stage's `params:` list) do not name.

    Reading a withheld section is a bug in the stage, and raises AttributeError.
    """
    return _withhold(params, keys, prefix="")


def as_json(section: Section) -> dict[str, Any]:
    """A section as plain JSON values, named as in params.yaml."""
    return section.model_dump(mode="json", by_alias=True)


class Withheld:
    """Stands in for a section that the stage did not declare."""

    def __init__(self, key: str) -> None:
        self._key = key

    def _refuse(self, *_: object) -> NoReturn:
        raise AttributeError(f"params {self._key} is read but not declared in the stage's PARAMS")

    __getattr__ = __eq__ = __bool__ = __iter__ = __str__ = __format__ = __hash__ = _refuse


def _withhold(section: S, keys: Sequence[str], prefix: str) -> S:
    values: dict[str, Any] = {}
    for name, info in type(section).model_fields.items():
        key = prefix + (info.alias or name)
        value = getattr(section, name)
        inner = [k for k in keys if k.startswith(key + ".")]
        if key in keys:
            values[name] = value
        elif inner and isinstance(value, Section):
            values[name] = _withhold(value, inner, key + ".")
        else:
            values[name] = Withheld(key)
    return type(section).model_construct(**values)
