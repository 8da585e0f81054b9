"""Which of the scored images a model has met before it was trained here."""

from collections import Counter
from collections.abc import Iterable, Sequence

import msgspec

from cocoseg.model.weights import ModelInfo
from cocoseg.tables import ImageRow


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """How many of the scored images the weights were trained on, and how many more perhaps."""

    images: int
    images_perhaps: int

    def warnings(self, scored: int) -> list[str]:
        """What must be said of the scores of `scored` images, if anything."""
        if not self.images and not self.images_perhaps:
            return []
        return [
            f"{self.images} of the {scored} scored images were among those that the COCO weights were trained on, and "
            f"{self.images_perhaps} perhaps: the scores are too good"
        ]


def seen_in_pretraining(info: ModelInfo, file_names: Sequence[str], images: Iterable[ImageRow]) -> Seen | None:
    """Those that a `pretrained: coco` model has met, by the folder of COCO's own that they come from.

    Its weights come from train2017, which holds all of train2014 and 35,504 of val2014's 40,504 images; `None` for
    other models.
    """
    if info.params.get("pretrained") != "coco":
        return None
    origin_of = {row.file_name: row.origin for row in images}
    counts = Counter(origin_of.get(file_name) for file_name in file_names)
    return Seen(images=counts["train2017"] + counts["train2014"], images_perhaps=counts["val2014"])
