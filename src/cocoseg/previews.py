"""A look at the masks: some images with their colour maps, and how often each class comes."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from cocoseg.pairs import pairs, read_pair
from cocoseg.pictures import Pixels, Row, gallery
from cocoseg.showcase import chosen_images
from cocoseg.tables import MaskRow


class ClassShare(msgspec.Struct, frozen=True, kw_only=True):
    """One bar of `plots/mask/classes.csv`. `pixel_share` is in percent of all pixels."""

    class_name: str
    images: int
    instances: int
    pixel_share: float


def preview(
    mask_of_image: Mapping[str, str], images: Path, masks: Path, class_names: Sequence[str], count: int
) -> Pixels:
    """`count` images: input, colour map and overlay."""
    shown = []
    for pair in pairs(chosen_images(mask_of_image, count), mask_of_image, images, masks):
        image, mask = read_pair(pair, len(class_names))
        shown.append(Row(image=image, truth=mask, caption=pair.file_name))
    return gallery(shown, class_names)


def class_shares(rows: Sequence[MaskRow]) -> list[ClassShare]:
    """Images, instances and share of pixels of each class that a mask has, in the order of class indices."""
    total = sum(row.pixels for row in rows)
    shares = []
    for index, name in sorted({(row.class_index, row.class_name) for row in rows}):
        own = [row for row in rows if row.class_index == index]
        shares.append(
            ClassShare(
                class_name=name,
                images=sum(row.pixels > 0 for row in own),
                instances=sum(row.instances for row in own),
                pixel_share=round(100 * sum(row.pixels for row in own) / total, 4),
            )
        )
    return shares
