"""Commands that look at videos and annotations, and write params that fit them."""

from pathlib import Path
from typing import Annotated

import typer

commands = typer.Typer()


@commands.command()
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


@commands.command("init")
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


@commands.command("convert")
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


@commands.command("contact-sheet")
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


@commands.command()
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


@commands.command()
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


@commands.command()
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


@commands.command()
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
