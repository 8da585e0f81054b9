"""From annotations to label maps: every annotation painted or counted under the reason why not."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta
from tqdm import tqdm

from cocoseg.accounts import account
from cocoseg.coco.categories import BACKGROUND, IGNORE, CategoryMapping, Task
from cocoseg.coco.file_names import mask_name
from cocoseg.coco.format import Annotation, Image, Instances
from cocoseg.core.errors import CocosegError, did_you_mean
from cocoseg.core.files import write_bytes
from cocoseg.images.png import encode_png
from cocoseg.mask.painting import Overlap, Paint, label_pixels, paint
from cocoseg.mask.segmentation import SegmentationDefect, Shape, shapes_of
from cocoseg.pictures.gallery import GalleryImages
from cocoseg.tables import ImageRow, InstanceRow, MaskRow, class_counts
from cocoseg.workers import ahead, process_pool, worker_count

_CHUNK_IMAGES = 64
_MOST_INSTANCES = 65_535  # what a 16-bit instance map can number


class MaskParams(msgspec.Struct, frozen=True, kw_only=True):
    """The parameters of the stage `mask`."""

    task: Task
    overlap: Overlap
    priority: tuple[str, ...]
    crowd: Literal["ignore", "drop", "keep"]
    out_of_bounds: Literal["clip", "drop"]
    gallery_images: GalleryImages
    instance_masks: bool
    max_skipped: Annotated[float, Meta(ge=0, le=1, extra_json_schema={"examples": [0.01]})]
    on_defect: Literal["count", "fail"]


class PaintedImage(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one image and its annotations. `pixels`: of each value that its mask has; none if dropped."""

    dropped: str | None
    dropped_annotations: dict[str, int]
    pixels: dict[int, int] = {}
    instances: dict[int, int] = {}
    numbered: tuple[int, ...] = ()
    contested: int = 0
    clipped: int = 0
    ignored_parts: int = 0

    def defects(self) -> dict[str, int]:
        """What was wrong with its annotations, by reason."""
        noted = {"clipped": self.clipped, "ignored_parts": self.ignored_parts}
        return {**self.dropped_annotations, **{reason: count for reason, count in noted.items() if count}}


class Masks(msgspec.Struct, frozen=True, kw_only=True):
    """The tables and metrics of all images whose masks were written.

    `defects`: of each image that has any, how many by reason: annotations dropped or clipped, parts ignored.
    """

    rows: list[MaskRow]
    instance_rows: list[InstanceRow]
    mask_of_image: dict[str, str]
    defects: dict[str, dict[str, int]]
    metrics: dict[str, Any]


class Painter(msgspec.Struct, frozen=True, kw_only=True):
    """All that painting one image needs beside it; travels to the worker processes once a chunk."""

    params: MaskParams
    class_of_category: dict[int, int]
    rank_of_category: dict[int, int]
    masks: Path
    instance_masks: Path


def priority_ranks(mapping: CategoryMapping, priority: Sequence[str]) -> dict[int, int]:
    """The rank of each category id: its place in `priority`, 0 the highest; all that are not listed come last."""
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
        rank_of_category=priority_ranks(mapping, params.priority),
        masks=masks,
        instance_masks=instance_masks,
    )
    status = {row.image_id: row.status for row in images}
    _refuse_many_skipped(instances.images, status, params.max_skipped)
    annotations: dict[int, list[Annotation]] = {image.id: [] for image in instances.images}
    for annotation in instances.annotations:
        annotations[annotation.image_id].append(annotation)
    work = [(image, annotations[image.id], status.get(image.id, "missing")) for image in instances.images]
    masks.mkdir(parents=True, exist_ok=True)
    painted = list(zip(instances.images, _paint_all(painter, work), strict=True))
    gathered = _gather(painted, mapping, annotations)
    converted = Counter(word for row in images if row.status == "ok" for word in (row.converted or "").split())
    gathered.metrics["images"]["converted"] = dict(sorted(converted.items()))
    return gathered


