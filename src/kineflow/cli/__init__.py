"""The command line: parse, load params, call. Everything heavy is imported by the command that needs it."""

import os
import sys
from typing import Annotated

import typer

from kineflow import __version__
from kineflow.cli import dataset, learning, releases, services
from kineflow.errors import INTERRUPTED, KineflowError

QUIET = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "DVC_NO_ANALYTICS": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "GX_ANALYTICS_ENABLED": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
GO_ON = (["stage"], ["search"], ["compare"])  # commands that, started anew, do not begin anew

app = typer.Typer(
    name="kineflow",
    help="Train video behaviour and action classifiers, and keep them trained.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def main() -> None:
    """Run the command line; errors made on purpose end in one line and their exit code."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    try:
        app()
    except KineflowError as err:
        print(f"kineflow: error: {' '.join(str(err).split())}", file=sys.stderr)
        sys.exit(err.exit_code)
    except SystemExit as err:
        if err.code == INTERRUPTED:  # as typer ends on Ctrl-C
            goes_on = "; the same command goes on where it was" if sys.argv[1:2] in GO_ON else ""
            print(f"kineflow: interrupted{goes_on}", file=sys.stderr)
        raise


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"kineflow {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[bool, typer.Option("--version", callback=_print_version, is_eager=True)] = False,
) -> None:
    pass


@app.command()
def stage(
    name: Annotated[str, typer.Argument(help="sync, ingest, ... as in dvc.yaml")],
    stream: Annotated[str | None, typer.Option(help="rgb, flow, pose or fv, for the stage train")] = None,
) -> None:
    """Run one stage in this workspace, as DVC does.

    Example: kineflow stage train --stream flow
    """
    from kineflow.stages.stage import main as run_stage

    sys.exit(run_stage(name, stream))


for group in (dataset, learning, releases):
    app.add_typer(group.commands)
app.add_typer(services.commands, name="services")
