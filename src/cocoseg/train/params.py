"""The parameters of the stage `train`."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from cocoseg.coco.categories import Task
from cocoseg.core.redaction import without_secrets
from cocoseg.images.headers import ExifName
from cocoseg.model.params import (
    SMALLEST_WINDOW,
    ImageSize,
    PretrainedName,
    ResizeName,
    check_architecture,
    is_own,
    own_name,
    own_or,
)
from cocoseg.scores.formats import PrimaryScoreName

AugmentName = Literal["none", "light", "strong"]
FlipsName = Literal["none", "horizontal", "both", "all"]
AugmentChoice = Annotated[str, own_or(AugmentName)]
LossName = Literal["auto", "ce", "bce", "ohem", "dice", "ce_dice", "ce_lovasz", "focal", "lovasz", "tversky"]
CROSS_ENTROPIES = ("auto", "ce", "bce", "ohem", "ce_dice", "ce_lovasz")  # with or without another part
LossChoice = Annotated[str, own_or(LossName)]
SamplingName = Literal["uniform", "balanced"]
ClassWeightsName = Literal["none", "inverse", "effective"]
OptimizerName = Literal["adamw", "adam", "sgd"]
ScheduleName = Literal["poly", "constant", "cosine", "onecycle"]


class TrainParams(msgspec.Struct, frozen=True, kw_only=True):
    """The parameters of the stage `train`."""

    task: Task
    arch: str
    """The network: `deeplabv3_mobilenet` or `deeplabv3_resnet50` of torchvision, `fastscnn`, or an architecture of
    [smp](https://smp.readthedocs.io), such as `unet`, `fpn`, `segformer`; or [your own](your-own-code.md)."""
    encoder: str
    """The encoder of smp's architectures, any that smp knows, or `tu-` and a name of timm's, such as
    `tu-vit_small_patch16_dinov3`; [which work with what](recipes.md#an-encoder-of-today), and their licenses. smp's
    `mit_*` are for non-commercial use only."""
    pretrained: PretrainedName
    """The first weights: `imagenet` of the encoder, `coco` of torchvision's whole `deeplabv3_*`. With either, start at
    a smaller `lr`, such as 0.0003. Images are normalized as these weights expect; with `none`, by ImageNet's mean."""
    initial_weights: str
    """A folder with a trained model to [start from](experiments.md#start-from-a-trained-model). Overrides
    `pretrained`."""
    image_size_px: ImageSize
    """The width and height of the network's input."""
    resize: ResizeName
    """How an image gets that size: `squash` ignores its proportions, `letterbox` keeps them and fills up, `short_side`
    scales its shorter side to that size. `crop` keeps its own size: training sees random squares, prediction
    overlapping ones. Take it for small objects in large images."""
    crops_per_image: Annotated[int, Meta(ge=1, le=65_536, extra_json_schema={"examples": [16]})] | None
    """How many crops of each image an epoch shows with `resize: crop`. Without a value, as many as have the pixels of
    the image together: 16 of 256 pixels for an image of 1,024."""
    exif: ExifName
    # Kept in `model.json` for `cocoseg predict`. Training reads from the table of images which were turned.
    augment: AugmentChoice
    """Random changes of training images: `light` flips, scales by 0.8 to 1.25 and crops; `strong` scales by 0.5 to 2,
    turns by up to 10 degrees, and changes colors and sharpness too; or [your own](your-own-code.md#an-augmentation)."""
    flips: FlipsName
    """How `light` and `strong` flip: `horizontal`, `both` ways, or `all`, which adds quarter turns, for images without
    an up, as from satellites and microscopes. `none` for text, and for classes that tell left from right."""
    sampling: SamplingName
    """How often an epoch of the same length shows a training image: each once, or `balanced`: the more often, the rarer
    its rarest class, by the square root of one over the share of images with that class."""
    loss: LossChoice
    """What training minimizes. `auto` is `ce_dice`: cross-entropy alone takes epochs to find a small foreground.
    `ohem` is the cross-entropy of the hard pixels alone, with a probability of at most 0.7, at least one in 16. Or
    [your own](your-own-code.md#a-loss)."""
    class_weights: ClassWeightsName
    """More weight for rare classes, up to 1,000 times that of the commonest: `inverse` to their pixels, or by the
    `effective` number of their images. For the losses with a cross-entropy, `auto`, `ce`, `bce`, `ohem`, `ce_dice`,
    `ce_lovasz`, and for `focal`."""
    label_smoothing: Annotated[float, Meta(ge=0, lt=1, extra_json_schema={"examples": [0.1]})]
    """The share of the target that the losses with a cross-entropy spread over all classes: for uncertain labels."""
    optimizer: OptimizerName
    """The optimizer."""
    lr: Annotated[float, Meta(gt=0, le=1000, extra_json_schema={"examples": [0.001]})]
    """Its learning rate: 0.01 suits drawings. For photographs start at 0.001 from scratch, at 0.0003 or less with
    pretrained weights."""
    encoder_lr_factor: Annotated[float, Meta(gt=0, le=1000, extra_json_schema={"examples": [0.1]})]
    """The encoder's learning rate is `lr` times this factor."""
    freeze_encoder_epochs: Annotated[int, Meta(ge=0, le=100_000, extra_json_schema={"examples": [2]})]
    """So many first epochs leave the encoder as it came from `pretrained` or `initial_weights`: its weights, and the
    statistics of its BatchNorm, which is in evaluation mode."""
    weight_decay: Annotated[float, Meta(ge=0, le=1000, extra_json_schema={"examples": [0.01]})]
    """Its weight decay; none for biases, norms and tables of positions."""
    schedule: ScheduleName
    """How the learning rate changes after the warm-up. `onecycle` rises and falls along half a cosine each."""
    warmup_epochs: Annotated[float, Meta(ge=0, le=100_000, extra_json_schema={"examples": [1]})]
    """Epochs in which the learning rate rises from 0. With `onecycle`, 0 is 30 % of the run."""
    batch_size: Annotated[int, Meta(ge=1, le=65_536, extra_json_schema={"examples": [16]})]
    """Images per batch, over all devices."""
    accumulate_batches: Annotated[int, Meta(ge=1, le=65_536, extra_json_schema={"examples": [4]})]
    """Batches per step of the optimizer."""
    clip_grad_norm: Annotated[float, Meta(gt=0, le=1e6, extra_json_schema={"examples": [1.0]})] | None
    """Scales gradients down to this norm."""
    epochs: Annotated[int, Meta(ge=1, le=100_000, extra_json_schema={"examples": [10]})]
    """Passes over the training side."""
    patience: Annotated[int, Meta(ge=1, le=100_000, extra_json_schema={"examples": [5]})] | None
    """Stops when `primary_score` has not improved in validation for this many epochs. Epochs in which nothing but
    background is predicted do not count."""
    primary_score: PrimaryScoreName
    """The score whose best epoch in validation is kept, and that `cocoseg compare` judges by, so a change trains again.
    `auto` is `foreground_dice` for binary tasks, else `miou`."""
    ema_decay: Annotated[float, Meta(gt=0, lt=1, extra_json_schema={"examples": [0.99]})] | None
    """Validates and keeps an exponential average of the weights. The decay rises to this over the first steps."""
    compile: bool
    """Compiles the network with `torch.compile`: slower to start, then faster."""
    seed: Annotated[int, Meta(ge=0, lt=2**32, extra_json_schema={"examples": [0]})]
    """The seed of the first weights, of augmentation and of the order of images."""

    def __post_init__(self) -> None:
        if self.loss == "bce" and self.task == "multiclass":
            raise ValueError("loss is bce, which is for two classes; expected another, such as ce, or task: binary")
        check_architecture(self.arch, self.pretrained)
        for parameter, name in (("loss", self.loss), ("augment", self.augment)):
            if is_own(name):
                own_name(parameter, name)
        if self.flips in ("both", "all") and self.augment not in ("light", "strong"):
            raise ValueError(
                f"flips is {self.flips}, which has no effect on augment: {self.augment}; expected none, horizontal, or "
                "augment: light or strong"
            )
        self._check_loss()
        if self.resize != "crop" and self.crops_per_image is not None:
            raise ValueError(
                f"crops_per_image is {self.crops_per_image}, which has no effect on resize: {self.resize}; expected "
                "null, or resize: crop"
            )
        if self.resize == "crop" and self.image_size_px < SMALLEST_WINDOW:
            raise ValueError(
                f"image_size_px is {self.image_size_px}; expected at least {SMALLEST_WINDOW} with resize: crop"
            )
        if "://" in self.initial_weights:
            raise ValueError(
                f"initial_weights is {without_secrets(self.initial_weights)}; expected a local folder, which dvc get, "
                "dvc import or hf download fills"
            )
        if self.freeze_encoder_epochs > self.epochs:
            raise ValueError(
                f"freeze_encoder_epochs is {self.freeze_encoder_epochs}; expected at most epochs, {self.epochs}"
            )
        if self.warmup_epochs > self.epochs:
            raise ValueError(f"warmup_epochs is {self.warmup_epochs:g}; expected at most epochs, {self.epochs}")

    def _check_loss(self) -> None:
        """Raise `ValueError` for what would have no effect on the loss."""
        for key, value, unset, losses in (
            ("class_weights", self.class_weights, "none", (*CROSS_ENTROPIES, "focal")),
            ("label_smoothing", self.label_smoothing, 0, CROSS_ENTROPIES),
        ):
            if value != unset and self.loss not in losses:
                raise ValueError(
                    f"{key} is {value}, which has no effect on loss: {self.loss}; expected {unset}, or one of the "
                    f"losses {', '.join(losses)}"
                )
