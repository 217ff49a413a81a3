"""A system of a thesis as data: what it published, and which model of ours it is."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from kineflow.models.specs import OptionValue, Task

Check = Literal["yes", "exempt", ""]


@dataclass(frozen=True)
class ThesisRow:
    """One system of a thesis.

    Attributes:
        system: what the thesis compares, in the words of our table of all of them.
        model: its name in the registry.
        input_CTHW: one clip.
        num_classes: of the data set.
        params_M: published, in millions; None where nothing is.
        macs_G: published, in billions, for one clip, or for one frame where `per_frame`; None where nothing is.
        check: `yes`: ours must agree; `exempt`: the text does not fix the system; empty: nothing is published.
        options: that differ from the model's defaults.
        note: why ours may differ.
        task: `clip` or `frame`.
        per_frame: the thesis states the cost of one frame.
    """

    system: str
    model: str
    input_CTHW: tuple[int, int, int, int]
    num_classes: int = 51
    params_M: float | None = None
    macs_G: float | None = None
    check: Check = ""
    options: Mapping[str, OptionValue] = field(default_factory=dict)
    note: str = ""
    task: Task = "clip"
    per_frame: bool = False
