"""How far a training of a classifier of descriptors is: its parts, and how much of the work each of them is."""

from collections.abc import Callable, Mapping
from typing import Literal

Part = Literal["read", "codebooks", "encode", "machines", "judge"]  # in this order
Tell = Callable[[Part, float], None]  # is told a part, and the share of it that is done, from 0 to 1

READ_SEC = 55e-6  # a flow, of 96 x 128 pixels
ENCODE_SEC = 23e-6  # a flow in one view and channel
CODEBOOK_SEC = 2.7  # a channel, of as many descriptors as are taken at most
MACHINE_SEC = 0.041  # a class and channel, with a thousand rows; grows with their square
NEAR_MACHINE_SEC = 0.013  # the same where a machine of nearly the same rows is known


def in_silence(part: Part, share: float) -> None:
    """For those who need not know."""


def part_seconds(
    *,
    num_rows: int,
    num_flows: int,
    num_judged_flows: int,
    num_views: int,
    num_channels: int,
    num_classes: int,
    num_inner_folds: int,
) -> dict[Part, float]:
    """How long each part takes on one core of the machine where that was measured; elsewhere the ratios are much alike.

    Args:
        num_rows: clips or windows to train on.
        num_flows: of all of them together, those of overlapping windows more than once.
        num_judged_flows: likewise, of what is judged afterwards.
        num_views: 2 with mirror images, else 1.
    """
    encode_sec = READ_SEC + ENCODE_SEC * num_views * num_channels
    machines = num_channels * num_classes * (num_rows * num_views / 1000) ** 2
    return {
        "read": READ_SEC * num_flows,
        "codebooks": CODEBOOK_SEC * num_channels,
        "encode": encode_sec * num_flows,
        "machines": (MACHINE_SEC + NEAR_MACHINE_SEC * num_inner_folds) * machines,
        "judge": encode_sec * num_judged_flows,
    }


def share_done(seconds: Mapping[Part, float], part: Part, share: float) -> float:
    """Of all parts together when `share` of `part` is done, and all before it."""
    order = list(seconds)
    before = sum(seconds[name] for name in order[: order.index(part)])
    return (before + share * seconds[part]) / sum(seconds.values())
