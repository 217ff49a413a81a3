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
    stream: Annotated[str | None, typer.Option(help="rgb, flow, pose or fv, for the stage train")] = None,
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


@app.command("init")
def init(
    videos: Annotated[str, typer.Option(help="folder or s3:// prefix of the videos")],
    annotations: Annotated[str, typer.Option(help="annotation file or folder")],
    task: Annotated[str, typer.Option(help="clip: a label for each clip; frame: labels for every frame")],
    format_: Annotated[
        str | None, typer.Option("--format", help="manifest, boris_csv, ...; guessed, with the reason, if not given")
    ] = None,
    group_from: Annotated[
        str | None, typer.Option(help="annotations, video, folder, column:NAME or regex:PATTERN; default: best found")
    ] = None,
    out: Annotated[Path, typer.Option(help="params file to write")] = Path("params.yaml"),
    force: Annotated[bool, typer.Option(help="overwrite a params file that was changed by hand")] = False,
) -> None:
    """Check your videos against their annotations, choose params that fit them, and write params.yaml.

    Example: kineflow init --videos ~/rats --annotations ~/rats/events.csv --task clip
    """
    from kineflow.errors import DataError
    from kineflow.setup.init import init_project, print_init_report

    report = init_project(videos, annotations, format_, task, out, group_from, force=force)
    print_init_report(report)
    if report.written is None:
        raise DataError(f"{out} was not written: mend the {len(report.found.problems)} problems above and run again")


@app.command("convert")
def convert_(
    annotations: Annotated[str, typer.Argument(help="annotation file or folder, or its s3:// URI")],
    videos: Annotated[str, typer.Option(help="folder or s3:// prefix of the videos")],
    to: Annotated[str, typer.Option(help="boris_csv, frame_csv or manifest")],
    out: Annotated[Path, typer.Option(help="file to write; for frame_csv the folder to make")],
    from_: Annotated[
        str | None, typer.Option("--from", "--format", metavar="FORMAT", help="guessed if not given")
    ] = None,
) -> None:
    """Write annotations in another format; what it cannot hold is said.

    Example: kineflow convert project.boris --videos ~/rats --to boris_csv --out events.csv

    Example: kineflow convert events.csv --from boris_csv --videos ~/rats --to frame_csv --out labels
    """
    from kineflow.setup.convert import convert

    done = convert(annotations, videos, from_, to, out)
    print(f"{annotations}: {done.source_format} ({done.reason})")
    for note in done.notes:
        print(f"note: {note}")
    print(f"{out}: {done.num_files} file{'s' if done.num_files > 1 else ''} written")


@app.command("contact-sheet")
def contact_sheet(
    videos: Annotated[str | None, typer.Option(help="folder or s3:// prefix; default: that of params.yaml")] = None,
    annotations: Annotated[str | None, typer.Option(help="file or folder; default: that of params.yaml")] = None,
    format_: Annotated[str | None, typer.Option("--format", help="guessed if not given")] = None,
    group_from: Annotated[str | None, typer.Option(help="rule for groups; default: best found")] = None,
    out: Annotated[Path, typer.Option(help="picture to write")] = Path("contact_sheet.png"),
    frames: Annotated[int, typer.Option(min=1, max=12, help="frames of each clip")] = 3,
    columns: Annotated[int, typer.Option(min=1, help="groups of a page")] = 5,
    rows: Annotated[int, typer.Option(min=1, help="classes of a page")] = 10,
    max_pages: Annotated[int, typer.Option(min=1, help="pages; what is beyond is left out")] = 20,
    as_trained: Annotated[
        str | None, typer.Option(metavar="STREAM", help="clips as its network is shown them, a column an epoch")
    ] = None,
) -> None:
    """Draw a clip of every class and group, to be looked at before training.

    Example: kineflow contact-sheet

    Example: kineflow contact-sheet --videos ~/rats --annotations ~/rats/events.csv --out rats.png

    Example: kineflow contact-sheet --as-trained rgb --out rgb.png
    """
    from kineflow.errors import ParamsError
    from kineflow.params import load_params
    from kineflow.setup.contact_sheet import draw_contact_sheet

    if as_trained is not None:
        from kineflow.params import NETWORK_NAMES
        from kineflow.setup.training_sheet import draw_training_sheet
        from kineflow.stages.training_clips import training_clips

        if as_trained not in NETWORK_NAMES:
            raise ParamsError(f"--as-trained {as_trained}: no stream of images; known: {', '.join(NETWORK_NAMES)}")
        clips, classes = training_clips(load_params(Path("params.yaml")), as_trained)
        num = draw_training_sheet(clips, classes, out, num_frames=frames, num_epochs=columns, max_rows=rows)
        print(f"drawn: {out}, {num} of {len(classes)} classes in {columns} epochs")
        return
    if (videos is None) != (annotations is None):
        raise ParamsError("--videos and --annotations belong together; give both, or neither for those of params.yaml")
    if videos is None or annotations is None:
        data = load_params(Path("params.yaml")).data
        videos, annotations = data.source, data.annotations
        format_, group_from = format_ or data.format, group_from or data.group_from
    size = {"num_frames": frames, "columns": columns, "rows": rows, "max_pages": max_pages}
    sheet = draw_contact_sheet(videos, annotations, format_, group_from, out, **size)
    for note in sheet.notes:
        print(f"note: {note}")
    print(f"{sheet.num_classes} classes by {sheet.num_groups} groups, {sheet.num_empty} cells empty")
    print(f"drawn: {', '.join(map(str, sheet.pages))}")


