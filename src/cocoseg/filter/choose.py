"""Which annotations and images stay, and under which name each of the others went."""

import gc
from collections.abc import Container, Sequence
from math import nan
from operator import attrgetter
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from msgspec import UNSET, Meta, Raw

from cocoseg.accounts import Lost, Share, refuse_many_defects
from cocoseg.coco.file_names import clashes, mask_name
from cocoseg.coco.format import (
    UNREADABLE,
    Annotation,
    Category,
    IgnoredRegion,
    Image,
    Instances,
    LostObject,
    encoded,
)
from cocoseg.core.errors import CocosegError
from cocoseg.core.files import Mapped, mapped, release, whole_file
from cocoseg.filter.categories import Categories, UsedCategories, choose_categories
from cocoseg.filter.entries import (
    AnnotationEntry,
    CategoryEntry,
    Entries,
    ImageEntry,
    Ledger,
    OnDefect,
    annotation_keys,
    entries_of,
    found,
    read_entries,
    readable_or_null,
    region_entries,
)
from cocoseg.filter.ids import AnnotationIds, key_of
from cocoseg.filter.tidy import TidyImages, tidy_crowd, tidy_images
from cocoseg.filter.ways_out import nothing_left
from cocoseg.unit_hash import unit_hash

Count = Annotated[int, Meta(ge=1, le=10**9, extra_json_schema={"examples": [500]})]
_AREA: msgspec.json.Decoder[Any] = msgspec.json.Decoder(float | str)
_IS_CROWD = attrgetter("iscrowd")


class FilterParams(msgspec.Struct, frozen=True, kw_only=True):
    """The parameters of the stage `filter`."""

    classes: tuple[str, ...]
    """Names of categories; `[]` takes every category."""
    max_images: Count | None
    """Keeps at most this many images; a smaller number keeps a subset of a larger one."""
    max_instances: Count | None
    """Drops images with more instances of the chosen classes."""
    min_area_px: Annotated[float, Meta(ge=0, le=1e12, extra_json_schema={"examples": [100]})] | None
    """Drops annotations with a smaller `area`."""
    licenses: tuple[int, ...] | None
    """Keeps only images under these license ids."""
    negatives: Literal["drop", "keep"]
    """Images without an annotation of the chosen classes: `drop` them, or `keep` them as all background."""
    data_seed: int
    """The seed of the order in which images are chosen and split."""
    crowd: Literal["ignore", "drop", "keep"]
    """`iscrowd: 1` becomes 255 (`ignore`), background (`drop`), or an annotation like any other (`keep`)."""
    images: str
    lost: Lost
    """What becomes of an object whose annotation is broken: its box becomes 255 (`ignore`), it counts as `background`,
    or its image goes (`drop_image`)."""
    max_defects: Share
    """Fails if a larger share of the annotations of the chosen classes is broken."""
    max_skipped: Share
    """Fails if a larger share of images is missing or broken."""
    on_defect: OnDefect
    """Count bad entries and go on, or fail at the first."""


def filter_file(source: Path, target: Path, params: FilterParams) -> dict[str, Any]:
    """Write the chosen part of an annotations file to `target`, and return the metrics, as `filter_instances` does."""
    raw = mapped(source)
    gc.disable()  # a million small objects and not one cycle: looking for cycles takes a tenth of the time
    try:
        instances, metrics = filter_instances(raw, params, source)
        with whole_file(target) as file:
            for piece in encoded(instances):
                file.write(piece)
                release(raw)
    finally:
        gc.enable()
    return metrics


