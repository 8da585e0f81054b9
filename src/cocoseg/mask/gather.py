"""The tables, metrics and remarks of all images that were painted."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from cocoseg.accounts import account, refuse_many_defects
from cocoseg.coco.categories import BACKGROUND, IGNORE, CategoryMapping
from cocoseg.coco.file_names import mask_name
from cocoseg.coco.format import Box, Image
from cocoseg.core.errors import CocosegError
from cocoseg.mask.objects import Disagreement, Visibility
from cocoseg.tables import InstanceRow, MaskRow, class_counts

_OF_CLASSES = "annotations of the chosen classes"
_PLACE = "data/filtered/instances.json"
_MOST_DISAGREEING = 0.05  # of the annotations: COCO itself has 1.4 %
_EXAMPLES = 3
_NO_CLASS = {BACKGROUND, IGNORE}
_NORMALIZED = "normalized_coordinates"
_OFTEN = {
    "box": "; often row-major RLE, RLE without its leading 0, x and y swapped, a bbox of two corners, images scaled "
    "but not their polygons, tiles whose boxes reach over the border, or an orientation that the tool followed",
    "area": "; often holes, which COCO fills, corners out of order, outlines of OpenCV, which lose a row and a column, "
    "or the area of the bbox or the image, which min_area_px alone reads",
}
_FEW = 20  # annotations
_MARGIN = 0.25  # of the width and the height
_PICKS = (min, min, max, max)  # of the edges of an extent


class PaintedImage(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What became of one image and its annotations. `pixels`: of each value that its mask has; none if dropped.

    `sha256`: that of the pixels of its mask, so that tables and fingerprints tell masks of equal counts apart.
    `first`: the first annotation of each defect. `disagreements`: what annotations say of themselves and do not paint.
    `nested`: annotations with a polygon in another of their own. `extent`: what all annotations reach, see `extent_of`.
    `unchecked`: those without a box and an area of their own to compare with.
    `lost`: objects whose annotation is broken, here or in `filter`: why, and the box that they say; the boxes of
    `lost_ignored` became 255, and `lost_without_box` have no usable box. `lost_before`: those of `filter`, by reason.
    """

    dropped: str | None
    dropped_annotations: dict[str, int]
    first: dict[str, str] = {}
    pixels: dict[int, int] = {}
    sha256: str | None = None
    instances: dict[int, int] = {}
    numbered: tuple[int, ...] = ()
    contested: int = 0
    clipped: int = 0
    ignored_parts: int = 0
    converted: int = 0
    visibility: Visibility = Visibility()
    disagreements: list[Disagreement] = []
    nested: list[int] = []
    extent: tuple[float, float, float, float] | None = None
    unchecked: int = 0
    lost: list[tuple[str, Box | None]] = []
    lost_before: dict[str, int] = {}
    lost_ignored: int = 0
    lost_without_box: int = 0

    def defects(self) -> dict[str, int]:
        """Return what was wrong with its annotations, by reason."""
        noted = {
            "clipped": self.clipped,
            "ignored_parts": self.ignored_parts,
            "nested_parts": len(self.nested),
            "lost_without_box": self.lost_without_box,
            "mostly_hidden": sum(self.visibility.mostly_hidden.values()),
            "box_disagrees": sum(one.kind == "box" for one in self.disagreements),
        }
        here, before = self.dropped_annotations, self.lost_before
        return _named({reason: here.get(reason, 0) + before.get(reason, 0) for reason in here | before} | noted)

    def boxes(self) -> list[tuple[str, Box]]:
        """Return the boxes that its lost and its disagreeing annotations say, each with the reason."""
        said = [("box_disagrees", one.said_box()) for one in self.disagreements if one.kind == "box"]
        return [*((reason, box) for reason, box in self.lost if box), *said]


class Masks(msgspec.Struct, frozen=True, kw_only=True):
    """The tables and metrics of all images whose masks were written.

    `defects`: of each image that has any, how many by reason: annotations dropped, clipped, mostly hidden or painting
    another box than they say, and parts ignored. `boxes`: of these images, as `PaintedImage.boxes` gives them.
    """

    rows: list[MaskRow]
    instance_rows: list[InstanceRow]
    mask_of_image: dict[str, str]
    defects: dict[str, dict[str, int]]
    boxes: dict[str, list[tuple[str, Box]]]
    metrics: dict[str, Any]
    remarks: list[str]
    """What often has a cause that should be looked for, a line each."""


