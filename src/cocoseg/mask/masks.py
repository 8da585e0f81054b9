"""From annotations to label maps: every annotation painted or counted under the reason why not."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

import msgspec
from msgspec import UNSET
from tqdm import tqdm

from cocoseg.coco.categories import BACKGROUND, IGNORE, CategoryMapping
from cocoseg.coco.file_names import mask_name
from cocoseg.coco.format import Annotation, IgnoredRegion, Image, Instances, LostObject
from cocoseg.core.errors import CocosegError, did_you_mean
from cocoseg.core.files import write_bytes
from cocoseg.images.png import encode_png
from cocoseg.mask.gather import Masks, PaintedImage, gather
from cocoseg.mask.objects import (
    Visibility,
    box_of,
    disagreements,
    extent_of,
    ignored_boxes,
    pixels_of,
    says_nothing,
    visibility,
)
from cocoseg.mask.painting import Maps, Paint, paint, pixels_sha256
from cocoseg.mask.params import MaskParams
from cocoseg.mask.segmentation import RunLengths, SegmentationDefect, Shape, painted_boxes, shapes_of
from cocoseg.tables import ImageRow, first_of_status
from cocoseg.workers import ahead, process_pool, worker_count

_CHUNK_IMAGES = 32
_SHOWN_BYTES = 40  # of a broken segmentation
_MOST_INSTANCES = 65_535  # what a 16-bit instance map can number
_RLE = '{"size": [height, width], "counts": […]} with runs of background and object in turn, down the columns'
_POLYGONS = "[[x, y, x, y, …], …], a list for each polygon"
# What is expected in place of a defect whose name begins like this.
_FORMS = {
    "rle_": _RLE,
    "segmentation_of_wrong_type": f"{_POLYGONS}, or {_RLE}",
    **dict.fromkeys(("flat_polygon", "odd_polygon", "polygon_of_non_numbers", "rings_of_points"), _POLYGONS),
}


class Painter(msgspec.Struct, frozen=True, kw_only=True):
    """All that painting one image needs beside it; travels to the worker processes once a chunk."""

    params: MaskParams
    class_of_category: dict[int, int]
    rank_of_category: dict[int, int]
    masks: Path
    instance_masks: Path


def priority_ranks(mapping: CategoryMapping, priority: Sequence[str]) -> dict[int, int]:
    """Return the rank of each category id: its place in `priority`, 0 the highest; those not listed come last."""
    names = [category.name for category in mapping.categories]
    for name in priority:
        if name not in names:
            hint = did_you_mean(name, names, f"expected some of {', '.join(names)}")
            raise CocosegError(f"params.yaml: priority names {name!r}, which is not among the classes; {hint}")
    return {
        category.category_id: priority.index(category.name) if category.name in priority else len(priority)
        for category in mapping.categories
    }


def write_masks(
    instances: Instances,
    images: Sequence[ImageRow],
    mapping: CategoryMapping,
    params: MaskParams,
    masks: Path,
    instance_masks: Path,
) -> Masks:
    """Paint and write the mask of every sound image, and account for every annotation.

    Raises `CocosegError` if more than `max_skipped` of the images are missing or broken, or no mask is left.
    """
    painter = Painter(
        params=params,
        class_of_category={category.category_id: category.class_index for category in mapping.categories},
        rank_of_category=priority_ranks(mapping, params.priority if params.overlap == "priority" else ()),
        masks=masks,
        instance_masks=instance_masks,
    )
    known = {row.image_id: row for row in images}
    rows = [known.get(image.id) or _missing(image) for image in instances.images]
    _refuse_many_skipped(rows, instances.images, params.max_skipped)
    annotations = _by_image(instances.images, instances.annotations)
    lost = _by_image(instances.images, instances.lost)
    regions = _by_image(instances.images, instances.ignored_regions)
    work = [
        (_sized(image, row), annotations[image.id], lost[image.id], regions[image.id], row.status)
        for image, row in zip(instances.images, rows, strict=True)
    ]
    masks.mkdir(parents=True, exist_ok=True)
    painted = list(zip(instances.images, _paint_all(painter, work), strict=True))
    gathered = gather(painted, mapping, {one.id: one.category_id for one in instances.annotations}, params.max_defects)
    _note_images(gathered, rows, instances.images)
    return gathered


def _note_images(masks: Masks, rows: Sequence[ImageRow], images: Sequence[Image]) -> None:
    """Add to the metrics and defects what the image table says."""
    converted = Counter(word for row in rows if row.status == "ok" for word in (row.converted or "").split())
    first = first_of_status(rows, {one.id: (one.width, one.height) for one in images})
    masks.metrics["images"] |= {"converted": dict(sorted(converted.items())), "first": first}
    for row in rows:
        if row.is_converted("undecided") and row.file_name in masks.mask_of_image:
            masks.defects.setdefault(row.file_name, {})["undecided"] = 1


class _OfImage(Protocol):
    @property
    def image_id(self) -> int: ...


_Entry = TypeVar("_Entry", bound=_OfImage)


def _by_image(images: Sequence[Image], entries: Iterable[_Entry]) -> dict[int, list[_Entry]]:
    found: dict[int, list[_Entry]] = {image.id: [] for image in images}
    for entry in entries:
        found[entry.image_id].append(entry)
    return found


def _missing(image: Image) -> ImageRow:
    return ImageRow(image_id=image.id, file_name=image.file_name, status="missing")


def _sized(image: Image, row: ImageRow) -> Image:
    """Return an image of a known size: where the annotations say none, that of the file."""
    if image.width is not None:
        return image
    return msgspec.structs.replace(image, width=row.width, height=row.height)


def paint_image(
    painter: Painter,
    image: Image,
    annotations: Sequence[Annotation],
    lost: Sequence[LostObject],
    regions: Sequence[IgnoredRegion],
    status: str,
) -> PaintedImage:
    """Paint one image and write its mask, and its instance map if asked for; no file of an image that goes."""
    params = painter.params
    if status != "ok":
        if params.on_defect == "fail":
            raise CocosegError(f"{image.file_name}: {status}; fix it, or set on_defect: count")
        return PaintedImage(dropped=status, dropped_annotations={f"image_{status}": len(annotations)})
    checked = _checked(painter, image, annotations)
    checked.lost += lost
    if params.lost == "drop_image" and checked.lost:
        return checked.without_mask("lost_object")
    if params.instance_masks and len(checked.paints) > _MOST_INSTANCES:
        return checked.without_mask("too_many_instances")
    height, width = image.sides()
    lost_boxes = [one.bbox for one in checked.lost] if params.lost == "ignore" else []
    boxes = list(ignored_boxes(lost_boxes, height, width))
    paints = [*checked.paints, *_ignored(image, regions), *boxes]
    maps = paint(paints, height, width, params.overlap, instance_map=params.instance_masks)
    negative = params.negatives == "keep" and not checked.lost
    if not negative and not maps.pixels.keys() - {BACKGROUND, IGNORE}:
        return checked.without_mask("no_painted_class")
    counted = {"lost_ignored": len(boxes), "lost_without_box": len(lost_boxes) - len(boxes)}
    before = dict(Counter(one.reason for one in lost))
    return _written(painter, image, checked, maps, pixels=maps.pixels, lost_before=before, **counted)


def _written(painter: Painter, image: Image, checked: "_Checked", maps: Maps, **counted: Any) -> PaintedImage:
    """Write the maps of an image; return what there is to say of it. `counted`: further fields of `PaintedImage`."""
    sha256 = _write_maps(painter, mask_name(image.file_name), maps)
    sizes, boxes = [shape.size for shape in checked.shapes], painted_boxes(checked.shapes, *image.sides())
    with_instances = painter.params.instance_masks
    return PaintedImage(
        dropped=None,
        dropped_annotations=dict(checked.dropped),
        first=checked.first,
        sha256=sha256,
        instances=dict(Counter(entry.class_index for entry in checked.paints if not entry.ignored)),
        numbered=tuple(checked.kept[index].id for index in maps.numbered) if with_instances else (),
        contested=maps.contested,
        visibility=visibility(checked.paints, maps) if maps.contested else Visibility(),
        disagreements=disagreements(checked.kept, sizes, boxes),
        nested=[entry.id for entry, shape in zip(checked.kept, checked.shapes, strict=True) if shape.nested],
        extent=extent_of(boxes, *image.sides()),
        unchecked=sum(map(says_nothing, checked.kept)),
        lost=[(one.reason, box_of(one.bbox)) for one in checked.lost],
        **checked.notes(),
        **counted,
    )


def _write_maps(painter: Painter, name: str, maps: Maps) -> str:
    """Write the mask and the instance map if there is one; return the SHA-256 of the mask's pixels."""
    write_bytes(painter.masks / name, encode_png(maps.labels))
    if maps.instances is not None:
        write_bytes(painter.instance_masks / name, encode_png(maps.instances))
    return pixels_sha256(maps.labels)


