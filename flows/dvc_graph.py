"""What DVC knows of the graph: the stages in order, and those that would run now."""

from dataclasses import dataclass
from pathlib import Path

from kineflow.errors import KineflowError, ParamsError, ServiceError


@dataclass(frozen=True)
class Graph:
    """The stages of dvc.yaml.

    Args:
        order: each after those it depends on, else in the order of the file; `foreach` items as `train@rgb`.
        depends_on: by stage, its direct dependencies.
        always: those that run every time (`always_changed`).
    """

    order: tuple[str, ...]
    depends_on: dict[str, frozenset[str]]
    always: frozenset[str]

    def with_descendants(self, stages: frozenset[str]) -> frozenset[str]:
        """`stages` and everything that depends on them."""
        found = set(stages)
        for stage in self.order:
            if self.depends_on[stage] & found:
                found.add(stage)
        return frozenset(found)

    def with_ancestors(self, stages: frozenset[str]) -> frozenset[str]:
        """`stages` and everything that they depend on."""
        found = set(stages)
        for stage in reversed(self.order):
            if stage in found:
                found |= self.depends_on[stage]
        return frozenset(found)


def read_graph(root: Path) -> Graph:
    """Read dvc.yaml of the workspace `root`.

    Raises:
        ParamsError: there is none, or DVC cannot read it.
    """
    import networkx  # type: ignore[import-untyped]
    from dvc.exceptions import DvcException  # type: ignore[import-untyped]
    from dvc.repo import Repo  # type: ignore[import-untyped]

    try:
        with Repo(str(root)) as repo:
            stages = [stage for stage in repo.index.stages if getattr(stage, "cmd", None)]
            position = {stage: index for index, stage in enumerate(stages)}
            graph = repo.index.graph.subgraph(stages).reverse()
            order = list(networkx.lexicographical_topological_sort(graph, key=position.__getitem__))
            return Graph(
                order=tuple(stage.addressing for stage in order),
                depends_on={s.addressing: frozenset(d.addressing for d in graph.predecessors(s)) for s in stages},
                always=frozenset(stage.addressing for stage in stages if stage.always_changed),
            )
    except DvcException as err:
        raise ParamsError(f"DVC cannot read the graph: {' '.join(str(err).split())}") from err


def changed_stages(root: Path) -> dict[str, str]:
    """The stages that `dvc repro` would run now, each with the reason in a phrase.

    Raises:
        ServiceError: another DVC process holds the workspace.
    """
    from dvc.exceptions import DvcException
    from dvc.lock import LockError  # type: ignore[import-untyped]
    from dvc.repo import Repo

    try:
        with Repo(str(root)) as repo:
            found = repo.status()
    except LockError as err:
        raise ServiceError("another DVC process holds this workspace; wait for it or end it, and run again") from err
    except DvcException as err:
        raise KineflowError(f"dvc status failed: {' '.join(str(err).split())}") from err
    return {stage.removeprefix("dvc.yaml:"): _phrase(changes) for stage, changes in found.items()}


def _phrase(changes: list[object]) -> str:
    parts: list[str] = []
    for change in changes:
        if isinstance(change, dict):
            for kind, items in change.items():
                names = ", ".join(items) if isinstance(items, dict) else str(items)
                parts.append(f"{kind} {names}")
        else:
            parts.append(str(change))
    return "; ".join(parts)
