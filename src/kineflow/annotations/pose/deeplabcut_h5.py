"""Keypoints from DeepLabCut as HDF5: a pandas frame under `df_with_missing`, in its table or its fixed layout.

pandas keeps the names of the columns of a table layout as a pickle. It is read by an unpickler that knows lists, tuples
and texts only, so a file from a stranger can run nothing; this is why pandas does not read it here.

Source: DeepLabCut's documentation, "The H5 and CSV files"; the layouts are those of pandas `DataFrame.to_hdf`.
"""

import io
import pickle
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from kineflow.annotations.pose.columns import as_track
from kineflow.annotations.pose.track import PoseTrack
from kineflow.errors import AnnotationError

if TYPE_CHECKING:
    import h5py

KEY = "df_with_missing"


def read(path: Path) -> PoseTrack:
    """The track of one video.

    Raises:
        AnnotationError: the file is missing, no HDF5, cut off, or holds no such frame.
    """
    import h5py

    if not path.is_file():
        raise AnnotationError(f"{path}: the file of keypoints is not there; correct its name")
    try:
        with h5py.File(path, "r") as file:
            group = file.get(KEY)
            if not isinstance(group, h5py.Group):
                raise AnnotationError(f"{path.name}: no {KEY}; take the .h5 that analyze_videos wrote")
            index, columns, values_FK = _table(group) if "table" in group else _fixed(group)
    except (OSError, KeyError, ValueError, TypeError, IndexError, EOFError, pickle.UnpicklingError) as err:
        raise AnnotationError(f"{path.name}: no readable HDF5 of DeepLabCut ({err}); take the original file") from err
    if index.tolist() != list(range(len(index))):
        raise AnnotationError(f"{path.name}: frames are not 0 to {len(index) - 1}; take the file of a whole video")
    return as_track(columns, values_FK, source=f"{path.name}: {KEY}")


def _table(group: "h5py.Group") -> tuple[np.ndarray, list[tuple[str, ...]], np.ndarray]:
    names = _plain(group["table"].attrs["values_block_0_kind"])
    rows = group["table"][:]
    blocks = [name for name in rows.dtype.names if name.startswith("values_block")]
    if blocks != ["values_block_0"]:
        raise ValueError(f"{len(blocks)} blocks of values where one was expected")
    return rows["index"], [tuple(name) for name in names], rows["values_block_0"].astype(np.float64)


def _fixed(group: "h5py.Group") -> tuple[np.ndarray, list[tuple[str, ...]], np.ndarray]:
    if group.attrs["nblocks"] != 1:
        raise ValueError(f"{group.attrs['nblocks']} blocks of values where one was expected")
    levels = []
    for level in range(int(group.attrs["axis0_nlevels"])):
        names, codes = group[f"block0_items_level{level}"][:], group[f"block0_items_label{level}"][:]
        levels.append([names[code].decode("utf-8") for code in codes])
    return group["axis1"][:], list(zip(*levels, strict=True)), group["block0_values"][:].astype(np.float64)


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> NoReturn:
        raise pickle.UnpicklingError(f"it names {module}.{name}, and only plain lists are read")


def _plain(pickled: Any) -> Any:
    """Lists, tuples, numbers and texts out of a pickle; anything else is refused."""
    data = pickled.encode("latin-1") if isinstance(pickled, str) else bytes(pickled)
    return _PlainUnpickler(io.BytesIO(data), encoding="utf-8").load()
