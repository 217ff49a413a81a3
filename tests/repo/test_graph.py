"""dvc.yaml against the code: every stage declares the params it receives and the code that it runs."""

import ast
import importlib
from pathlib import Path

import pytest
import yaml

from kineflow.stages import STAGES

REPOSITORY = Path(__file__).resolve().parents[2]
SOURCE = REPOSITORY / "src"
# Cannot change a result: reading params, running the stage, naming paths, moving files, working in parallel,
# refusing versions, telling how far it is.
PLUMBING = {
    "kineflow/__init__.py",
    "kineflow/atomic.py",
    "kineflow/errors.py",
    "kineflow/schema.py",
    "kineflow/store.py",
    "kineflow/stages/__init__.py",
    "kineflow/stages/paths.py",
    "kineflow/stages/stage.py",
}
PLUMBING_PACKAGES = ("kineflow/params/", "kineflow/parallel/", "kineflow/progress/", "kineflow/storage/")


def graph() -> dict[str, dict]:
    """Each stage of dvc.yaml by name, with a `do:` of a foreach taken out."""
    stages = yaml.safe_load((REPOSITORY / "dvc.yaml").read_text())["stages"]
    return {name: stage.get("do", stage) for name, stage in stages.items()}


def imported_files(file: Path, seen: set[Path]) -> set[Path]:
    """The files of kineflow that importing `file` may run, those imported inside functions included."""
    if file in seen:
        return seen
    seen.add(file)
    for node in ast.walk(ast.parse(file.read_text())):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in names:
            if name.split(".")[0] != "kineflow":
                continue
            path = SOURCE / name.replace(".", "/")
            for candidate in (path.with_suffix(".py"), path / "__init__.py"):
                if candidate.is_file():
                    imported_files(candidate, seen)
    return seen


def test_the_graph_has_the_stages_of_the_package():
    assert tuple(graph()) == STAGES


@pytest.mark.parametrize("stage", STAGES)
def test_params_of_the_graph_are_those_the_stage_receives(stage):
    module = importlib.import_module(f"kineflow.stages.{stage}")
    declared = [str(key).replace("${key}", "{stream}") for key in graph()[stage].get("params", [])]
    assert sorted(declared) == sorted(module.PARAMS)


@pytest.mark.parametrize("stage", [stage for stage in STAGES if stage != "sync"])
def test_every_imported_file_is_a_dependency(stage):
    deps = [Path(dep) for dep in graph()[stage]["deps"]]
    files = imported_files(SOURCE / "kineflow" / "stages" / f"{stage}.py", set())
    relative = {file.relative_to(SOURCE).as_posix() for file in files} - PLUMBING
    relative = {name for name in relative if not name.startswith(PLUMBING_PACKAGES)}
    missing = sorted(name for name in relative if not any((Path("src") / name).is_relative_to(dep) for dep in deps))
    assert not missing, f"add to the deps of {stage} in dvc.yaml: {missing}"


def test_code_folders_do_not_count_their_caches():
    assert "__pycache__" in (REPOSITORY / ".dvcignore").read_text()
