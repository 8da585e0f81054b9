"""The parameters of the stage `train`."""

from typing import Annotated

import msgspec
from msgspec import Meta

from cocoseg.coco.categories import Task
from cocoseg.images.decode import ExifName
from cocoseg.model.architectures import PretrainedName
from cocoseg.model.preprocessing import ImageSize, ResizeName
from cocoseg.train.augment import AugmentName
from cocoseg.train.class_weights import ClassWeightsName
from cocoseg.train.losses import LossName
from cocoseg.train.optimizer import OptimizerName, ScheduleName


class TrainParams(msgspec.Struct, frozen=True, kw_only=True):
    """The parameters of the stage `train`."""

    task: Task
    arch: str
    encoder: str
    pretrained: PretrainedName
    image_size_px: ImageSize
    resize: ResizeName
    exif: ExifName
    """Kept in `model.json` for `cocoseg predict`; training reads from the table of images which were turned."""
    augment: AugmentName
    loss: LossName
    class_weights: ClassWeightsName
    optimizer: OptimizerName
    lr: Annotated[float, Meta(gt=0, le=1000, extra_json_schema={"examples": [0.001]})]
    weight_decay: Annotated[float, Meta(ge=0, le=1000, extra_json_schema={"examples": [0.01]})]
    schedule: ScheduleName
    warmup_epochs: Annotated[float, Meta(ge=0, le=100_000, extra_json_schema={"examples": [1]})]
    batch_size: Annotated[int, Meta(ge=1, le=65_536, extra_json_schema={"examples": [16]})]
    accumulate_batches: Annotated[int, Meta(ge=1, le=65_536, extra_json_schema={"examples": [4]})]
    clip_grad_norm: Annotated[float, Meta(gt=0, le=1e6, extra_json_schema={"examples": [1.0]})] | None
    epochs: Annotated[int, Meta(ge=1, le=100_000, extra_json_schema={"examples": [10]})]
    patience: Annotated[int, Meta(ge=1, le=100_000, extra_json_schema={"examples": [5]})] | None
    ema_decay: Annotated[float, Meta(gt=0, lt=1, extra_json_schema={"examples": [0.99]})] | None
    compile: bool
    seed: Annotated[int, Meta(ge=0, lt=2**32, extra_json_schema={"examples": [0]})]

    def __post_init__(self) -> None:
        if self.loss == "bce" and self.task == "multiclass":
            raise ValueError("loss is bce, which is for two classes; expected another, such as ce, or task: binary")
        if self.warmup_epochs > self.epochs:
            raise ValueError(f"warmup_epochs is {self.warmup_epochs:g}; expected at most epochs, {self.epochs}")
