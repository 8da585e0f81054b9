"""The architectures that `arch` can name: all of segmentation-models-pytorch (smp), torchvision's DeepLabV3, Fast-SCNN.

Every model takes normalized images (N, 3, H, W) of any size and returns logits (N, C, H, W). A model with an auxiliary
head returns the logits of both heads in training mode.
"""

import copy
import logging
import os
import pickle
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cocoseg.core.errors import CocosegError, did_you_mean, first_line
from cocoseg.model.fastscnn import FastSCNN
from cocoseg.model.params import TORCHVISION_ARCHITECTURES, PretrainedName

# smp, timm and torchvision are imported where they are used: each takes seconds, and most runs need only one of them.


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


def build_model(arch: str, encoder: str, pretrained: PretrainedName, classes: int) -> nn.Module:
    """Return a model with `classes` output channels. Only smp's architectures use `encoder`.

    Raises `CocosegError` for an unknown name, a combination that does not work, or weights that cannot be loaded.
    """
    if arch == "fastscnn":
        model: nn.Module = FastSCNN(classes)
    elif arch in TORCHVISION_ARCHITECTURES:
        model = torchvision_model(arch, pretrained, classes)
    else:
        model = _smp_model(arch, encoder, pretrained, classes)
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
        output = trial(torch.zeros(min(smallest_batch, 2), 3, image_size_px, image_size_px, device="meta"))
        sum(logits.sum() for logits in (output if isinstance(output, tuple) else (output,))).backward()
    except (RuntimeError, ValueError, AssertionError) as error:
        reason = first_line(error)
        if "more than 1 value per channel" in reason:
            raise CocosegError("batch_size leaves one image per device, which is too few for BatchNorm; "
                               "expected at least 2 per device") from None  # fmt: skip
        raise CocosegError(f"image_size_px {image_size_px} does not work with this architecture: {reason}") from None
    for parameter, tried in zip(model.parameters(), trial.parameters(), strict=True):
        parameter.requires_grad_(tried.grad is not None)


def with_synchronized_norm(model: nn.Module) -> nn.Module:
    """Return the model with every BatchNorm synchronized over all processes."""
    # Not with torch's converter, which drops the activations inside timm's norm layers.
    from timm.layers.norm_act import convert_sync_batchnorm

    converted: nn.Module = convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
    return converted


def encoder_of(model: nn.Module) -> nn.Module | None:
    """Return the part that ImageNet weights are for: smp's encoder, torchvision's backbone; `None` without one."""
    network = model.network if isinstance(model, Padded | TwoHeads) else model
    encoder: nn.Module | None = getattr(network, "encoder", getattr(network, "backbone", None))
    return encoder


def parameter_count(model: nn.Module) -> int:
    """Return the number of parameters."""
    return sum(parameter.numel() for parameter in model.parameters())


def _smp_model(arch: str, encoder: str, pretrained: PretrainedName, classes: int) -> nn.Module:
    import segmentation_models_pytorch as smp

    architectures = smp.MODEL_ARCHITECTURES_MAPPING
    if arch not in architectures:
        known = sorted([*TORCHVISION_ARCHITECTURES, "fastscnn", *architectures])
        raise CocosegError(f"arch is {arch!r}; {_nearest(arch, known)}")
    _check_encoder(encoder)
    # For timm's encoders smp takes True or None; for its own, the name of the weights.
    weights: Any = None if pretrained == "none" else True if encoder.startswith("tu-") else "imagenet"

    def create() -> nn.Module:
        model: nn.Module = smp.create_model(arch, encoder_name=encoder, encoder_weights=weights, classes=classes)
        return model

    try:
        network = create() if weights is None else _with_weights(create, _smp_weights(encoder))
    except CocosegError:
        raise
    except Exception as error:  # timm and smp reject a combination with exceptions of all types
        raise CocosegError(f"encoder {encoder} does not work with arch {arch}: {first_line(error)}") from None
    if not architectures[arch].requires_divisible_input_shape:
        return network
    encoder_module: Any = network.encoder
    stride = encoder_module.output_stride
    return Padded(network, max(32, int(stride)) if isinstance(stride, int) else 32)