def paint_image(painter: Painter, image: Image, annotations: Sequence[Annotation], status: str) -> PaintedImage:
    """Paint one image and write its mask, and its instance map if asked for; files only if a class is painted."""
    params = painter.params
    if status != "ok":
        if params.on_defect == "fail":
            raise CocosegError(f"{image.file_name}: {status}; fix it, or set on_defect: count")
        return PaintedImage(dropped=status, dropped_annotations={f"image_{status}": len(annotations)})
    checked = _checked(painter, image, annotations)
    if params.instance_masks and len(checked.paints) > _MOST_INSTANCES:
        return checked.without_mask("too_many_instances")
    maps = paint(checked.paints, image.height, image.width, params.overlap, instance_map=params.instance_masks)
    pixels = label_pixels(maps.labels)
    if not pixels.keys() - {BACKGROUND, IGNORE}:
        return checked.without_mask("no_painted_class")
    name = mask_name(image.file_name)
    write_bytes(painter.masks / name, encode_png(maps.labels))
    if maps.instances is not None:
        write_bytes(painter.instance_masks / name, encode_png(maps.instances))
    return PaintedImage(
        dropped=None,
        dropped_annotations=dict(checked.dropped),
        pixels=pixels,
        instances=Counter(entry.class_index for entry in checked.paints if not entry.ignored),
        numbered=tuple(checked.ids[index] for index in maps.numbered) if params.instance_masks else (),
        contested=maps.contested,
        clipped=checked.clipped,
        ignored_parts=checked.ignored_parts,
    )


class _Checked(msgspec.Struct, kw_only=True):
    """The annotations of one image: what they paint, with their ids, and why the others paint nothing."""

    paints: list[Paint] = []
    ids: list[int] = []
    dropped: Counter[str] = msgspec.field(default_factory=Counter)
    clipped: int = 0
    ignored_parts: int = 0

    def without_mask(self, reason: str) -> PaintedImage:
        """Return the outcome of an image that goes for this reason, and with it what could be painted."""
        self.dropped[f"image_{reason}"] += len(self.paints)
        return PaintedImage(
            dropped=reason,
            dropped_annotations=dict(self.dropped),
            clipped=self.clipped,
            ignored_parts=self.ignored_parts,
        )


