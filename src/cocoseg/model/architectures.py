"""The architectures that `arch` can name: all of segmentation-models-pytorch (smp), torchvision's DeepLabV3, Fast-SCNN.

Every model takes normalized images (N, 3, H, W) of any size and returns logits (N, C, H, W). A model with an auxiliary
head returns the logits of both heads in training mode.
"""

import copy
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cocoseg.core.errors import CocosegError, did_you_mean, first_line
from cocoseg.model.encoders import (
    STRIDE,
    check_encoder,
    encoder_options,
    weights_place,
    weights_size_px,
    with_weights,
)
from cocoseg.model.fastscnn import FastSCNN
from cocoseg.model.params import TORCHVISION_ARCHITECTURES, PretrainedName

# smp, timm and torchvision are imported where they are used: each takes seconds, and most runs need only one of them.


_DOES_NOT_WORK = (
    RuntimeError,
    ValueError,
    TypeError,
    AssertionError,
)  # what networks raise at a size that they cannot take


class Padded(nn.Module):
    """A network that needs sizes divisible by `stride`, for images of any size: they are padded, the logits cropped."""

    def __init__(self, network: nn.Module, stride: int) -> None:
        super().__init__()
        self.network = network
        self.stride = stride

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits at the size of `images`."""
        height, width = images.shape[-2:]
        padded = F.pad(images, (0, -width % self.stride, 0, -height % self.stride))
        logits: Tensor = self.network(padded)
        return logits[..., :height, :width]


class TwoHeads(nn.Module):
    """torchvision's DeepLabV3, with an auxiliary head that is used in training only."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Return the logits; in training mode also those of the auxiliary head."""
        if self.training:
            out = self.network(images)
            return out["out"], out["aux"]
        logits = self.network.classifier(self.network.backbone(images)["out"])  # type: ignore[operator]
        return F.interpolate(logits, size=images.shape[-2:], mode="bilinear", align_corners=False)


def build_model(
    arch: str, encoder: str, pretrained: PretrainedName, classes: int, square_px: int | None = None
) -> nn.Module:
    """Return a model with `classes` output channels. Only smp's architectures use `encoder`.

    `square_px` is the width and height of all images, for the few encoders that do not take any; `None` if they vary.

    Raises `CocosegError` for an unknown name, a combination that does not work, or weights that cannot be loaded.
    """
    if arch == "fastscnn":
        model: nn.Module = FastSCNN(classes)
    elif arch in TORCHVISION_ARCHITECTURES:
        model = torchvision_model(arch, pretrained, classes)
    else:
        model = _smp_model(arch, encoder, pretrained, classes, square_px)
    if pretrained == "none":
        _quicken_batch_norm(model)
    return model


def check_model(model: nn.Module, image_size_px: int, smallest_batch: int) -> None:
    """Try a training step on the meta device, which needs no memory and little time at any size.

    Freezes the parameters of `model` that get no gradient, or several processes would wait for their gradients forever.
    Raises `CocosegError` if the model does not work with this image or batch size.
    """
    trial = copy.deepcopy(model).to("meta").train()
    try:
        _try_step(trial, image_size_px, smallest_batch)
    except _DOES_NOT_WORK as error:
        reason = first_line(error).rstrip(".")
        if "more than 1 value per channel" in reason:
            raise CocosegError("batch_size leaves one image per device, which is too few for BatchNorm; "
                               "expected at least 2 per device") from None  # fmt: skip
        raise CocosegError(
            f"image_size_px {image_size_px} does not work with this architecture: {reason}; "
            f"{_working_size(trial, image_size_px, smallest_batch)}"
        ) from None
    for parameter, tried in zip(model.parameters(), trial.parameters(), strict=True):
        parameter.requires_grad_(tried.grad is not None)


def _try_step(trial: nn.Module, image_size_px: int, smallest_batch: int) -> None:
    output = trial(torch.zeros(min(smallest_batch, 2), 3, image_size_px, image_size_px, device="meta"))
    sum(logits.sum() for logits in (output if isinstance(output, tuple) else (output,))).backward()


def _working_size(trial: nn.Module, image_size_px: int, smallest_batch: int) -> str:
    """Return the way out for an error message: the nearest size at which the model works."""
    for size in sorted(range(STRIDE, 1025, STRIDE), key=lambda size: abs(size - image_size_px)):
        with suppress(*_DOES_NOT_WORK):
            _try_step(trial, size, smallest_batch)
            return f"it works at image_size_px: {size}"
    return "expected another arch or encoder"


def with_synchronized_norm(model: nn.Module) -> nn.Module:
    """Return the model with every BatchNorm synchronized over all processes."""
    # Not with torch's converter, which drops the activations inside timm's norm layers.
    from timm.layers.norm_act import convert_sync_batchnorm

    converted: nn.Module = convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
    return converted


