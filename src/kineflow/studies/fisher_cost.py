"""What Fisher vectors cost, as `kineflow.experiments.cost` says it of networks."""

from threadpoolctl import threadpool_limits

from kineflow.descriptors.inputs import predict_probs
from kineflow.descriptors.model import load_model
from kineflow.experiments.cost import Cost, Untimed
from kineflow.stages.folds.fisher_job import WEIGHTS, FisherJob, cells_by_video


def fisher_cost(job: FisherJob) -> Untimed:
    """A finished fit on its first validation clip: from the cells of its video to its probabilities."""
    model = load_model(job.folder / WEIGHTS, flip=job.described.flip)
    result, cells_of = job.result(), cells_by_video(job)
    cost = Cost(
        num_params=result["num_params"],
        macs=result["macs"],
        input_CTHW=None,
        ms_per_clip=float("nan"),
        device="cpu",
        threads=1,
        precision="fp32",
    )
    return Untimed(
        cost,
        judge=lambda: predict_probs(model, job.val[:1], cells_of, job.described, job.labels),
        settings=lambda: threadpool_limits(1),
    )