def filter_instances(raw: Mapped, params: FilterParams, place: Path) -> tuple[Instances, dict[str, Any]]:
    """Return the chosen part of an annotations file, and the metrics that account for the rest.

    Images come in the order of their ids, annotations in the order of the file, categories in the order of the classes.
    `place` names the file in errors. Raises `CocosegError` if a class is unknown, nothing is left, two images would
    share an id or a mask, too many annotations or images are broken, or with `on_defect: fail` at the first bad entry.
    """
    file = read_entries(raw, place)
    ledgers = _ledgers(file, params, place)
    images, categories, found = _sound_entries(file, ledgers, params, place)
    available = _available_images(images.images, found, ledgers, params)
    chosen = _first_images(available, found.kept, ledgers, params)
    if not chosen:
        raise CocosegError(nothing_left(place, ledgers.images, ledgers.annotations))
    _refuse_shared_masks(chosen, place)
    kept = [annotation for image in chosen for annotation in found.kept[image.id]]
    chosen_ids = {image.id for image in chosen}
    lost = [one for one in found.lost if one.image_id in chosen_ids]
    instances = Instances(
        info=readable_or_null(file.info),
        licenses=readable_or_null(file.licenses),
        images=chosen,
        annotations=kept,
        categories=categories.chosen,
        lost=lost,
        ignored_regions=_regions_of(chosen_ids, images, file, place),
    )
    classes = _class_counts(categories.chosen, kept, params)
    metrics = {
        "images": {
            "requested": params.max_images,
            "available": len(available),
            "negatives": sum(not found.kept[image.id] for image in chosen),
            **ledgers.images.account(),
        },
        "annotations": {
            **ledgers.annotations.account(),
            "ignored_crowds": len(kept) - sum(counts["instances"] for counts in classes.values()),
        },
        "categories": ledgers.categories.account(),
        "lost_objects": len(lost),
        "classes": classes,
    }
    return instances, metrics


def _sound_entries(
    file: Entries, ledgers: "_Ledgers", params: FilterParams, place: Path
) -> tuple[TidyImages, Categories, "_Sorted"]:
    """Return what can be used of the file, in COCO's form. Raises `CocosegError` if too many entries are broken."""
    images = tidy_images(entries_of(file.images, ImageEntry, ledgers.images), params.images, ledgers.images, place)
    if images.images:  # else `nothing_left` names the way out
        refuse_many_defects(ledgers.images, ledgers.images.input, params.max_skipped, "images", "max_skipped", place)
    keys = annotation_keys(file.annotations)
    entries = entries_of(file.categories, CategoryEntry, ledgers.categories)
    categories = choose_categories(entries, UsedCategories(keys), params.classes, ledgers.categories, place)
    ids = AnnotationIds(keys)
    del keys
    found = _sorted_annotations(file.annotations, images, categories, ids, ledgers, params)
    total, noun = found.of_chosen_classes, "annotations of the chosen classes"
    refuse_many_defects(ledgers.annotations, total, params.max_defects, noun, "max_defects", place)
    return images, categories, found


class _Ledgers(NamedTuple):
    categories: Ledger
    images: Ledger
    annotations: Ledger


def _ledgers(file: Entries, params: FilterParams, place: Path) -> _Ledgers:
    lists = {"category": file.categories, "image": file.images, "annotation": file.annotations}
    return _Ledgers(*(Ledger(place, noun, len(entries), params.on_defect) for noun, entries in lists.items()))


class _Sorted(NamedTuple):
    """The annotations of a file: those kept of each image, the images that had any, and what was lost.

    `of_chosen_classes`: how many are of the chosen classes, or of a class that cannot be told.
    """

    kept: dict[int, list[Annotation]]
    annotated: set[int]
    lost: list[LostObject]
    lost_images: set[int]
    of_chosen_classes: int


def _sorted_annotations(
    entries: list[AnnotationEntry] | list[Raw],
    images: TidyImages,
    categories: Categories,
    ids: AnnotationIds,
    ledgers: _Ledgers,
    params: FilterParams,
) -> _Sorted:
    """Sort the annotations out by image; count those that go."""
    ledger = ledgers.annotations
    judge = _Judge(images, categories, ids, ledger, params)
    kept: dict[int, list[Any]] = {image.id: [] for image in images.images}
    image_numbers, category_numbers, chosen_ids = images.numbers, categories.numbers, categories.ids
    image_of, category_of, note_annotated = image_numbers.get, category_numbers.get, judge.annotated.add
    relevant = others = 0
    for position, entry in entries_of(entries, AnnotationEntry, ledger):
        # Most ids are whole numbers, which need no more than a look: a file has hundreds of thousands.
        image_id = image_of(own) if type(own := entry.image_id) is int else None
        if image_id is None:
            image_id = image_numbers.of(own, "image_id", ledger)
        category_id = category_of(own) if type(own := entry.category_id) is int else None
        if category_id is None:
            category_id = category_numbers.of(own, "category_id", ledger)
        if image_id is not None:
            note_annotated(image_id)
        if category_id is not None and category_id not in chosen_ids:
            others += 1
            continue
        relevant += 1
        if image_id is not None and judge.keeps(position, entry, image_id, category_id):
            entry.image_id, entry.category_id = image_id, category_id
            kept[image_id].append(entry)
        elif image_id is None:
            judge.count_without_image(position, entry)
    if others:
        ledger.dropped["class_not_chosen"] += others
    relevant += ledger.dropped["not_an_object"]
    return _Sorted(kept, judge.annotated, judge.lost, {one.image_id for one in judge.lost}, relevant)


