"""Make torchvision importable beside a CPU build of torch.

The torchvision wheel of the package index is linked to CUDA, so that beside a CPU torch its compiled
extension does not load. torchvision tolerates that, then registers fake kernels for two of the extension's
operators all the same, and its import ends in `operator torchvision::nms does not exist`. Declaring the two
by name beforehand is enough: all that torchvision writes in Python (models, transforms) then works, and so
does timm.
"""

import importlib.util
from pathlib import Path

import torch

_DECLARATIONS = {
    "nms": "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}
# A torch library takes its declarations back when it is collected.
_declared: list[torch.library.Library] = []


def declare_missing_torchvision_ops() -> bool:
    """Declare the operators that torchvision's import asks for, where its compiled extension does not load.

    Call it before the first import of torchvision, timm or torchmetrics in a process; more calls do nothing.

    Returns:
        True where the compiled operators (`nms`, image files) work; False where they are only declared, or
        torchvision is not installed.
    """
    if _declared:
        return False
    folder = _torchvision_folder()
    if folder is None:
        return False
    if any(_loads(extension) for extension in sorted(folder.glob("_C.*"))):
        return True
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name, declaration in _DECLARATIONS.items():
        if not hasattr(torch.ops.torchvision, name):
            library.define(declaration)
    _declared.append(library)
    return False


def _torchvision_folder() -> Path | None:
    spec = importlib.util.find_spec("torchvision")  # finds without importing
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(spec.submodule_search_locations[0])


def _loads(extension: Path) -> bool:
    try:
        torch.ops.load_library(str(extension))
    except (ImportError, OSError):
        return False
    return True
