"""Commands that list, search, compare and apply models."""

from pathlib import Path
from typing import Annotated

import typer

commands = typer.Typer()


@commands.command()
def models(
    name: Annotated[str, typer.Argument(help="a model, backbone or pooling; * stands for any letters")] = "",
    task: Annotated[str | None, typer.Option(help="only what serves it: clip or frame")] = None,
    input: Annotated[str | None, typer.Option(help="only what reads it: 2d, 3d or embedding")] = None,
    max_params: Annotated[float | None, typer.Option(min=0, help="at most so many million parameters")] = None,
    max_macs: Annotated[float | None, typer.Option(min=0, help="at most so many billion MACs a clip")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="one object a model, all of them without a name")] = False,
    thesis: Annotated[bool, typer.Option("--thesis", help="the theses' systems, published and ours")] = False,
    measure: Annotated[bool, typer.Option("--measure", help="run each named model here: ms per clip")] = False,
) -> None:
    """List backbones and poolings, or describe the models of a name: size, cost, tasks, options.

    Example: kineflow models --task frame --max-macs 20

    Example: kineflow models resnet18.bert

    Example: kineflow models 'resnet18.*' --measure

    Example: kineflow models --thesis > docs/models.md
    """
    from kineflow.setup import models_list

    if measure and not name:
        raise typer.BadParameter("running every model takes long: name some, such as resnet18.avg")
    filters = models_list.Filters(task, input, max_params, max_macs)
    if thesis and (name or measure or filters != models_list.Filters()):
        raise typer.BadParameter("--thesis prints all systems: leave out name, filters and --measure")
    if thesis:
        models_list.print_thesis(as_json=as_json)
    elif name or as_json:
        models_list.print_models(name, filters, as_json=as_json, measure=measure)
    else:
        models_list.print_parts(filters)


@commands.command()
def search(
    space: Annotated[str | None, typer.Option(help="a shipped space, or a YAML file; default: that of params")] = None,
    params: Annotated[Path, typer.Option(help="params file of the trainings")] = Path("params.yaml"),
    out: Annotated[Path | None, typer.Option(help="folder of the report; default: reports/search/<space>")] = None,
    apply: Annotated[bool, typer.Option("--apply", help="write the winner's values into the params file")] = False,
) -> None:
    """Try other params for one stream: each trial is a cross-validation, and the test set is not looked at.

    Build the data before with `dvc repro validate_dataset`. What was trained is not trained again: a search that was
    stopped, or gets more trials, goes on where it is started anew.

    Example: kineflow search

    Example: kineflow search --space sequence_length --apply
    """
    from kineflow.params import load_params
    from kineflow.setup.presets import space_values, write_changes
    from kineflow.studies.changed_params import in_text
    from kineflow.studies.search import Asked, run_search, with_space

    values = load_params(params)
    if space is not None:
        values = with_space(values, space_values(space), where=f"--space {space}")
    done = run_search(values, Asked(space, params, out))
    best = done.best
    score = f"{best.metric} {best.mean:.3f} over {len(best.folds)} folds"
    others = f", of {len(done.trials)} in all" if len(done.trials) > done.num_whole else ""
    print(f"best of {done.num_whole} trials that saw every fold{others}: {best.key}, {score}")
    for key, value in best.changes.items():
        print(f"  {key}: {value}")
    if done.note:
        print(f"note: not all of it is in MLflow: {done.note}")
    if apply:
        write_changes(params, in_text(values, best.changes))
    print(f"{params}: written" if apply else f"{done.folder / 'best.yaml'}: its values as a patch")
    print(f"{done.folder / 'report.html'}: the report")


