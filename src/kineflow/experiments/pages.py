"""HTML pages of searches and comparisons, in the style of the report."""

import math
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from kineflow.atomic import write_text
from kineflow.errors import ParamsError
from kineflow.evaluation.report import shown_score


def render(template: str, context: Mapping[str, Any]) -> str:
    """A page that needs nothing else; its parts are escaped but for the SVG of our own plots."""
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=ChoiceLoader([PackageLoader("kineflow.experiments"), PackageLoader("kineflow.evaluation")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(score=shown_score, svg=Markup, value=shown_value, duration=shown_duration)
    environment.filters.update(macs=shown_macs, ms=shown_ms)
    return environment.get_template(template).render(**context)


def made_folder(folder: Path) -> Path:
    """The folder, made if need be: asked for before hours of training, not after.

    Raises:
        ParamsError: it cannot be made or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            return folder
    except OSError as err:
        raise ParamsError(f"--out {folder}: {err.strerror or err}; name a folder that can be written") from err


def write_page(path: Path, content: str) -> None:
    """Write a page, whole or not at all."""
    write_text(path, content)


def shown_value(value: Any) -> str:
    """A value of params for people."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    return f"{value:g}" if isinstance(value, int | float) else str(value)


def shown_duration(seconds: float) -> str:
    """A duration in one unit: 0.81 s, 12.0 s, 12.5 min, 3.5 h; a dash where it is not known."""
    if not math.isfinite(seconds):
        return "–"
    if seconds >= 3600:
        return f"{seconds / 3600:.1f} h"
    if seconds >= 100:
        return f"{seconds / 60:.1f} min"
    return f"{seconds:.1f} s" if seconds >= 10 else f"{seconds:.2f} s"


def shown_macs(macs: float) -> str:
    """Multiply-accumulates: 40.7 G, 29.4 M."""
    return f"{macs / 1e9:.1f} G" if macs >= 1e9 else f"{macs / 1e6:.1f} M"


def shown_ms(milliseconds: float) -> str:
    """The time of a clip, without digits that the next run would change: 0.42, 6.9, 128."""
    digits = 2 if milliseconds < 1 else 1 if milliseconds < 100 else 0
    return f"{milliseconds:.{digits}f}"
