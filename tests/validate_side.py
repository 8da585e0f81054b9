"""Prints the confusion matrix of a fixed model over the pairs in a folder, in as many processes as there are."""

import json
import sys
from pathlib import Path

import torch
from lightning_fabric import Fabric
from small_data import MULTICLASS

from cocoseg.hardware import device_count, node_count
from cocoseg.images.pairs import Pair
from cocoseg.model.architectures import build_model
from cocoseg.model.preprocessing import Preprocessing
from cocoseg.train.dataset import Samples, ValidationBatches, loader
from cocoseg.train.validation import validate


def main(folder: Path) -> None:
    """One line, from the first process."""
    fabric = Fabric(accelerator="cpu", devices=device_count(), num_nodes=node_count())
    fabric.launch()
    names = sorted(path.name for path in (folder / "images").iterdir())
    pairs = [Pair(file_name=name, image=folder / "images" / name, mask=folder / "masks" / name) for name in names]
    preprocessing = Preprocessing(image_size_px=32, resize="squash")
    torch.manual_seed(0)
    model = build_model("fastscnn", "", "none", 3)
    for buffer in model.buffers():
        if fabric.global_rank:
            buffer.zero_()  # the running statistics of the first process count
    samples = Samples(pairs, 3, preprocessing, None, 0)
    batches = loader(samples, ValidationBatches(len(samples), 4, fabric.global_rank, fabric.world_size), 0, False)
    validation = validate(fabric, model, batches, len(MULTICLASS.classes), "ce", None, preprocessing)
    if fabric.is_global_zero:
        print(json.dumps([fabric.world_size, validation.loss, validation.confusion.tolist()]))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