class _Judge:
    """Judge the annotations that may be of a chosen class, and count those that go."""

    def __init__(
        self, images: TidyImages, categories: Categories, ids: AnnotationIds, ledger: Ledger, params: FilterParams
    ) -> None:
        self.annotated: set[int] = set()
        self.lost: list[LostObject] = []
        self._images = images
        self._categories = categories
        self._ids = ids
        self._ledger = ledger
        self._params = params
        self._chooses = params.crowd == "drop" or params.min_area_px is not None
        self._name_of = {image.id: image.file_name for image in images.images}

    def keeps(self, position: int, entry: AnnotationEntry, image_id: int, category_id: int | None) -> bool:
        """Return whether an annotation of a known image stays, then in COCO's form but for its two ids."""
        ledger = self._ledger
        if self._ids.shared and self._ids.is_repeated(entry):
            ledger.dropped["duplicate"] += 1
            return False
        if self._chooses and (choice := _choice(entry, self._params)):
            ledger.dropped[choice] += 1
            return False
        defect = _category_defect(entry, self._categories) if category_id is None else _defect(entry, self._params)
        if defect is not None:
            reason, value = defect
            ledger.count_defect(reason, f"{_named(entry, position)} of {self._name_of[image_id]}", value)
            self.lost.append(LostObject(image_id=image_id, bbox=entry.bbox))
            return False
        if type(entry.iscrowd) is not int:
            entry.iscrowd = tidy_crowd(entry.iscrowd)
            ledger.converted["iscrowd"] += 1
        if not self._ids.sound:
            entry.id = self._ids.of(entry, ledger)
        return True

    def count_without_image(self, position: int, entry: AnnotationEntry) -> None:
        """Count an annotation whose image went, or never was."""
        gone = self._images.defective.get(key_of(entry.image_id))
        if gone:
            self._ledger.dropped[f"image_{gone}"] += 1
        else:
            self._ledger.count_defect("unknown_image", _named(entry, position), found("image_id", entry.image_id))


def _regions_of(chosen: Container[int], images: TidyImages, file: Entries, place: Path) -> list[IgnoredRegion]:
    """Return the ignored regions of the chosen images: no parameter is about them."""
    numbered = (
        (images.numbers.get(key_of(id_)), region) for id_, region in region_entries(file.ignored_regions, place)
    )
    return [
        IgnoredRegion(image_id=number, segmentation=region)
        for number, region in numbered
        if number is not None and number in chosen
    ]


def _named(entry: AnnotationEntry, position: int) -> str:
    return f"{entry.id}" if key_of(entry.id) is not None else f"at position {position}"


def _choice(entry: AnnotationEntry, params: FilterParams) -> str:
    """Return the parameter's reason why an annotation of a chosen class goes; nothing if it stays."""
    if params.crowd == "drop" and tidy_crowd(entry.iscrowd) == 1:
        return "crowd"
    return "below_min_area" if params.min_area_px is not None and 0 < _area(entry) < params.min_area_px else ""


def _area(entry: AnnotationEntry) -> float:
    """Return the area in pixels; NaN for none that can be read."""
    try:
        return float(_AREA.decode(entry.area)) if entry.area is not UNSET else nan
    except (*UNREADABLE, ValueError):
        return nan


def _category_defect(entry: AnnotationEntry, categories: Categories) -> tuple[str, str]:
    gone = categories.defective.get(key_of(entry.category_id))
    return f"category_{gone}" if gone else "unknown_category", found("category_id", entry.category_id)


