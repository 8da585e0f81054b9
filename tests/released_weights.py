"""A stand-in for the weights of `deeplabv3_mobilenet` that torchvision would download."""

from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import nn


def write_released_weights(torch_home: Path) -> Any:
    """Write the file to its place below `TORCH_HOME`. Return the network, with 21 classes in VOC's order."""
    segmentation = torchvision.models.segmentation
    torch.manual_seed(0)
    network: Any = segmentation.deeplabv3_mobilenet_v3_large(
        weights=None, weights_backbone=None, num_classes=21, aux_loss=True
    )
    last = network.classifier[-1]
    nn.init.normal_(last.weight, std=10)  # so that the features decide, not the biases
    nn.init.zeros_(last.bias)
    file = Path(segmentation.DeepLabV3_MobileNet_V3_Large_Weights.DEFAULT.url).name
    checkpoints = torch_home / "hub" / "checkpoints"
    checkpoints.mkdir(parents=True)
    torch.save(network.state_dict(), checkpoints / file)
    return network
