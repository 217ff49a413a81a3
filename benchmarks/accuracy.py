"""Errors of ours beside those of a reference on the same data."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ErrorComparison:
    """Two errors; the smaller is the better.

    Args:
        name: what was compared, as it is printed.
        ours, reference: in `unit`.
        unit: of both.
    """

    name: str
    ours: float
    reference: float
    unit: str

    @property
    def ratio(self) -> float:
        """Reference error by ours: 2.00 is half the error."""
        return self.reference / self.ours

    @property
    def cells(self) -> tuple[str, ...]:
        """What, the ratio, both errors; errors have no rounds."""
        return self.name, f"{self.ratio:.2f}", f"{self.ours:.3f} {self.unit}", f"{self.reference:.3f} {self.unit}", ""

    def __str__(self) -> str:
        name, ratio, ours, reference, _ = self.cells
        return f"{name:<58} {ratio:>6}x   ours {ours}, reference {reference}"
