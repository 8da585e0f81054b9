"""The encoders of smp's architectures: which there are, where their weights come from, and how these expect images."""

import inspect
import logging
import os
import pickle
from collections.abc import Callable
from typing import Any, TypeVar

import torch

from cocoseg.core.errors import CocosegError, did_you_mean, first_line
from cocoseg.model.params import PretrainedName
from cocoseg.model.preprocessing import MEAN, STD, Rgb

Loaded = TypeVar("Loaded")

# What divides the sides of images in most networks: five times they halve them.
STRIDE = 32

# smp and timm are imported where they are used: each takes seconds, and torchvision's models need neither.


def check_encoder(encoder: str) -> None:
    """Raise `CocosegError` unless smp or timm has this encoder."""
    import segmentation_models_pytorch as smp
    import timm

    own = smp.encoders.get_encoder_names()
    if encoder in own:
        return
    name = encoder.removeprefix("tu-")
    if name != encoder and timm.is_model(name.partition(".")[0]):
        try:
            timm.get_pretrained_cfg(name)
        except RuntimeError:
            known = [f"tu-{one}" for one in timm.list_pretrained(f"{name.partition('.')[0]}.*")]
            otherwise = f"expected one of {', '.join(known)}"
            raise CocosegError(f"encoder is {encoder!r}; {did_you_mean(encoder, known, otherwise)}") from None
        return
    known = [*own, *(f"tu-{name}" for name in timm.list_models())]
    raise CocosegError(f"encoder is {encoder!r}; {did_you_mean(encoder, known, 'see the encoders of smp and timm')}")


def encoder_options(arch: str, encoder: str, square_px: int | None) -> dict[str, Any]:
    """Return the options with which timm builds an encoder for images of any size, or else for those of `square_px`.

    Raises `CocosegError` for an encoder that takes one size only where `square_px` is `None`: sizes vary.
    """
    import timm

    settings = timm.get_pretrained_cfg(encoder[3:]) if encoder.startswith("tu-") else None
    if settings is None or not settings.fixed_input_size:
        return {}
    with torch.device("meta"):  # without memory, and without a draw from the generator of the first weights
        plain: Any = timm.create_model(encoder[3:])
    if not hasattr(plain, "dynamic_img_size"):
        if "img_size" not in inspect.signature(type(plain)).parameters:
            return {}
        if square_px is None:
            raise CocosegError(
                f"encoder {encoder} takes images of one size, and with resize: short_side each has its own; expected "
                "squash or letterbox, or another encoder"
            )
        return {"img_size": -(-square_px // STRIDE) * STRIDE}
    patch, grid = plain.patch_embed.patch_size, plain.patch_embed.grid_size
    if arch != "dpt" or STRIDE % patch[0] == 0:
        return {"dynamic_img_size": True}
    # smp's DPT enlarges patches to a stride of 4 and shrinks them to 32, which fails for those of 14. timm resamples
    # their weights to 16, Beyer et al. 2023, arXiv 2212.08013, and with this size the table of positions stays.
    return {"dynamic_img_size": True, "patch_size": 16, "img_size": (16 * grid[0], 16 * grid[1])}


def normalization(arch: str, encoder: str, pretrained: PretrainedName) -> tuple[Rgb, Rgb]:
    """Return the mean and standard deviation that the model's first weights expect, for values in [0, 1].

    Those of smp's encoders come from timm's or smp's description of the weights. torchvision's models have ImageNet's.
    Without weights all do as well, and these are used. Raises `CocosegError` for weights that expect BGR.
    """
    import segmentation_models_pytorch as smp

    if pretrained != "imagenet" or arch not in smp.MODEL_ARCHITECTURES_MAPPING:
        return MEAN, STD
    # smp's own lie beside the weights on the Hub, and were downloaded with them.
    found = with_weights(lambda: smp.encoders.get_preprocessing_params(encoder), weights_place(encoder))
    if found["input_space"] != "RGB":
        raise CocosegError(
            f"encoder {encoder} has weights for {found['input_space']} images, and images here are RGB; expected "
            "another encoder, or pretrained: none"
        )
    (red, green, blue), (red_std, green_std, blue_std) = (
        [float(value) / found["input_range"][1] for value in found[key]] for key in ("mean", "std")
    )
    return (red, green, blue), (red_std, green_std, blue_std)


def weights_size_px(encoder: str) -> int | None:
    """Return the width and height of the images that the weights of timm's encoder were trained with."""
    import timm

    settings = timm.get_pretrained_cfg(encoder.removeprefix("tu-"))
    return settings.input_size[-1] if settings else None


def weights_place(encoder: str) -> str:
    """Return where smp gets an encoder's weights, for an error message. Raises `CocosegError` if there are none."""
    import segmentation_models_pytorch as smp
    import timm
    from huggingface_hub.constants import HF_HUB_CACHE

    if encoder.startswith("tu-"):
        settings = timm.get_pretrained_cfg(encoder[3:])
        repository = settings.hf_hub_id if settings else None
        if settings and settings.url and repository is None:
            return str(settings.url)
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


def with_weights(load: Callable[[], Loaded], weights: str) -> Loaded:
    """Return what `load` returns. Raises `CocosegError` if it cannot load its weights, which `weights` describes."""
    # torchvision's weights are pickles, which it would load in full: they may rebuild tensors but run no other code.
    os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"
    hub = logging.getLogger("huggingface_hub")
    level = hub.level
    try:
        hub.setLevel(logging.ERROR)  # offline it warns 22 times in 46 s; our error is one line
        return load()
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
