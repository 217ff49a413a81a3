"""A digest of what the code does, by which a finished training is known to be still valid."""

import ast
import hashlib
from functools import cache
from importlib import import_module
from pathlib import Path


@cache
def code_digest(*packages: str) -> str:
    """SHA-256 (hex) of the syntax trees of the modules of `packages`, without docstrings, comments and layout.

    Args:
        packages: dotted names of packages or modules, each with all that is below it.
    """
    sha = hashlib.sha256()
    for name in sorted(packages):
        file = Path(import_module(name).__file__ or "")
        files = sorted(file.parent.rglob("*.py")) if file.name == "__init__.py" else [file]
        for path in files:
            tree = ast.parse(path.read_bytes())
            _drop_docstrings(tree)
            sha.update(f"{name}:{path.relative_to(file.parent)}\n{ast.dump(tree)}\n".encode())
    return sha.hexdigest()


def _drop_docstrings(tree: ast.AST) -> None:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = node.body[1:] if ast.get_docstring(node, clean=False) is not None else node.body
