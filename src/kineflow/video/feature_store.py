"""The features of one video's frames in one file: a `.npy` of shape (N, D), row i of extracted frame i.

The file's dtype says the precision: `<f4`, `<f2`, or for bf16, which numpy does not have, raw items of two bytes
(`|V2`, as ml_dtypes saves them too). Nothing takes those for numbers by mistake; `FeatureReader` widens them.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from kineflow.errors import DataError

Precision = Literal["fp32", "fp16", "bf16"]
STORED_AS: Mapping[Precision, np.dtype] = {"fp32": np.dtype("<f4"), "fp16": np.dtype("<f2"), "bf16": np.dtype("V2")}


def write_features(
    path: Path, batches: Iterable[NDArray[np.float32]], *, num_frames: int, precision: Precision
) -> None:
    """Write the features of a video batch by batch, each value rounded to the nearest of `precision`, ties to even.

    Args:
        batches: (T, D) each, `num_frames` rows in all.

    Raises:
        DataError: a feature is larger than `precision` can hold.
    """
    with path.open("wb") as file:
        for number, features_TD in enumerate(batches):
            if number == 0:
                descr = np.lib.format.dtype_to_descr(STORED_AS[precision])
                shape = (num_frames, features_TD.shape[1])
                np.lib.format.write_array_header_1_0(file, {"descr": descr, "fortran_order": False, "shape": shape})
            file.write(_rounded(features_TD, precision))


def _rounded(features_TD: NDArray[np.float32], precision: Precision) -> bytes:
    import torch

    dtype = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[precision]
    rounded_TD = torch.from_numpy(np.ascontiguousarray(features_TD, "<f4")).to(dtype)
    if rounded_TD.isinf().any():
        wider = "fp32" if precision == "bf16" else "bf16 or fp32"
        raise DataError(
            f"features reach {np.abs(features_TD).max():.3g}, and {precision} holds up to "
            f"{torch.finfo(dtype).max:.3g}; set embed.precision to {wider}"
        )
    return rounded_TD.view(torch.uint8).numpy().tobytes()


class FeatureReader:
    """Reads the features of one video, of whatever precision, as float32; cheap to open, nothing is read beforehand.

    Args:
        path: of a file that `write_features` wrote.

    Attributes:
        num_features: values of a frame.

    Raises:
        DataError: the file is missing, cut off or of another kind.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._stored_ND = np.asarray(np.load(path, mmap_mode="r"))  # still mapped, and faster to index
        except (OSError, ValueError) as err:
            raise DataError(f"{path}: its features cannot be read ({err}); make it again") from err
        if self._stored_ND.dtype not in STORED_AS.values() or self._stored_ND.ndim != 2:
            raise DataError(f"{path}: holds no features of frames; make it again")
        self.num_features = self._stored_ND.shape[1]

    def __len__(self) -> int:
        return len(self._stored_ND)

    def read(self, frames: Sequence[int] | NDArray[np.integer]) -> NDArray[np.float32]:
        """Features of some frames, (T, D), in the order of `frames`; these may repeat.

        Raises:
            IndexError: there is no such frame.
        """
        stored_TD = self._stored_ND[np.asarray(frames)]
        if stored_TD.dtype == STORED_AS["bf16"]:  # the upper half of a float32
            return (stored_TD.view("<u2").astype("<u4") << 16).view("<f4")
        return stored_TD.astype(np.float32, copy=False)
