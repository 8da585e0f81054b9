"""The types of the parameters that name and size a model."""

from typing import Annotated, Literal

from msgspec import Meta

from cocoseg.core.errors import did_you_mean

TORCHVISION_ARCHITECTURES = ("deeplabv3_mobilenet", "deeplabv3_resnet50")
SMP_ARCHITECTURES = (
    "deeplabv3", "deeplabv3plus", "dpt", "fpn", "linknet", "manet", "pan", "pspnet", "segformer", "unet",
    "unetplusplus", "upernet",
)  # fmt: skip
PretrainedName = Literal["none", "imagenet", "coco"]
ResizeName = Literal["squash", "letterbox", "short_side", "crop"]
Threshold = Literal["auto"] | Annotated[float, Meta(gt=0, lt=1, extra_json_schema={"examples": [0.5]})]
SMALLEST_WINDOW = 64  # of `crop`, in pixels
ImageSize = Annotated[int, Meta(ge=16, le=4096, extra_json_schema={"examples": [128]})]


def check_architecture(arch: str, pretrained: PretrainedName) -> None:
    """Raise `ValueError` for a name that is misspelled, and for weights that nobody has published."""
    known = (*TORCHVISION_ARCHITECTURES, "fastscnn", *SMP_ARCHITECTURES)
    if arch not in known and (near := did_you_mean(arch, known, "")):  # others may come with another smp
        raise ValueError(f"arch is {arch!r}; {near}")
    if arch == "fastscnn" and pretrained != "none":
        raise ValueError(f"pretrained is {pretrained}, but fastscnn has no published weights; expected none")
    if arch not in TORCHVISION_ARCHITECTURES and pretrained == "coco":
        raise ValueError(
            f"pretrained is coco, but {arch} has no COCO weights; expected none or imagenet, "
            f"or arch: {' or '.join(TORCHVISION_ARCHITECTURES)}"
        )