def _ignored(image: Image, regions: Sequence[IgnoredRegion]) -> Iterator[Paint]:
    """Yield what paints 255 under all annotations. Raises `CocosegError`: `download` wrote these regions."""
    for shape in shapes_of([one.segmentation for one in regions], *image.sides(), drop_out_of_bounds=False):
        if isinstance(shape, SegmentationDefect):
            raise CocosegError(f"{image.file_name}: an ignored region: {shape}; run: dvc repro -f download")
        yield Paint(borders=shape.borders, size=shape.size, class_index=IGNORE, ignored=True)


class _Checked(msgspec.Struct, kw_only=True):
    """The annotations of one image: those that paint, and why the others paint nothing.

    `lost`: the objects whose annotation is broken.
    """

    kept: list[Annotation] = []
    shapes: list[Shape] = []
    paints: list[Paint] = []
    lost: list[LostObject] = []
    dropped: Counter[str] = msgspec.field(default_factory=Counter)
    first: dict[str, str] = {}

    def notes(self) -> dict[str, Any]:
        """Return what was noticed of annotations that stay."""
        return {
            "clipped": sum(shape.clipped for shape in self.shapes),
            "ignored_parts": sum(shape.ignored_parts for shape in self.shapes),
            "converted": sum(shape.converted for shape in self.shapes),
        }

    def without_mask(self, reason: str) -> PaintedImage:
        """Return the outcome of an image that goes for this reason, and with it what could be painted."""
        self.dropped[f"image_{reason}"] += len(self.paints)
        dropped = {name: count for name, count in self.dropped.items() if count}
        return PaintedImage(dropped=reason, dropped_annotations=dropped, first=self.first, **self.notes())


