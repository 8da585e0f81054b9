"""The parameters of the stage `evaluate`."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from cocoseg.model.params import Threshold
from cocoseg.pictures import GalleryImages
from cocoseg.scores.formats import PrimaryScoreName


class EvaluateParams(msgspec.Struct, frozen=True, kw_only=True):
    """The parameters of the stage `evaluate`. Preprocessing is not among them: it comes with the model."""

    bootstrap_samples: Annotated[int, Meta(ge=100, le=1_000_000, extra_json_schema={"examples": [10_000]})]
    """Resamples of the scored images behind each 95 % interval."""
    gallery_images: GalleryImages
    """Images in each gallery."""
    min_effect: Annotated[float, Meta(ge=0, le=1, extra_json_schema={"examples": [0.01]})]
    """Smaller differences do not matter: `cocoseg compare` calls two models `equivalent` within it."""
    primary_score: PrimaryScoreName
    threshold: Threshold
    """Binary: foreground is where its probability is above this. `auto` is the threshold with the best `primary_score`
    in validation, which `train` stores in `model.json`."""

    @staticmethod
    def beside(values: Mapping[str, Any]) -> Iterator[str]:
        """Yield what is wrong beside the parameters of other stages."""
        if values.get("task") == "multiclass" and values["threshold"] not in ("auto", 0.5):
            yield f"threshold is {values['threshold']:g}, which is for task: binary; expected 0.5 with task: multiclass"
