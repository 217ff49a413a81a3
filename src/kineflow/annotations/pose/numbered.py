"""Files or images that are numbered like the frames of a video, in the order of its frames."""

import re
from collections.abc import Sequence

from kineflow.errors import AnnotationError

FIRST_NUMBERS = (0, 1)  # tools count frames from either


def in_frame_order(names: Sequence[str], pattern: re.Pattern[str], *, source: str) -> list[int]:
    """The places of `names` in the order of the frames: every frame once, none left out.

    Args:
        pattern: its first group is the frame's number, wherever it is found in a name.
        source: of the names, for errors.

    Raises:
        AnnotationError: a name has no number, or a frame is missing or there twice.
    """
    numbered = []
    for place, name in enumerate(names):
        match = pattern.search(name)
        if match is None:
            raise AnnotationError(f"{source}: {name} has no frame number at its end; name it as its tool does")
        numbered.append((int(match[1]), place))
    numbered.sort()
    first = numbered[0][0] if numbered else 0
    if first not in FIRST_NUMBERS:
        raise AnnotationError(f"{source}: begins with frame {first}; give every frame, counted from 0 or from 1")
    for wanted, (number, place) in enumerate(numbered, start=first):
        if number != wanted:
            wrong = f"frame {number} is there twice" if number < wanted else f"frame {wanted} is missing"
            raise AnnotationError(f"{source}: {wrong} (at {names[place]}); give every frame of the video once")
    return [place for _, place in numbered]