def _checked(painter: Painter, image: Image, annotations: Sequence[Annotation]) -> _Checked:
    """Check the shape of each annotation. Raises `CocosegError` at the first defect with `on_defect: fail`."""
    params, found = painter.params, _Checked()
    shapes = shapes_of(
        # `filter` dropped those without one
        [annotation.segmentation for annotation in annotations if annotation.segmentation is not UNSET],
        *image.sides(),
        drop_out_of_bounds=params.out_of_bounds == "drop",
    )
    for annotation, shape in zip(annotations, shapes, strict=True):
        defect = _defect(shape)
        if defect and params.on_defect == "fail":
            raise CocosegError(
                f"{image.file_name}: annotation {annotation.id}: {defect}; fix it, or set on_defect: count"
            )
        if isinstance(shape, SegmentationDefect):
            found.dropped[str(shape)] += 1
            if defect:
                found.first.setdefault(defect, _example(annotation, image, defect))
                # What lies outside of an image is not lost in it, unless its box says otherwise.
                if defect != "outside_image" or pixels_of(annotation.bbox, *image.sides()):
                    found.lost.append(LostObject(image_id=image.id, reason=defect, bbox=annotation.bbox))
            continue
        found.kept.append(annotation)
        found.shapes.append(shape)
        found.paints.append(
            Paint(
                borders=shape.borders,
                size=shape.size,
                class_index=painter.class_of_category[annotation.category_id],
                rank=painter.rank_of_category[annotation.category_id],
                ignored=annotation.iscrowd == 1 and params.crowd == "ignore",
            )
        )
    return found


