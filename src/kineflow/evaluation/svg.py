"""SVG as text: no script, no network, the same input gives the same bytes."""

from collections.abc import Sequence
from html import escape


def svg(width: float, height: float, parts: Sequence[str], title: str) -> str:
    """A picture of these parts; its colours are CSS classes of the page that it stands in."""
    size = f'viewBox="0 0 {number(width)} {number(height)}" width="{number(width)}" height="{number(height)}"'
    return f'<svg class="plot" {size} role="img" aria-label="{text(title)}">{"".join(parts)}</svg>'


def number(value: float) -> str:
    """A length in as few digits as can be seen."""
    return f"{value:.2f}".rstrip("0").rstrip(".")


def text(content: str) -> str:
    """Text that may hold anything, escaped."""
    return escape(content, quote=True)
