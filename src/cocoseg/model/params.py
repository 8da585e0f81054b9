"""The types of the parameters that name and size a model."""

import re
from typing import Annotated, Any, Literal, get_args

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
OWN_PACKAGE = "custom"  # below src/, of the user
_OWN_FORM = f"{OWN_PACKAGE}/FILE.py:NAME"
_OWN_NAME = re.compile(rf"{OWN_PACKAGE}((?:/[a-z_]\w*)+)\.py:([a-z_]\w*)", re.ASCII | re.IGNORECASE)
ImageSize = Annotated[int, Meta(ge=16, le=4096, extra_json_schema={"examples": [128]})]


def is_own(name: str) -> bool:
    """Return whether a parameter means a function of the user's own, whether or not its form is right."""
    return name.startswith(f"{OWN_PACKAGE}/") or ".py" in name


def own_or(names: Any) -> Meta:
    """Return what a text that is one of `names`, a `Literal`, or means a function of the user's own must match."""
    known = get_args(names)
    pattern = rf"^({'|'.join(known)})$|^{OWN_PACKAGE}/|\.py"  # as `is_own`
    return Meta(pattern=pattern, extra_json_schema={"enum": [*known, _OWN_FORM]})


def own_name(parameter: str, name: str) -> tuple[str, str]:
    """Return the file below `src/`, without `.py`, and the function that `name` names; else raise `ValueError`."""
    matched = _OWN_NAME.fullmatch(name)
    if matched is None:
        raise ValueError(
            f"{parameter} is {name!r}; expected {_OWN_FORM}: a Python file below src/{OWN_PACKAGE} and the name of a "
            "function in it"
        )
    return OWN_PACKAGE + matched[1], matched[2]


def check_architecture(arch: str, pretrained: PretrainedName) -> None:
    """Raise `ValueError` for a name that is misspelled, and for weights that nobody has published."""
    if is_own(arch):
        own_name("arch", arch)
        if pretrained != "none":
            raise ValueError(f"pretrained is {pretrained}, but {arch} loads weights of its own; expected none")
        return
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
