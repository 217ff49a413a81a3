import subprocess
import sys

import torch

from kineflow.models.torchvision_compat import declare_missing_torchvision_ops


def run_python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_torchvision_and_timm_import_after_the_declaration_in_a_fresh_process() -> None:
    code = (
        "from kineflow.models.torchvision_compat import declare_missing_torchvision_ops as declare\n"
        "first = declare(); second = declare()\n"
        "import torchvision, timm\n"
        "from torchvision.models.video import r3d_18\n"
        "third = declare()\n"
        "print(first == second == third)"
    )
    assert run_python(code) == "True"


def test_it_says_whether_the_compiled_operators_work() -> None:
    compiled = declare_missing_torchvision_ops()
    import torchvision

    boxes = torch.tensor([[0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 2.0, 1.9], [5.0, 5.0, 6.0, 6.0]])
    scores = torch.tensor([0.9, 0.8, 0.7])
    try:
        kept = torchvision.ops.nms(boxes, scores, 0.5).tolist()
    except (NotImplementedError, RuntimeError):
        kept = None
    assert (kept == [0, 2]) is compiled


def test_declaring_does_not_import_torchvision() -> None:
    code = (
        "import sys\n"
        "from kineflow.models.torchvision_compat import declare_missing_torchvision_ops as declare\n"
        "declare()\n"
        "print('torchvision' in sys.modules)"
    )
    assert run_python(code) == "False"
