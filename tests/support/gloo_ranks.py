"""One rank of a real process group, for the loader tests.

``python -m tests.support.gloo_ranks FOLDER RENDEZVOUS`` reads a release with every style of loader.
RANK and WORLD_SIZE in the environment determine its rank. Each rank creates its loaders before
``init_process_group``, and rank 0 also inspects some data alone. The program prints the times that
each loader returned as JSON, by epoch and batch.
"""

import importlib.util
import json
import os
import sys
import warnings
from typing import Any

import torch.distributed
from torch.utils.data import DataLoader

from sdoml_core.errors import DatasetError
from sdoml_core.loader import BatchLoader, BatchSampler, SDOMLlite, ShardDataset


def loaders(dataset: SDOMLlite, *, spawn: bool) -> dict[str, tuple[Any, Any]]:
    """Return the loader of each style and the object that sets its epoch."""
    styles: dict[str, tuple[Any, Any]] = {}
    batches = BatchLoader(dataset, 4, shuffle=True)
    styles["batches"] = (batches, batches)
    for workers, context in ((0, None), (1, "fork"), (1, "spawn"))[: 2 + spawn]:
        name = f"{workers} {context}"
        options: dict[str, Any] = {"num_workers": workers, "multiprocessing_context": context}
        options["persistent_workers"] = context == "spawn"  # these processes start slowly
        sampler = BatchSampler(dataset, 4)
        styles[f"sampler {name}"] = (DataLoader(dataset, batch_sampler=sampler, **options), sampler)
        stream = ShardDataset(dataset, batch_size=4)
        styles[f"stream {name}"] = (DataLoader(stream, batch_size=None, **options), stream)
    return styles


def times_of(loader: Any) -> list[list[str]]:
    return [list(times) for _, times in loader]


def accelerated(dataset: SDOMLlite) -> dict[str, list[list[str]]]:
    """Return the times from loaders that Accelerate has prepared, or its error."""
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=True)
    result = {}
    twice = accelerator.prepare(DataLoader(dataset, batch_sampler=BatchSampler(dataset, 4)))
    try:
        result["twice"] = [times_of(twice)]
    except DatasetError as error:
        result["twice"] = [[[str(error)]]]
    sampler = BatchSampler(dataset, 4, rank=0, world_size=1)
    once = accelerator.prepare(DataLoader(dataset, batch_sampler=sampler))
    result["once"] = [times_of(once)]
    own = accelerator.prepare(BatchLoader(dataset, 4, shuffle=True))
    result["own"] = [times_of(own)]
    return result


def alone(dataset: SDOMLlite, rank: int) -> list[list[str]]:
    """Return the warnings from two passes. Before the first, rank 0 completes a pass alone."""
    loader = BatchLoader(dataset, 4, shuffle=True, seed=9)
    if rank == 0:
        list(loader)
    messages = []
    for epoch in (None, 1):
        torch.distributed.barrier()
        if epoch is not None:
            loader.set_epoch(epoch)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            list(loader)
        messages.append([str(warning.message) for warning in caught])
    return messages


def main(folder: str, rendezvous: str, rank: int, world_size: int) -> None:
    # A slow rank may start a pass late, because only the ends of passes are synchronized.
    warnings.filterwarnings("ignore", "this rank completed epoch")
    warnings.filterwarnings("ignore", "epoch . starts again")
    dataset = SDOMLlite(folder, ["AIA_0211"])
    styles = loaders(dataset, spawn=world_size == 2)
    if rank == 0:
        next(iter(styles["batches"][0]))
        next(iter(styles["sampler 0 None"][0]))
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=world_size
    )
    result = {}
    for name, (loader, source) in styles.items():
        if rank == 0 and "spawn" not in name:
            next(iter(loader))
        epochs = []
        for epoch in range(2):
            if name.startswith("stream 1"):
                source.set_epoch(epoch)
            epochs.append(times_of(loader))
            torch.distributed.barrier()  # synchronize the ranks, as an exchange of gradients would
        result[name] = epochs
    result["alone"] = alone(dataset, rank)
    torch.distributed.barrier()
    if world_size == 2 and importlib.util.find_spec("accelerate"):
        result |= accelerated(dataset)
    print(json.dumps(result))
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))
