"""The clips that a stream is trained on, as the first fold is shown them."""

from kineflow.data.dataset import ClipDataset
from kineflow.data.decoded_cache import DecodedCache
from kineflow.errors import ParamsError
from kineflow.params import NetworkName, Params
from kineflow.stages.folds.dataset import load_dataset
from kineflow.stages.folds.jobs import classification_of, plan
from kineflow.stages.stage import StageReport
from kineflow.store import home
from kineflow.training.preparation import training_videos, with_flow_scale


def training_clips(params: Params, stream: NetworkName) -> tuple[ClipDataset, tuple[str, ...]]:
    """The training clips of the first fold with their random views, and the classes.

    Raises:
        DataError: the stages before `train` have not run.
        ParamsError: the stream is off, or its network sees no images.
    """
    config = params.streams[stream]
    if not config.enabled or config.model.startswith("embedding."):
        raise ParamsError(f"streams.{stream} is off or sees embeddings; name a stream that is trained on images")
    job, *_ = plan(
        params,
        load_dataset(params),
        stream,
        config,
        name=stream,
        epochs=config.epochs,
        objective_of=classification_of(params),
        report=StageReport("contact-sheet"),
    )
    videos = training_videos(job, job.store, job.preprocessing, DecodedCache(home() / "decoded", max_bytes=0))
    preprocessing = with_flow_scale(job.preprocessing, job.train, videos)
    return ClipDataset(job.train, videos, preprocessing, job.augment, job.recipe.seed), job.classes
