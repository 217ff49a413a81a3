"""Great Expectations in half the time: its import is most of what a gate costs.

Half of it goes to a plotting and a statistics library that one expectation uses, which no rule of ours is, and to the
garbage collector, which looks through hundreds of thousands of new objects over and over and finds nothing.
"""

import gc
import importlib
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

DEFERRED = ("altair", "scipy.stats")


def import_great_expectations() -> Any:
    """The package, without its analytics."""
    os.environ["GX_ANALYTICS_ENABLED"] = "false"  # read on import
    with warnings.catch_warnings(), _deferring(DEFERRED), _without_collector():
        warnings.simplefilter("ignore")  # of optional cloud clients that it looks for
        import great_expectations
    return great_expectations


class _Deferred(ModuleType):
    """Stands for a module that is imported when something in it is asked for.

    `importlib.util.LazyLoader` does not serve: up to Python 3.11 the statement `import` itself asks for something.
    """

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(f"module {self.__name__!r} is not imported yet, and has no {name!r}")
        return getattr(importlib.import_module(self.__name__), name)


@contextmanager
def _deferring(names: tuple[str, ...]) -> Iterator[None]:
    """Whoever imports these modules inside the block gets them deferred; outside nobody sees a difference."""
    absent = [name for name in names if name not in sys.modules]
    sys.modules.update({name: _Deferred(name) for name in absent})
    try:
        yield
    finally:
        for name in absent:
            if isinstance(sys.modules.get(name), _Deferred):
                del sys.modules[name]


@contextmanager
def _without_collector() -> Iterator[None]:
    """No garbage collection inside the block; what was made there is not looked through later either."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_enabled:
            gc.enable()