def encoder_of(model: nn.Module) -> nn.Module | None:
    """Return the part that ImageNet weights are for: smp's encoder, torchvision's backbone; `None` without one."""
    network = model.network if isinstance(model, Padded | TwoHeads) else model
    encoder = getattr(network, "encoder", getattr(network, "backbone", None))
    return encoder if isinstance(encoder, nn.Module) else None


def parameter_count(model: nn.Module) -> int:
    """Return the number of parameters."""
    return sum(parameter.numel() for parameter in model.parameters())


def _smp_model(arch: str, encoder: str, pretrained: PretrainedName, classes: int, square_px: int | None) -> nn.Module:
    import segmentation_models_pytorch as smp

    architectures = smp.MODEL_ARCHITECTURES_MAPPING
    if arch not in architectures:
        known = sorted([*TORCHVISION_ARCHITECTURES, "fastscnn", *architectures])
        otherwise = "expected one of " + ", ".join(known)
        raise CocosegError(f"arch is {arch!r}; {did_you_mean(arch, known, otherwise)}")
    check_encoder(encoder)
    options = encoder_options(arch, encoder, square_px)
    # For timm's encoders smp takes True or None; for its own, the name of the weights.
    weights: Any = None if pretrained == "none" else True if encoder.startswith("tu-") else "imagenet"

    def create() -> nn.Module:
        model: nn.Module = smp.create_model(
            arch, encoder_name=encoder, encoder_weights=weights, classes=classes, **options
        )
        return model

    try:
        network = create() if weights is None else with_weights(create, weights_place(encoder))
    except CocosegError as error:
        own_px = weights_size_px(encoder)
        if isinstance(options.get("img_size"), int) and options["img_size"] != own_px:
            raise CocosegError(f"{error}, or with images as large as theirs: image_size_px: {own_px}") from None
        raise
    except Exception as error:  # timm and smp reject a combination with exceptions of all types
        reason = first_line(error).rstrip(".")
        raise CocosegError(
            f"encoder {encoder} does not work with arch {arch}: {reason}; expected {_takes(arch)}"
        ) from None
    encoder_module: Any = network.encoder
    # Encoders that cut an image into patches refuse other sides, also where smp asks for nothing.
    patches = any(name.endswith("patch_embed") for name, _ in encoder_module.named_modules())
    if not (patches or architectures[arch].requires_divisible_input_shape):
        return network
    stride = encoder_module.output_stride
    return Padded(network, max(STRIDE, int(stride)) if isinstance(stride, int) else STRIDE)


def _takes(arch: str) -> str:
    """Return which encoders an architecture of smp's works with, for an error message."""
    match arch:
        case "dpt":
            return "a vision transformer of timm's, such as tu-vit_small_patch16_dinov3"
        case "deeplabv3" | "deeplabv3plus" | "pan":
            return (
                "one that can be dilated, such as resnet34 or tu-convnext_tiny, or arch: upernet, for plain vision "
                "transformers dpt"
            )
        case _:
            return (
                "one with features of several sizes, such as resnet34 or tu-convnext_tiny, or for a plain vision "
                "transformer arch: dpt"
            )


def torchvision_model(arch: str, pretrained: PretrainedName, classes: int | None) -> TwoHeads:
    """Return torchvision's DeepLabV3 named `arch`; with `classes` of `None` its last layers keep VOC's 21 classes."""
    from torchvision import models
    from torchvision.models import segmentation

    match arch:
        case "deeplabv3_mobilenet":
            make: Callable[..., nn.Module] = segmentation.deeplabv3_mobilenet_v3_large
            coco: Any = segmentation.DeepLabV3_MobileNet_V3_Large_Weights.DEFAULT
            imagenet: Any = models.MobileNet_V3_Large_Weights.IMAGENET1K_V1
        case _:
            make = segmentation.deeplabv3_resnet50
            coco = segmentation.DeepLabV3_ResNet50_Weights.DEFAULT
            imagenet = models.ResNet50_Weights.IMAGENET1K_V1
    match pretrained:
        case "none":
            network = make(weights=None, weights_backbone=None, aux_loss=True)
        case "imagenet":
            network = with_weights(
                lambda: make(weights=None, weights_backbone=imagenet, aux_loss=True), _torchvision_weights(imagenet)
            )
        case "coco":
            network = with_weights(lambda: make(weights=coco), _torchvision_weights(coco))
    heads: tuple[Any, Any] = (network.classifier, network.aux_classifier)
    if classes is not None:
        for head in heads:
            # Only the last layer is new; all others keep their pretrained weights.
            head[-1] = nn.Conv2d(head[-1].in_channels, classes, kernel_size=1)
    return TwoHeads(network)


def _torchvision_weights(weights: Any) -> str:
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    return f"{Path(weights.url).name} from {weights.url}, which belongs in {folder}"


def _quicken_batch_norm(model: nn.Module) -> None:
    # MobileNets come with a momentum of 0.01, for runs of a million steps. After a few hundred their running statistics
    # would still be the initial ones, and the model would fail in evaluation mode.
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.1
