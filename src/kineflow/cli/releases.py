"""Commands on the registry: which version is the champion, and what it was made of."""

from pathlib import Path
from typing import Annotated

import typer

commands = typer.Typer()


@commands.command()
def promote(
    name: Annotated[str, typer.Argument(help="registered model, as in params register.model_name")],
    version: Annotated[str, typer.Argument(help="its version, or challenger")],
    reason: Annotated[str, typer.Option(help="why; it is kept in the history")],
) -> None:
    """Make a version the champion by hand, whatever the rule in params.yaml says.

    Example: kineflow promote kineflow-sample 7 --reason "approved after watching the new cages"
    """
    from kineflow.registry.promote import promote_by_hand

    entry = promote_by_hand(name, version, reason=reason)
    print(f"{name}: version {entry.version} is the champion, after {entry.previous or 'none'} ({entry.reason})")


@commands.command()
def lineage(
    version: Annotated[str | None, typer.Argument(help="NAME@ALIAS or NAME@VERSION of the registry")] = None,
    video: Annotated[Path | None, typer.Option(help="a video file: list the versions trained on it")] = None,
) -> None:
    """Show what a version was made of, or which versions were trained on a video.

    Example: kineflow lineage kineflow-sample@champion
    Example: kineflow lineage --video data/sample/clips/arena0_clip000.mp4
    """
    import json

    from kineflow.errors import ParamsError
    from kineflow.registry.trace import lineage_of, versions_trained_on
    from kineflow.store import file_sha256

    if (version is None) == (video is None):
        raise ParamsError("give either NAME@VERSION or --video FILE")
    if video is not None:
        if not video.is_file():
            raise ParamsError(f"--video {video}: there is no such file")
        for row in versions_trained_on(file_sha256(video)):
            print(f"{row['name']} version {row['version']}" + (f" ({row['aliases']})" if row["aliases"] else ""))
        return
    name, _, wanted = str(version).rpartition("@")
    print(json.dumps(lineage_of(name, wanted), indent=1))


@commands.command()
def rollback(
    name: Annotated[str, typer.Argument(help="registered model, as in params register.model_name")],
    reason: Annotated[str, typer.Option(help="why; it is kept in the history")],
) -> None:
    """Make the champion before the present one champion again.

    Example: kineflow rollback kineflow-sample --reason "misses rearing in the new cages"
    """
    from kineflow.registry.promote import rollback as roll_back

    entry = roll_back(name, reason=reason)
    print(f"{name}: version {entry.version} is the champion again, after version {entry.previous} ({entry.reason})")
