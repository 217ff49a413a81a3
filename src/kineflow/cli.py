"""The command line: parse, load params, call. Everything heavy is imported by the command that needs it."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from kineflow import __version__
from kineflow.errors import KineflowError

QUIET = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "DVC_NO_ANALYTICS": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "GX_ANALYTICS_ENABLED": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}

app = typer.Typer(
    name="kineflow",
    help="Train video behaviour and action classifiers, and keep them trained.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
services = typer.Typer(help="Start, show and stop the embedded services.", no_args_is_help=True)
app.add_typer(services, name="services")


def main() -> None:
    """Run the command line; errors made on purpose end in one line and their exit code."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    try:
        app()
    except KineflowError as err:
        print(f"kineflow: error: {' '.join(str(err).split())}", file=sys.stderr)
        sys.exit(err.exit_code)


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
    stream: Annotated[str | None, typer.Option(help="rgb or flow, for the stage train")] = None,
) -> None:
    """Run one stage in this workspace, as DVC does.

    Example: kineflow stage train --stream flow
    """
    from kineflow.stages.stage import main as run_stage

    sys.exit(run_stage(name, stream))


@app.command()
def sample(
    out: Annotated[Path | None, typer.Argument(help="folder to make; default: the params' sample.folder")] = None,
    params: Annotated[Path, typer.Option(help="params file whose section `sample` to render")] = Path("params.yaml"),
) -> None:
    """Render the sample data set: short clips and long videos of an animal in an arena, with BORIS annotations.

    Example: kineflow sample data/sample
    """
    from kineflow.errors import ParamsError
    from kineflow.params import as_json, load_params
    from kineflow.sample.render import render_sample
    from kineflow.sample.spec import SampleSpec

    section = load_params(params).sample
    if section is None:
        raise ParamsError(f"{params}: sample is null; `kineflow use sample` writes params with a sample")
    values = as_json(section)
    folder = Path(values.pop("folder"))
    out = out or folder
    render_sample(out, SampleSpec(**values))
    print(f"{out}: clips.csv and videos.csv annotate the videos beside them")
