"""Print the loss and confusion matrix of a fixed model over the pairs in a folder, in any number of processes."""

import json
import sys
from pathlib import Path

import msgspec
import torch
from lightning_fabric import Fabric
from small_data import MULTICLASS
from train.test_loop import PARAMS

from cocoseg.images.pairs import Pair
from cocoseg.train.dataset import SegmentationDataset, ValidationBatchSampler, loader
from cocoseg.train.devices import device_count, node_count, process_starter
from cocoseg.train.learner import Learner
from cocoseg.train.run_data import RunData
from cocoseg.train.validation import validate


def main(folder: Path) -> None:
    """Print one line, from the first process."""
    fabric = Fabric(accelerator="cpu", devices=device_count(), num_nodes=node_count(), plugins=process_starter())
    fabric.launch()
    names = sorted(path.name for path in (folder / "images").iterdir())
    pairs = [Pair(file_name=name, image=folder / "images" / name, mask=folder / "masks" / name) for name in names]
    torch.manual_seed(0)
    data = RunData(mapping=MULTICLASS, train=pairs, val=pairs, class_weights=None, fingerprint="")
    weights = folder / "weights"
    weights.mkdir(exist_ok=True)
    (weights / "README.md").write_text("of no model")
    # ce is a mean over images; the Dice of a batch depends on which images share it.
    learner = Learner(msgspec.structs.replace(PARAMS, loss="ce", initial_weights=str(weights)), data, fabric)
    for buffer in learner.model.buffers():
        if fabric.global_rank:
            buffer.zero_()  # the running statistics of the first process count
    dataset = SegmentationDataset(pairs, 3, learner.preprocessing, None, 0)
    batches = loader(dataset, ValidationBatchSampler(len(dataset), 4, fabric.global_rank, fabric.world_size), 0, False)
    validation = validate(learner, batches)
    if fabric.is_global_zero:
        print(json.dumps([fabric.world_size, validation.loss, validation.confusion.tolist()]))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
