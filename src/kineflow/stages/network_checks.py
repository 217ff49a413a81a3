"""What a stream's params ask of its network and it cannot be: said by the key, before anything is trained."""

from collections.abc import Iterator
from contextlib import contextmanager

from kineflow.errors import ParamsError
from kineflow.models.registry import check_model, check_padded
from kineflow.models.specs import Task
from kineflow.params import StreamParams


def check_network(config: StreamParams, *, task: Task, key: str) -> None:
    """Refuse a model that there is not, that does not serve the task, or has no such options.

    Args:
        key: of the stream, such as `streams.rgb`.

    Raises:
        ParamsError: beginning with the key to change.
    """
    with of_key(f"{key}.model"):
        check_model(config.model, task=task, options={})
    with of_key(f"{key}.options"):
        check_model(config.model, task=task, options=config.options)
    if config.short_clips == "pad":
        with of_key(f"{key}.short_clips"):
            check_padded(config.model)


@contextmanager
def of_key(key: str) -> Iterator[None]:
    """Say of which key of params it is that the block refuses something."""
    try:
        yield
    except ParamsError as err:
        raise ParamsError(f"{key}: {err}") from err
