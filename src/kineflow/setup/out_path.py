"""Whether a file can be written where the user wants it, asked before anything costs time."""

import os
from pathlib import Path

from kineflow.errors import ParamsError


def require_place(out: Path) -> None:
    """Make sure that `out` can be a file there; its folders may have to be made, and are not made here.

    Raises:
        ParamsError: it is a folder, a file is where a folder should be, or nothing may be written there.
    """
    if out.is_dir():
        raise ParamsError(f"{out} is a folder; name a file in it by --out")
    above = next(folder for folder in out.absolute().parents if os.path.lexists(folder))
    if not above.is_dir():
        raise ParamsError(f"{out} cannot be written, for {above} is no folder; name another --out")
    if not os.access(above, os.W_OK | os.X_OK):
        raise ParamsError(f"{out} cannot be written, for {above} is not yours to write to; name another --out")
