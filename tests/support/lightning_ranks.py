"""One rank of a training run with Lightning, for the loader tests.

``python -m tests.support.lightning_ranks FOLDER`` trains with DDP on CPUs, for two epochs with each
kind of loader. Lightning reads the rank from LOCAL_RANK, MASTER_ADDR, MASTER_PORT and WORLD_SIZE in
the environment. The program prints the times of each batch as JSON, by loader and epoch.
"""

import json
import os
import sys
import warnings
from typing import Any

import lightning
import torch
from torch.utils.data import DataLoader

from sdoml_core.loader import BatchLoader, BatchSampler, SDOMLlite, ShardDataset

PLACE = {name: os.environ[name] for name in ("LOCAL_RANK", "RANK", "WORLD_SIZE")}


class Model(lightning.LightningModule):
    """A linear model that records the times of its batches."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.seen: list[list[list[str]]] = []

    def on_train_epoch_start(self) -> None:
        self.seen.append([])

    def training_step(self, batch: Any, _number: int) -> torch.Tensor:
        images, times = batch
        self.seen[-1].append(list(times))
        return self.layer(images.mean().reshape(1, 1)).sum()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 1e-3)


def fit(loader: Any) -> list[list[list[str]]]:
    """Train the model; return the times of each batch by epoch."""
    os.environ.update(PLACE)  # Lightning removes these variables at the end of a training run
    model = Model()
    trainer = lightning.Trainer(
        accelerator="cpu",
        devices=int(PLACE["WORLD_SIZE"]),
        strategy="ddp",
        max_epochs=2,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    trainer.fit(model, loader)
    return model.seen


def main(folder: str) -> None:
    # Lightning warns about the number of workers, for example.
    warnings.simplefilter("ignore")
    dataset = SDOMLlite(folder, ["AIA_0211"])
    # Create all loaders before Lightning starts the process group.
    loaders = {
        "batches": BatchLoader(dataset, 4, shuffle=True),
        "sampler": DataLoader(dataset, batch_sampler=BatchSampler(dataset, 4)),
        "stream": DataLoader(ShardDataset(dataset, batch_size=4), batch_size=None),
    }
    print(json.dumps({name: fit(loader) for name, loader in loaders.items()}))


if __name__ == "__main__":
    main(sys.argv[1])