@app.command()
def use(
    preset: Annotated[str, typer.Argument(help="sample, tiny, ut_interaction, ... as in params/")],
    changes: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="change one value")] = None,
    out: Annotated[Path, typer.Option(help="params file to write")] = Path("params.yaml"),
    force: Annotated[bool, typer.Option(help="overwrite a params file that was changed by hand")] = False,
) -> None:
    """Write a shipped preset to params.yaml.

    Example: kineflow use ut_interaction --set data.source=/data/ut --set seed=1
    """
    from kineflow.errors import ParamsError
    from kineflow.setup.presets import use_preset

    pairs = [change.partition("=") for change in changes or []]
    for key, equals, _ in pairs:
        if not equals:
            raise ParamsError(f"--set {key}: write KEY=VALUE, for example --set seed=1")
    print(f"{use_preset(preset, out, {key: value for key, _, value in pairs}, force=force)}: written")


@app.command()
def estimate(
    params: Annotated[Path, typer.Option(help="params file of the run to come")] = Path("params.yaml"),
    videos: Annotated[int, typer.Option(min=1, help="how many videos each stage tries, for some seconds each")] = 5,
) -> None:
    """Say what each stage has left to do of every video, how long it takes here, and whether the disk has room.

    Some videos are tried, so it needs the table of videos: run `dvc repro validate_raw` before. It ends with exit
    code 4 where the results will not fit.

    Example: kineflow estimate

    Example: kineflow estimate --videos 20 && make retrain
    """
    from kineflow.params import load_params
    from kineflow.stages.estimate import estimate as estimate_all
    from kineflow.stages.estimate import print_estimate, refuse_what_will_not_fit

    found = estimate_all(load_params(params), num_samples=videos)
    print_estimate(found)
    refuse_what_will_not_fit(found)


@app.command()
def roi(
    video: Annotated[Path, typer.Argument(help="video file")],
    out: Annotated[Path, typer.Option(help="picture to write, .png or .jpg")] = Path("roi.png"),
    at_sec: Annotated[float, typer.Option(min=0, help="which moment, in seconds")] = 0.0,
    box: Annotated[tuple[int, int, int, int] | None, typer.Option(help="X Y WIDTH HEIGHT to draw on it")] = None,
) -> None:
    """Draw a frame with a grid and coordinates, to choose a box of the CSV of frames.roi from.

    Example: kineflow roi cage1.mp4 --at-sec 12 --box 120 80 400 400
    """
    from kineflow.annotations.roi_boxes import Box
    from kineflow.video.roi_picture import write_roi_picture

    height, width = write_roi_picture(video, out, at_sec=at_sec, box=None if box is None else Box(*box))
    print(f"{out}: {width}x{height} pixels; a row of the CSV is video,x,y,width,height")


