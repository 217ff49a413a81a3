"""Commands that start, show and stop the embedded services."""

from typing import Annotated

import typer

commands = typer.Typer(help="Start, show and stop the embedded services.", no_args_is_help=True)


@commands.command("up")
def up(
    names: Annotated[list[str] | None, typer.Argument(help="s3, prefect, mlflow; default: s3")] = None,
) -> None:
    """Start what does not run yet, each on 127.0.0.1.

    Example: kineflow services up s3 mlflow
    """
    from kineflow.services import table, up

    print(table(up(tuple(names or ("s3",)))))


@commands.command("status")
def status() -> None:
    """Show what runs, and where.

    Example: kineflow services status
    """
    from kineflow.services import status, table

    print(table(status()))


@commands.command("down")
def down() -> None:
    """Stop what `up` started.

    Example: kineflow services down
    """
    from kineflow.services import down

    stopped = down()
    print(f"stopped: {', '.join(stopped)}" if stopped else "nothing was running")