class _Defects(msgspec.Struct):
    """The broken annotations of all images, as `refuse_many_defects` takes them."""

    dropped: Counter[str]
    first: dict[str, str]

    @property
    def defects(self) -> int:
        """How many there are."""
        return sum(self.dropped[reason] for reason in self.first)


def gather(
    painted: Sequence[tuple[Image, PaintedImage]],
    mapping: CategoryMapping,
    category_of: Mapping[int, int],
    max_defects: float,
) -> Masks:
    """Return what there is to say of the painted images. `category_of`: the category of each annotation that came in.

    Raises `CocosegError` if no mask is left, too many annotations are broken, or all coordinates are normalized.
    """
    names = dict(enumerate(mapping.classes)) | {IGNORE: "ignore"}
    outcomes = [outcome for _, outcome in painted]
    found = _Defects(Counter(), {})
    for outcome in outcomes:
        found.dropped.update(outcome.dropped_annotations)
        found.first = outcome.first | found.first
    _refuse_normalized(found, len(category_of))
    refuse_many_defects(found, len(category_of), max_defects, _OF_CLASSES, "max_defects", _PLACE)
    rows = [row for image, outcome in painted for row in _mask_rows(image, outcome, names)]
    if not rows:
        images = Counter(outcome.dropped for outcome in outcomes if outcome.dropped is not None)
        reasons = ", ".join(f"{count} {reason}" for reason, count in [*images.items(), *found.dropped.items()])
        raise CocosegError(f"{_PLACE}: no mask is left of {len(painted)} images ({reasons})")
    metrics = _metrics(outcomes, rows, names, len(category_of), found)
    whole = [(image.file_name, outcome) for image, outcome in painted if not outcome.dropped]
    return Masks(
        rows=rows,
        instance_rows=[row for image, outcome in painted for row in _instance_rows(image, outcome, category_of)],
        mask_of_image={name: mask_name(name) for name, _ in whole},
        defects={name: defects for name, outcome in whole if (defects := outcome.defects())},
        boxes={name: boxes for name, outcome in whole if (boxes := outcome.boxes())},
        metrics=metrics,
        remarks=list(_remarks(painted, metrics)),
    )


def _refuse_normalized(found: _Defects, annotations: int) -> None:
    """Raise `CocosegError` if most coordinates are shares of the image: more than a broken annotation or two."""
    normalized = found.dropped[_NORMALIZED]
    if normalized > annotations / 2:
        raise CocosegError(
            f"{_PLACE}: {normalized} of {annotations} annotations are normalized, all of their coordinates lie between "
            f"0 and 1, first: {found.first[_NORMALIZED]}; multiply x by the width and y by the height of the image"
        )


def _mask_rows(image: Image, outcome: PaintedImage, names: Mapping[int, str]) -> Iterator[MaskRow]:
    for row, index in enumerate(sorted(outcome.pixels.keys() | outcome.instances.keys())):
        yield MaskRow(
            image_id=image.id,
            file_name=image.file_name,
            class_index=index,
            class_name=names[index],
            instances=outcome.instances.get(index, 0),
            pixels=outcome.pixels.get(index, 0),
            sha256=None if row else outcome.sha256,
        )


def _instance_rows(image: Image, outcome: PaintedImage, category_of: Mapping[int, int]) -> Iterator[InstanceRow]:
    for number, annotation_id in enumerate(outcome.numbered, start=1):
        yield InstanceRow(
            image_id=image.id,
            file_name=image.file_name,
            number=number,
            annotation_id=annotation_id,
            category_id=category_of[annotation_id],
        )


