"""The parameters of the stage `evaluate`."""

from typing import Annotated

import msgspec
from msgspec import Meta

from cocoseg.pictures import GalleryImages
from cocoseg.scores.formats import ScoreName


class EvaluateParams(msgspec.Struct, frozen=True, kw_only=True):
    """The parameters of the stage `evaluate`. Preprocessing is not among them: it comes with the model."""

    bootstrap_samples: Annotated[int, Meta(ge=100, le=1_000_000, extra_json_schema={"examples": [10_000]})]
    """Resamples of the scored images behind each 95 % interval."""
    gallery_images: GalleryImages
    """Images in each gallery."""
    min_effect: Annotated[float, Meta(ge=0, le=1, extra_json_schema={"examples": [0.01]})]
    """Smaller differences do not matter: `cocoseg compare` calls two models `equivalent` within it."""
    primary_score: ScoreName
    """The score that `cocoseg compare` judges by."""