@commands.command()
def compare(
    names: Annotated[list[str], typer.Argument(help="models, patches (.yaml), streams as params have them, or fusion")],
    stream: Annotated[str, typer.Option(help="of models and patches: rgb, flow, pose or fv")] = "rgb",
    seeds: Annotated[str, typer.Option(help="each trains every fold once more")] = "0",
    changes: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="one value for all")] = None,
    metric: Annotated[str | None, typer.Option(help="of the figures; default: promotion.metric")] = None,
    params: Annotated[Path, typer.Option(help="params file of the trainings")] = Path("params.yaml"),
    out: Annotated[Path, typer.Option(help="folder to write, over what is there")] = Path("reports/compare"),
) -> None:
    """Compare models, streams or changes of params on the same folds and seeds: scores, intervals, size and speed.

    What was trained is not trained again, so it goes on where it was stopped. The others are compared with the first.

    Example: kineflow compare r3d_mini.avg r3d_mini.bert --seeds 0,1,2

    Example: kineflow compare flow reports/search/params/best.yaml --stream flow --seeds 0,1,2

    Example: kineflow compare rgb flow fv fusion --seeds 0,1,2
    """
    from kineflow.errors import ParamsError
    from kineflow.params import STREAM_NAMES, load_params
    from kineflow.setup.presets import parse_value
    from kineflow.studies.compare import run_compare
    from kineflow.studies.compare_table import print_comparison

    pairs = [change.partition("=") for change in changes or []]
    known = [name for name in STREAM_NAMES if name == stream]
    if not known:
        raise ParamsError(f"--stream {stream}: known are {', '.join(STREAM_NAMES)}")
    if not all(equals for _, equals, _ in pairs):
        raise ParamsError("--set: write KEY=VALUE, for example --set streams.rgb.epochs=20")
    if not all(seed.strip().isdecimal() for seed in seeds.split(",")):
        raise ParamsError(f"--seeds {seeds}: write whole numbers, such as 0,1,2")
    done = run_compare(
        load_params(params),
        names,
        stream=known[0],
        seeds=[int(seed) for seed in seeds.split(",")],
        shared={key: parse_value(key, value) for key, _, value in pairs},
        metric=metric,
        out=out,
    )
    print_comparison(done)
    if done.note:
        print(f"note: not in MLflow: {done.note}")


@commands.command()
def average(
    files: Annotated[list[Path], typer.Argument(help="copies of metrics.json, one of each run")],
) -> None:
    """Average the test scores of several runs, such as those of the three official splits of UCF-101.

    Example: kineflow average split1.json split2.json split3.json
    """
    import math

    from kineflow.evaluation.splits_average import read_test_scores

    names = [file.stem for file in files]
    rows = [["stream", "metric", *names, "mean", "std"]]
    for stream, summaries in read_test_scores(files).items():
        for metric, summary in summaries.items():
            values = (*summary.folds, summary.mean, summary.std)
            rows.append([stream, metric, *("-" if math.isnan(value) else f"{value:.4f}" for value in values)])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())


@commands.command()
def predict(
    videos: Annotated[list[Path], typer.Argument(help="video files, each labelled as a whole")],
    model: Annotated[str, typer.Option(help="a bundle folder, or NAME@ALIAS or NAME@VERSION of the registry")],
    out: Annotated[Path | None, typer.Option(help="CSV to write; default: the terminal")] = None,
) -> None:
    """Label videos with a release model: probabilities of each class (for every frame on task frame).

    Where classes exclude each other, the column `label` names the most probable one.

    Example: kineflow predict new.mp4 --model kineflow-sample@champion
    """
    from kineflow.errors import ParamsError
    from kineflow.inference.predict import label_videos
    from kineflow.registry.register import load_bundle_path

    name, at, version = model.rpartition("@")
    bundle = Path(model) if Path(model).is_dir() or not at else load_bundle_path(name, version)
    table = label_videos(bundle, videos)
    if out is None:
        print(table.to_string(index=False, float_format="{:.3f}".format))
    else:
        try:
            table.to_csv(out, index=False)
        except OSError as err:
            raise ParamsError(f"--out {out}: {err.strerror or err}; name a file in a folder that is there") from err
        print(f"{out}: {len(table)} rows")
