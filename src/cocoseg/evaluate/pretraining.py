"""Which of the scored images the weights that a model started from were trained on."""

from collections import Counter
from collections.abc import Iterable, Sequence

import msgspec

from cocoseg.model.weights import ModelInfo
from cocoseg.tables import ImageRow


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """How many of the scored images the pretrained weights were trained on, and how many more perhaps."""

    images: int
    images_perhaps: int

    def warnings(self, scored: int) -> list[str]:
        """Return the warning about the scores of `scored` images, or none if all of them are new to the weights."""
        if not self.images and not self.images_perhaps:
            return []
        return [
            f"{self.images} of the {scored} scored images were used to train the COCO weights, and "
            f"{self.images_perhaps} more may have been: the scores are too good"
        ]


def seen_in_pretraining(info: ModelInfo, file_names: Sequence[str], images: Iterable[ImageRow]) -> Seen | None:
    """Count the images that a `pretrained: coco` model was pretrained on; `None` for other models.

    They are known by COCO's folder, the `origin` of an image: the weights come from train2017, which holds all of
    train2014 and 35,504 of val2014's 40,504 images.
    """
    if info.pretrained != "coco":
        return None
    origin_of = {row.file_name: row.origin for row in images}
    counts = Counter(origin_of.get(file_name) for file_name in file_names)
    return Seen(images=counts["train2017"] + counts["train2014"], images_perhaps=counts["val2014"])


def start_warnings(info: ModelInfo) -> list[str]:
    """Return the warning about a start from `initial_weights` of other data, or none: other sides may be among it."""
    if info.initial is None or info.initial.data_fingerprint == info.data.fingerprint:
        return []
    return ["the initial weights may have been trained on images that are scored here; then the scores are too good"]