def _example(annotation: Annotation, image: Image, defect: str) -> str:
    value = bytes(annotation.segmentation or b"")
    if defect == "rle_of_wrong_size":  # its counts may come first, and be long
        size = list(msgspec.json.decode(value, type=RunLengths).size)
        return f"annotation {annotation.id} of {image.file_name}, size is {size}, the image's {list(image.sides())}"
    shown = value[:_SHOWN_BYTES].decode("utf-8", "replace") + "…" * (len(value) > _SHOWN_BYTES)
    if defect == "non_finite_coordinates":
        shown = shown.replace("1e999", "NaN or Infinity")  # as `without_non_finite` writes them
    expected = next((f"; expected {form}" for start, form in _FORMS.items() if defect.startswith(start)), "")
    return f"annotation {annotation.id} of {image.file_name}, segmentation is {shown}{expected}"


def _defect(shape: Shape | SegmentationDefect) -> str:
    """Return what is broken about a shape, in words; nothing if it is sound, or goes by choice."""
    if isinstance(shape, SegmentationDefect):
        return "" if str(shape) == "out_of_bounds" else str(shape)
    return "a part has under three points" if shape.ignored_parts else ""


Work = tuple[Image, list[Annotation], list[LostObject], list[IgnoredRegion], str]


def _paint_all(painter: Painter, work: Sequence[Work]) -> Iterator[PaintedImage]:
    chunks = [list(work[start : start + _CHUNK_IMAGES]) for start in range(0, len(work), _CHUNK_IMAGES)]
    workers = min(worker_count(), len(chunks))
    with tqdm(total=len(work), desc="mask", unit="image", disable=None) as progress:
        if workers <= 1:
            yield from _counted((_paint_chunk(painter, chunk) for chunk in chunks), progress)
            return
        with process_pool(workers, beside=True) as pool:
            # Packed one by one on their way: all at once would be the whole file again.
            task, packed, most = partial(_paint_packed, painter), map(_pack, chunks), 2 * (workers - 1)
            yield from _counted(ahead(pool, task, packed, most, _largest, lend_a_hand=True), progress)


def _counted(chunks: Iterator[list[PaintedImage]], progress: "tqdm[Any]") -> Iterator[PaintedImage]:
    for chunk in chunks:
        progress.update(len(chunk))
        yield from chunk


def _paint_chunk(painter: Painter, chunk: Sequence[Work]) -> list[PaintedImage]:
    return [paint_image(painter, *entry) for entry in chunk]


def _paint_packed(painter: Painter, packed: tuple[bytes, int]) -> list[PaintedImage]:
    return _paint_chunk(painter, msgspec.json.decode(packed[0], type=list[Work]))


def _pack(chunk: Sequence[Work]) -> tuple[bytes, int]:
    """Return a chunk as bytes, since its raw JSON does not pickle, and the pixels of its largest image."""
    return msgspec.json.encode(chunk), max(math.prod(work[0].sides()) for work in chunk)


def _largest(packed: tuple[bytes, int]) -> int:
    return packed[1]


def _refuse_many_skipped(rows: Sequence[ImageRow], images: Sequence[Image], max_skipped: float) -> None:
    skipped = [(row, image) for row, image in zip(rows, images, strict=True) if row.status != "ok"]
    if len(skipped) > max_skipped * len(rows):
        first = "; ".join(f"{row.example((image.width, image.height))} ({row.status})" for row, image in skipped[:3])
        raise CocosegError(
            f"data/images.csv: {len(skipped)} of {len(rows)} images are missing or broken, first {first}; "
            f"max_skipped allows {max_skipped:g}; fix the images and run dvc repro -f download_images, or fix the "
            "annotations and run dvc repro, or raise max_skipped"
        )