def _defect(entry: AnnotationEntry, params: FilterParams) -> tuple[str, str] | None:
    """Return what is broken about an annotation of a chosen class, and the value that shows it."""
    if entry.iscrowd not in (0, 1) and tidy_crowd(entry.iscrowd) is None:
        return "bad_iscrowd", f"iscrowd is {entry.iscrowd!r}"
    if entry.segmentation is UNSET:
        return "missing_segmentation", ""
    if memoryview(entry.segmentation).nbytes < 16:  # most are kilobytes, and only a short one can be null or empty
        content = b"".join(bytes(entry.segmentation).split())
        if content == b"null":
            return "null_segmentation", ""
        if content in (b"[]", b"[[]]", b"{}", b'""'):
            return "empty_segmentation", f"segmentation is {content.decode()}"
    # One that is too small by choice is gone already: this one is 0 or below, which no object has, or unreadable.
    if params.min_area_px is not None and not _area(entry) >= params.min_area_px:
        area = "missing" if entry.area is UNSET else bytes(entry.area)[:40].decode("utf-8", "replace")
        return "no_usable_area", f"area is {area}"
    return None


def _available_images(images: Sequence[Image], found: _Sorted, ledgers: _Ledgers, params: FilterParams) -> list[Image]:
    """Return the images that may be chosen; count the others, which leave `found.kept`."""
    available: list[Image] = []
    for image in images:
        lacking = _image_reason(image, found, params)
        if lacking is None:
            available.append(image)
        else:
            ledgers.images.dropped[lacking] += 1
            gone = found.kept.pop(image.id)
            if gone:
                ledgers.annotations.dropped[f"image_{lacking}"] += len(gone)
    return available


def _first_images(
    available: Sequence[Image], kept_of_image: dict[int, list[Annotation]], ledgers: _Ledgers, params: FilterParams
) -> list[Image]:
    """Return the first `max_images` in the order of a hash, sorted by id; count the others as `_available_images`."""
    if params.max_images is None:
        return sorted(available, key=lambda image: image.id)
    ordered = sorted(available, key=lambda image: (unit_hash(params.data_seed, "select", image.id), image.id))
    for image in ordered[params.max_images :]:
        ledgers.images.dropped["beyond_max_images"] += 1
        ledgers.annotations.dropped["image_beyond_max_images"] += len(kept_of_image.pop(image.id))
    return sorted(ordered[: params.max_images], key=lambda image: image.id)


def _image_reason(image: Image, found: _Sorted, params: FilterParams) -> str | None:
    kept = found.kept[image.id]
    if params.licenses is not None and image.license not in params.licenses:
        return "license"
    if params.lost == "drop_image" and image.id in found.lost_images:
        return "lost_object"
    # An image that lost an object is never one without objects.
    negative = params.negatives == "keep" and image.id not in found.lost_images
    if image.id not in found.annotated:
        return None if negative else "no_annotation"
    if not negative and not (kept and (params.crowd == "keep" or not all(map(_IS_CROWD, kept)))):
        return "no_kept_annotation"
    if params.max_instances is not None and len(kept) > params.max_instances:
        return "too_many_instances"
    return None


def _refuse_shared_masks(images: Sequence[Image], place: Path) -> None:
    """Raise `CocosegError` if the masks of two images cannot be written beside each other."""
    for name, other, file in clashes((image.file_name for image in images), lambda name: (name, mask_name(name))):
        found = (
            f"images {other!r} and {name!r} would share the mask {mask_name(name)}"
            if file is None
            else f"image {name!r} would need a file where {other!r} needs a folder"
        )
        raise CocosegError(f"{place}: {found}; rename one of them")


def _class_counts(
    categories: Sequence[Category], annotations: Sequence[Annotation], params: FilterParams
) -> dict[str, Any]:
    """Return for each class its instances, the annotations that may paint it, and the images that have any."""
    instances = {category.id: 0 for category in categories}
    images: dict[int, set[int]] = {category.id: set() for category in categories}
    keep = params.crowd == "keep"
    for annotation in annotations:
        if keep or not annotation.iscrowd:
            instances[annotation.category_id] += 1
            images[annotation.category_id].add(annotation.image_id)
    return {one.name: {"images": len(images[one.id]), "instances": instances[one.id]} for one in categories}
