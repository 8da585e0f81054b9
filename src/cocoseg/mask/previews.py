"""Show masks to people: some images with their color maps, and how often each class comes."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import msgspec

from cocoseg.coco.format import Box
from cocoseg.images.pairs import pairs, read_pair
from cocoseg.pictures.gallery import gallery, row
from cocoseg.pictures.layout import Pixels
from cocoseg.tables import MaskRow, class_counts


class ClassShare(msgspec.Struct, frozen=True, kw_only=True):
    """One bar of `plots/mask/classes.csv`. `pixel_share` is in percent of all pixels."""

    class_name: str
    images: int
    instances: int
    pixel_share: float


def preview(
    captions: Mapping[str, str],
    mask_of_image: Mapping[str, str],
    images: Path,
    masks: Path,
    class_names: Sequence[str],
    title: str,
    turned: Collection[str] = (),
    boxes: Mapping[str, Sequence[tuple[str, Box]]] = MappingProxyType({}),
) -> Pixels:
    """Draw the images that have captions, in that order: input, color map and overlay.

    `boxes`: of images, each with a word, to be drawn into color map and overlay.
    """
    shown = []
    for pair, caption in zip(
        pairs(list(captions), mask_of_image, images, masks, turned), captions.values(), strict=True
    ):
        image, mask = read_pair(pair, len(class_names))
        shown.append(row(image, mask, caption=caption, boxes=boxes.get(pair.file_name, ())))
    return gallery(shown, class_names, title)


# What is noted of annotations that stay, the gravest first.
_NOTED = ("box_disagrees", "undecided", "mostly_hidden", "clipped")


def most_defective(defects: Mapping[str, Mapping[str, int]], count: int) -> dict[str, str]:
    """Return captions of the `count` images with the most defects; what is only noted comes after what was lost."""

    def gravity(name: str) -> list[int]:
        lost = sum(count for reason, count in defects[name].items() if reason not in _NOTED)
        return [-lost, *(-defects[name].get(reason, 0) for reason in _NOTED)]

    ordered = sorted(defects, key=lambda name: (gravity(name), name))
    return {
        name: f"{name}: " + ", ".join(f"{number} {reason}" for reason, number in sorted(defects[name].items()))
        for name in ordered[:count]
    }


def class_shares(rows: Sequence[MaskRow]) -> list[ClassShare]:
    """Return images, instances and share of pixels of each class that a mask has, in the order of class indices."""
    names = [name for _, name in sorted({(row.class_index, row.class_name) for row in rows})]
    totals = class_counts(rows, names)
    pixels = sum(own["pixels"] for own in totals.values())
    return [
        ClassShare(
            class_name=name,
            images=own["images"],
            instances=own["instances"],
            pixel_share=round(100 * own["pixels"] / pixels, 4),
        )
        for name, own in totals.items()
    ]