@app.command()
def view(
    video: Annotated[str, typer.Argument(help="id of an extracted video, or a video file")],
    flow: Annotated[bool, typer.Option("--flow", help="its optical flow beside the frames")] = False,
    at_sec: Annotated[float | None, typer.Option(min=0, help="one moment, as a .png")] = None,
    out: Annotated[Path | None, typer.Option(help="default: view.mp4, or view.png with --at-sec")] = None,
) -> None:
    """Show a video as training sees it: the extracted frames, and their flow in colours.

    Example: kineflow view arena0/groom_000.mp4 --flow

    Example: kineflow view ~/rats/new.mp4 --flow --at-sec 12.5 --out moment.png
    """
    from kineflow.params import load_params
    from kineflow.setup.view import view as draw
    from kineflow.stages import paths

    target = out or Path("view.mp4" if at_sec is None else "view.png")
    params = load_params(Path("params.yaml"))
    done = draw(video, target, params, stores=(paths.FRAMES, paths.FLOW), flow=flow, at_sec=at_sec)
    frames = "1 frame" if done.num_frames == 1 else f"{done.num_frames} frames"
    print(f"{target}: {frames} of {done.width_px}x{done.height_px} pixels, from {done.origin}")


@app.command()
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
    if thesis:
        models_list.print_thesis(as_json=as_json)
    elif name or as_json:
        models_list.print_models(name, filters, as_json=as_json, measure=measure)
    else:
        models_list.print_parts(filters)


@app.command()
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
    from kineflow.stages.changed_params import in_text
    from kineflow.stages.search import run_search, with_space

    values = load_params(params)
    if space is not None:
        values = with_space(values, space_values(space), where=f"--space {space}")
    done = run_search(values, name=Path(space).stem if space else params.stem, out=out)
    best = done.best
    score = f"{best.metric} {best.mean:.3f} over {len(best.folds)} folds"
    print(f"best of {len(done.trials)} trials: {best.key}, {score}")
    for key, value in best.changes.items():
        print(f"  {key}: {value}")
    if done.note:
        print(f"note: not all of it is in MLflow: {done.note}")
    if apply:
        write_changes(params, in_text(values, best.changes))
    print(f"{params}: written" if apply else f"{done.folder / 'best.yaml'}: its values as a patch")
    print(f"{done.folder / 'report.html'}: the report")


@app.command()
def compare(
    names: Annotated[list[str], typer.Argument(help="models, patches (.yaml), or `present`: params as they are")],
    stream: Annotated[str, typer.Option(help="rgb, flow or pose")] = "rgb",
    seeds: Annotated[str, typer.Option(help="each trains every fold once more")] = "0",
    changes: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="one value for all")] = None,
    metric: Annotated[str | None, typer.Option(help="of the figures; default: promotion.metric")] = None,
    params: Annotated[Path, typer.Option(help="params file of the trainings")] = Path("params.yaml"),
    out: Annotated[Path, typer.Option(help="folder to write")] = Path("reports/compare"),
) -> None:
    """Compare models, or other changes of params, on the same folds and seeds: scores, intervals, size and speed.

    What was trained is not trained again, so it goes on where it was stopped. The others are compared with the first.

    Example: kineflow compare r3d_mini.avg r3d_mini.bert --seeds 0,1,2

    Example: kineflow compare present reports/search/params/best.yaml --stream flow --seeds 0,1,2
    """
    from kineflow.errors import ParamsError
    from kineflow.params import NETWORK_NAMES, load_params
    from kineflow.setup.presets import parse_value
    from kineflow.stages.compare import run_compare
    from kineflow.stages.compare_table import print_comparison

    pairs = [change.partition("=") for change in changes or []]
    known = [name for name in NETWORK_NAMES if name == stream]
    if not known:
        raise ParamsError(f"--stream {stream}: known are {', '.join(NETWORK_NAMES)}")
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


@app.command()
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


@app.command()
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


@app.command()
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


@app.command()
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


@services.command("up")
def services_up(
    names: Annotated[list[str] | None, typer.Argument(help="s3, prefect, mlflow; default: s3")] = None,
) -> None:
    """Start what does not run yet, each on 127.0.0.1.

    Example: kineflow services up s3 mlflow
    """
    from kineflow.services import table, up

    print(table(up(tuple(names or ("s3",)))))


@services.command("status")
def services_status() -> None:
    """Show what runs, and where.

    Example: kineflow services status
    """
    from kineflow.services import status, table

    print(table(status()))


@services.command("down")
def services_down() -> None:
    """Stop what `up` started.

    Example: kineflow services down
    """
    from kineflow.services import down

    stopped = down()
    print(f"stopped: {', '.join(stopped)}" if stopped else "nothing was running")
