"""Two data-parallel processes through both phases of a finetune: what is unfrozen later is kept in step too."""

from pathlib import Path

import torch
import torch.distributed as dist
from torch.multiprocessing import spawn
from torch.nn.parallel import DistributedDataParallel

from kineflow.training.loop import fit
from kineflow.training.steps import Shard
from tests.unit.training.test_finetune import model, recipe
from tests.unit.training.test_loop import CPU, CROSS_ENTROPY, moving_left_or_right


def worker(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    trained = model()
    data = moving_left_or_right(8)
    fit(trained, CROSS_ENTROPY, data, None, recipe(), device=CPU, wrap=DistributedDataParallel, shard=Shard(rank, 2))
    torch.save(trained.state_dict(), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_keep_the_same_weights_in_both_phases(tmp_path: Path) -> None:
    spawn(worker, (str(tmp_path),), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    start = model().state_dict()
    trained = [name for name, _ in model().named_parameters()]
    assert all(torch.equal(first[name], second[name]) for name in trained)
    moved = {name.split(".")[3] for name in trained if ".stages." in name and not torch.equal(first[name], start[name])}
    assert moved == {"1", "2"}
