"""The file of torchvision's released `deeplabv3_mobilenet` that it would download, with weights made here."""

from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import nn


def write_released_weights(torch_home: Path) -> Any:
    """Write it where torchvision looks under `TORCH_HOME`; returns the network, 21 classes in VOC's order."""
    segmentation = torchvision.models.segmentation
    torch.manual_seed(0)
    network: Any = segmentation.deeplabv3_mobilenet_v3_large(
        weights=None, weights_backbone=None, num_classes=21, aux_loss=True
    )
    last = network.classifier[-1]
    nn.init.normal_(last.weight, std=10)  # so that the features decide, and not the biases
    nn.init.zeros_(last.bias)
    file = Path(segmentation.DeepLabV3_MobileNet_V3_Large_Weights.DEFAULT.url).name
    checkpoints = torch_home / "hub" / "checkpoints"
    checkpoints.mkdir(parents=True)
    torch.save(network.state_dict(), checkpoints / file)
    return network