def _check_encoder(encoder: str) -> None:
    import segmentation_models_pytorch as smp
    import timm

    own = smp.encoders.get_encoder_names()
    if encoder in own or (encoder.startswith("tu-") and timm.is_model(encoder[3:].split(".")[0])):
        return
    known = [*own, *(f"tu-{name}" for name in timm.list_models())]
    raise CocosegError(f"encoder is {encoder!r}; {_nearest(encoder, known)}")


def _smp_weights(encoder: str) -> str:
    """Return where smp gets an encoder's weights, for an error message."""
    import segmentation_models_pytorch as smp
    import timm
    from huggingface_hub.constants import HF_HUB_CACHE

    if encoder.startswith("tu-"):
        settings = timm.get_pretrained_cfg(encoder[3:])
        repository = settings.hf_hub_id if settings else None
        if repository is None:
            raise CocosegError(f"pretrained is imagenet, but encoder {encoder} has no ImageNet weights; expected none")
        return f"model.safetensors of {repository}, which belongs under {HF_HUB_CACHE} (hf download {repository})"
    settings = smp.encoders.encoders[encoder]["pretrained_settings"]
    if "imagenet" not in settings:
        raise CocosegError(f"pretrained is imagenet, but encoder {encoder} has no ImageNet weights; expected none")
    repository, revision = settings["imagenet"]["repo_id"], settings["imagenet"]["revision"]
    return (
        f"model.safetensors of {repository}, which belongs under {HF_HUB_CACHE} "
        f"(hf download {repository} --revision {revision})"
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
            network = _with_weights(
                lambda: make(weights=None, weights_backbone=imagenet, aux_loss=True), _torchvision_weights(imagenet)
            )
        case "coco":
            network = _with_weights(lambda: make(weights=coco), _torchvision_weights(coco))
    heads: tuple[Any, Any] = (network.classifier, network.aux_classifier)
    if classes is not None:
        for head in heads:
            # Only the last layer is new; all others keep their pretrained weights.
            head[-1] = nn.Conv2d(head[-1].in_channels, classes, kernel_size=1)
    return TwoHeads(network)


def _torchvision_weights(weights: Any) -> str:
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    return f"{Path(weights.url).name} from {weights.url}, which belongs in {folder}"


def _with_weights(create: Callable[[], nn.Module], weights: str) -> nn.Module:
    """Return what `create` returns. Raises `CocosegError` if it cannot load its weights, which `weights` describes."""
    # torchvision's weights are pickles, which it would load in full: they may rebuild tensors but run no other code.
    os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"
    hub = logging.getLogger("huggingface_hub")
    level = hub.level
    try:
        hub.setLevel(logging.ERROR)  # offline it warns 22 times in 46 s; our error is one line
        return create()
    except pickle.UnpicklingError:
        raise CocosegError(
            f"pretrained weights contain more than tensors, and code in them is never run; delete them: {weights}"
        ) from None
    except Exception as error:  # URLError, httpx and huggingface_hub errors, a bad checksum: all mean the same here
        raise CocosegError(
            f"pretrained weights cannot be loaded ({first_line(error)}): {weights}; or train without: pretrained: none"
        ) from None
    finally:
        hub.setLevel(level)


def _quicken_batch_norm(model: nn.Module) -> None:
    # MobileNets come with a momentum of 0.01, for runs of a million steps. After a few hundred their running statistics
    # would still be the initial ones, and the model would fail in evaluation mode.
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.1


def _nearest(name: str, known: Iterable[str]) -> str:
    known = list(known)
    few = f"expected one of {', '.join(known)}" if len(known) < 40 else "see the encoders of smp and timm"
    return did_you_mean(name, known, few)