def _metrics(
    outcomes: Sequence[PaintedImage],
    rows: Sequence[MaskRow],
    names: Mapping[int, str],
    annotations: int,
    found: _Defects,
) -> dict[str, Any]:
    """Return `metrics/mask.json`; `annotations` is how many came in."""
    images: Counter[str] = Counter(outcome.dropped for outcome in outcomes if outcome.dropped is not None)
    classes = class_counts(rows, names.values())
    total = sum(totals["pixels"] for totals in classes.values())
    disagreeing = [one for outcome in outcomes for one in outcome.disagreements]
    return {
        "images": {
            **account(len(outcomes), images),
            "negatives": sum(not outcome.dropped and not outcome.pixels.keys() - _NO_CLASS for outcome in outcomes),
        },
        "annotations": {
            **account(annotations, found.dropped),
            "first": dict(sorted(found.first.items())),
            "clipped": sum(outcome.clipped for outcome in outcomes),
            "ignored_parts": sum(outcome.ignored_parts for outcome in outcomes),
            "converted": _named({"segmentation": sum(outcome.converted for outcome in outcomes)}),
            "box_disagrees": sum(one.kind == "box" for one in disagreeing),
            "area_disagrees": sum(one.kind == "area" for one in disagreeing),
            **_named({"nested_parts": sum(len(outcome.nested) for outcome in outcomes)}),
        },
        "lost_objects": sum(len(outcome.lost) for outcome in outcomes),
        **_named({"lost_in_filter": sum(sum(outcome.lost_before.values()) for outcome in outcomes)}),
        "lost_ignored": sum(outcome.lost_ignored for outcome in outcomes),
        "lost_without_box": sum(outcome.lost_without_box for outcome in outcomes),
        "ignored_share": round(classes["ignore"]["pixels"] / total, 6),
        "contested_share": round(sum(outcome.contested for outcome in outcomes) / total, 6),
        "hidden": _by_class((outcome.visibility.hidden for outcome in outcomes), names),
        "mostly_hidden": _by_class((outcome.visibility.mostly_hidden for outcome in outcomes), names),
        "classes": classes,
    }


def _named(counts: Mapping[str, int]) -> dict[str, int]:
    return {name: count for name, count in counts.items() if count}


def _by_class(counts: Iterable[Mapping[int, int]], names: Mapping[int, str]) -> dict[str, int]:
    total: Counter[int] = Counter()
    for own in counts:
        total.update(own)
    return {names[index]: total[index] for index in sorted(total)}


def _remarks(painted: Sequence[tuple[Image, PaintedImage]], metrics: Mapping[str, Any]) -> Iterator[str]:
    """Yield a line where more annotations than usual paint what they do not say, or what nobody meant."""
    own, kept, often = metrics["annotations"], max(1, metrics["annotations"]["kept"]), _OFTEN
    unchecked = sum(outcome.unchecked for _, outcome in painted)
    if unchecked > kept / 2:
        yield (
            f"{unchecked} of {kept} annotations have neither bbox nor area to compare what they paint with; look at "
            "plots/mask/preview.png"
        )
    nested = [(image.file_name, one) for image, outcome in painted for one in outcome.nested]
    if len(nested) > _MOST_DISAGREEING * kept:
        yield (
            f"{len(nested)} of {kept} annotations have a polygon in another of their own, first: annotation "
            f"{nested[0][1]} of {nested[0][0]}; COCO fills it; write an annotation with a hole as RLE"
        )
    extents = [outcome.extent for _, outcome in painted if outcome.extent]
    if kept >= _FEW and extents:
        left, top, right, lower = (pick(edges) for pick, edges in zip(_PICKS, zip(*extents, strict=True), strict=True))
        if all(4 * before <= after >= _MARGIN for before, after in ((left, 1 - right), (top, 1 - lower))):
            yield (
                f"all {kept} annotations lie in the upper left {right:.0%} × {lower:.0%} of their images; often "
                "coordinates in percent or in thousandths, or images that were scaled without their annotations"
            )
    for noun, field in (("box", "bbox"), ("area", "area")):
        count = own[f"{noun}_disagrees"]
        if count > _MOST_DISAGREEING * kept:
            worst = sorted(
                (-one.off, image.file_name, number, one)
                for image, outcome in painted
                for number, one in enumerate(outcome.disagreements)
                if one.kind == noun
            )[:_EXAMPLES]
            examples = "; ".join(f"{name}: {one.what()}" for _, name, _, one in worst)
            yield f"{count} of {kept} annotations paint another {noun} than their {field} says: {examples}{often[noun]}"
            often = {"area": ""}