def _checked(painter: Painter, image: Image, annotations: Sequence[Annotation]) -> _Checked:
    """Check the shape of each annotation. Raises `CocosegError` at the first defect with `on_defect: fail`."""
    params, found = painter.params, _Checked()
    shapes = shapes_of(
        # `filter` dropped those without one
        [annotation.segmentation for annotation in annotations if annotation.segmentation is not UNSET],
        image.height,
        image.width,
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
            continue
        found.clipped += shape.clipped
        found.ignored_parts += shape.ignored_parts
        found.ids.append(annotation.id)
        found.paints.append(
            Paint(
                span=shape.span,
                class_index=painter.class_of_category[annotation.category_id],
                rank=painter.rank_of_category[annotation.category_id],
                ignored=annotation.iscrowd == 1 and params.crowd == "ignore",
            )
        )
    return found


def _defect(shape: Shape | SegmentationDefect) -> str:
    """Return what is broken about a shape, in words; nothing if it is sound, or goes by choice."""
    if isinstance(shape, SegmentationDefect):
        return "" if str(shape) == "out_of_bounds" else str(shape)
    return "a part has under three points" if shape.ignored_parts else ""


Work = tuple[Image, list[Annotation], str]


def _paint_all(painter: Painter, work: Sequence[Work]) -> Iterator[PaintedImage]:
    chunks = [list(work[start : start + _CHUNK_IMAGES]) for start in range(0, len(work), _CHUNK_IMAGES)]
    workers = min(worker_count(), len(chunks))
    with tqdm(total=len(work), desc="mask", unit="image", disable=None) as progress:
        if workers <= 1:
            yield from _counted((_paint_chunk(painter, chunk) for chunk in chunks), progress)
            return
        with process_pool(len(chunks)) as pool:
            # Packed one by one on their way: all at once would be the whole file again.
            yield from _counted(ahead(pool, partial(_paint_packed, painter), map(_pack, chunks), 2 * workers), progress)


def _counted(chunks: Iterator[list[PaintedImage]], progress: "tqdm[Any]") -> Iterator[PaintedImage]:
    for chunk in chunks:
        progress.update(len(chunk))
        yield from chunk


def _paint_chunk(painter: Painter, chunk: Sequence[Work]) -> list[PaintedImage]:
    return [paint_image(painter, *entry) for entry in chunk]


def _paint_packed(painter: Painter, packed: bytes) -> list[PaintedImage]:
    return _paint_chunk(painter, msgspec.json.decode(packed, type=list[Work]))


def _pack(chunk: Sequence[Work]) -> bytes:
    return msgspec.json.encode(chunk)  # segmentations are raw JSON, which does not pickle


def _refuse_many_skipped(images: Sequence[Image], status: dict[int, str], max_skipped: float) -> None:
    skipped = [image for image in images if status.get(image.id, "missing") != "ok"]
    if len(skipped) > max_skipped * len(images):
        first = ", ".join(f"{image.file_name} ({status.get(image.id, 'missing')})" for image in skipped[:3])
        raise CocosegError(
            f"data/images.csv: {len(skipped)} of {len(images)} images are missing or broken, first {first}; "
            f"max_skipped allows {max_skipped:g}; fix them and run dvc repro -f download_images, or raise max_skipped"
        )


def _gather(
    painted: Sequence[tuple[Image, PaintedImage]],
    mapping: CategoryMapping,
    annotations: dict[int, list[Annotation]],
) -> Masks:
    """Return the tables and metrics of the painted images. Raises `CocosegError` if no mask is left."""
    names = dict(enumerate(mapping.classes)) | {IGNORE: "ignore"}
    category_of = {entry.id: entry.category_id for entries in annotations.values() for entry in entries}
    rows = [row for image, outcome in painted for row in _mask_rows(image, outcome, names)]
    metrics = _metrics([outcome for _, outcome in painted], rows, names.values(), len(category_of))
    whole = [(image.file_name, outcome) for image, outcome in painted if not outcome.dropped]
    return Masks(
        rows=rows,
        instance_rows=[row for image, outcome in painted for row in _instance_rows(image, outcome, category_of)],
        mask_of_image={name: mask_name(name) for name, _ in whole},
        defects={name: defects for name, outcome in whole if (defects := outcome.defects())},
        metrics=metrics,
    )


def _mask_rows(image: Image, outcome: PaintedImage, names: Mapping[int, str]) -> Iterator[MaskRow]:
    for index in sorted(outcome.pixels.keys() | outcome.instances.keys()):
        yield MaskRow(
            image_id=image.id,
            file_name=image.file_name,
            class_index=index,
            class_name=names[index],
            instances=outcome.instances.get(index, 0),
            pixels=outcome.pixels.get(index, 0),
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
    outcomes: Sequence[PaintedImage], rows: Sequence[MaskRow], names: Iterable[str], annotations: int
) -> dict[str, Any]:
    """Return `metrics/mask.json`; `annotations` is how many came in."""
    images: Counter[str] = Counter(outcome.dropped for outcome in outcomes if outcome.dropped is not None)
    dropped: Counter[str] = Counter()
    for outcome in outcomes:
        dropped.update(outcome.dropped_annotations)
    if not rows:
        reasons = ", ".join(f"{count} {reason}" for reason, count in (images + dropped).items())
        raise CocosegError(f"data/filtered/instances.json: no mask is left of {len(outcomes)} images ({reasons})")
    classes = class_counts(rows, names)
    total = sum(totals["pixels"] for totals in classes.values())
    return {
        "images": account(len(outcomes), images),
        "annotations": {
            **account(annotations, dropped),
            "clipped": sum(outcome.clipped for outcome in outcomes),
            "ignored_parts": sum(outcome.ignored_parts for outcome in outcomes),
        },
        "ignored_share": round(classes["ignore"]["pixels"] / total, 6),
        "contested_share": round(sum(outcome.contested for outcome in outcomes) / total, 6),
        "classes": classes,
    }
