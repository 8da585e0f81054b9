"""Which annotations and images stay, and under which name each of the others went."""

import gc
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from msgspec import UNSET, Meta, Raw

from cocoseg.coco.file_names import clashes, mask_name
from cocoseg.coco.format import UNREADABLE, Annotation, Category, Image, Instances, encoded
from cocoseg.core.errors import CocosegError, did_you_mean
from cocoseg.core.files import Mapped, mapped, release, whole_file
from cocoseg.filter.entries import Entries, Ledger, OnDefect, read_entries, readable_or_null, sound_entries
from cocoseg.unit_hash import unit_hash

Count = Annotated[int, Meta(ge=1, le=10**9, extra_json_schema={"examples": [500]})]
_LISTED = 254  # names in a line
RESERVED_NAMES = ("background", "ignore")  # of pixel values 0 and 255 in metrics and tables


class FilterParams(msgspec.Struct, frozen=True, kw_only=True):
    """The parameters of the stage `filter`."""

    classes: tuple[str, ...]
    max_images: Count | None
    max_instances: Count | None
    min_area_px: Annotated[float, Meta(ge=0, le=1e12, extra_json_schema={"examples": [100]})] | None
    licenses: tuple[int, ...] | None
    data_seed: int
    crowd: Literal["ignore", "drop", "keep"]
    on_defect: OnDefect


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
    """The chosen part of an annotations file, and the metrics that account for the rest.

    Images come in the order of their ids, annotations in the order of the file, categories in the order of the classes.
    `place` names the file in errors. Raises `CocosegError` if a class is unknown, nothing is left, two images would
    share a mask, or with `on_defect: fail` at the first bad entry.
    """
    file = read_entries(raw, place)
    _refuse_shared_ids(file.categories, place)
    ledgers = _ledgers(file, params, place)
    every_category = list(sound_entries(file.categories, Category, ledgers.categories))
    categories = chosen_categories(every_category, params.classes, place)
    images = list(sound_entries(file.images, Image, ledgers.images))
    kept_of_image, annotated_ids = _annotations_by_image(
        sound_entries(file.annotations, Annotation, ledgers.annotations),
        [image.id for image in images],
        _Categories({one.id for one in every_category}, {one.id for one in categories}),
        ledgers,
        params,
    )
    available = _available_images(images, kept_of_image, annotated_ids, ledgers, params)
    chosen = _first_images(available, kept_of_image, ledgers, params)
    if not chosen:
        raise CocosegError(_nothing_left(place, ledgers.images, ledgers.annotations))
    _refuse_shared_masks(chosen, place)
    kept = [annotation for image in chosen for annotation in kept_of_image[image.id]]
    metrics = {
        "images": {"requested": params.max_images, "available": len(available), **ledgers.images.account()},
        "annotations": ledgers.annotations.account(),
        "categories": ledgers.categories.account(),
        "classes": _class_counts(categories, kept),
    }
    instances = Instances(
        info=readable_or_null(file.info),
        licenses=readable_or_null(file.licenses),
        images=chosen,
        annotations=kept,
        categories=categories,
    )
    return instances, metrics


class _Ledgers(NamedTuple):
    categories: Ledger
    images: Ledger
    annotations: Ledger


def _ledgers(file: Entries[Any], params: FilterParams, place: Path) -> _Ledgers:
    lists = {"category": file.categories, "image": file.images, "annotation": file.annotations}
    return _Ledgers(*(Ledger(place, noun, len(entries), params.on_defect) for noun, entries in lists.items()))


class _Categories(NamedTuple):
    """Category ids: of the file, and of those that were chosen."""

    known: set[int]
    chosen: set[int]


def _annotations_by_image(
    annotations: Iterable[Annotation],
    image_ids: Sequence[int],
    categories: _Categories,
    ledgers: _Ledgers,
    params: FilterParams,
) -> tuple[dict[int, list[Annotation]], set[int | None]]:
    """Return the kept annotations of each image, and the ids of all images that had any; count the others."""
    kept_of_image: dict[int, list[Annotation]] = {image_id: [] for image_id in image_ids}
    annotated_ids: set[int | None] = set()
    for annotation in annotations:
        own = kept_of_image.get(annotation.image_id)
        if own is None:
            reason = _without_its("image", annotation.image_id, ledgers.images)
        else:
            annotated_ids.add(annotation.image_id)
            if annotation.category_id in categories.chosen:
                reason = _annotation_reason(annotation, params)
            elif annotation.category_id in categories.known:
                reason = "class_not_chosen"
            else:
                reason = _without_its("category", annotation.category_id, ledgers.categories)
            if not reason:
                own.append(annotation)
                continue
        if reason in DEFECTS:
            ledgers.annotations.count_defect(str(annotation.id), reason)
        else:
            ledgers.annotations.dropped[reason] += 1
    return kept_of_image, annotated_ids | ledgers.annotations.images_of_dropped


def _without_its(noun: str, id_: int, ledger: Ledger) -> str:
    """Return the reason of an annotation whose image or category went, or never was."""
    lost = ledger.dropped_ids.get(id_)
    return f"{noun}_{lost}" if lost else f"unknown_{noun}"


def _available_images(
    images: Sequence[Image],
    kept_of_image: dict[int, list[Annotation]],
    annotated_ids: set[int | None],
    ledgers: _Ledgers,
    params: FilterParams,
) -> list[Image]:
    """Return the images that may be chosen; count the others, which leave `kept_of_image`."""
    available: list[Image] = []
    for image in images:
        lacking = _image_reason(image, kept_of_image[image.id], annotated_ids, params)
        if lacking is None:
            available.append(image)
        else:
            ledgers.images.dropped[lacking] += 1
            ledgers.annotations.dropped[f"image_{lacking}"] += len(kept_of_image.pop(image.id))
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


def chosen_categories(categories: Sequence[Category], classes: Sequence[str], place: Path) -> list[Category]:
    """The categories named by `classes`, in that order; all of them in the order of their ids for an empty list."""
    by_name: dict[str, Category] = {}
    for category in categories:
        if category.name in by_name:
            raise CocosegError(f"{place}: two categories are named {category.name!r}; give each a name of its own")
        by_name[category.name] = category
    for name in classes:
        if name not in by_name:
            hint = did_you_mean(name, by_name, f"it has: {_listed(sorted(by_name))}")
            raise CocosegError(f"params.yaml: classes names {name!r}, which is no category of {place}; {hint}")
    repeated = [name for name, count in Counter(classes).items() if count > 1]
    if repeated:
        raise CocosegError(f"params.yaml: classes names {repeated[0]!r} twice; name it once")
    chosen = [by_name[name] for name in classes] or sorted(categories, key=lambda category: category.id)
    for category in chosen:
        if category.name in RESERVED_NAMES:
            raise CocosegError(
                f"{place}: a category is named {category.name!r}, as are the pixels of no class; rename it, or "
                "leave it out of classes in params.yaml"
            )
    if not 1 <= len(chosen) <= 254:
        raise CocosegError(f"{place}: {len(chosen)} categories; a mask holds 1 to 254 beside background and 255")
    return chosen


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:_LISTED]) + (", …" if len(names) > _LISTED else "")


# The reasons that speak of a broken file; the others are choices of the parameters.
DEFECTS = frozenset(
    {
        "unknown_image",
        "unknown_category",
        "bad_iscrowd",
        "missing_segmentation",
        "null_segmentation",
        "empty_segmentation",
        "no_usable_area",
    }
)


def _annotation_reason(annotation: Annotation, params: FilterParams) -> str:
    """Why an annotation of a chosen class goes, or nothing."""
    if annotation.iscrowd not in (0, 1):
        return "bad_iscrowd"
    if annotation.iscrowd == 1 and params.crowd == "drop":
        return "crowd"
    if annotation.segmentation is UNSET:
        return "missing_segmentation"
    if memoryview(annotation.segmentation).nbytes < 16:  # most are kilobytes, and only a short one can be null or empty
        content = b"".join(bytes(annotation.segmentation).split())
        if content == b"null":
            return "null_segmentation"
        if content in (b"[]", b"{}", b'""'):
            return "empty_segmentation"
    return _area_reason(annotation, params.min_area_px)


def _area_reason(annotation: Annotation, min_area_px: float | None) -> str:
    if min_area_px is None:
        return ""
    try:
        area = msgspec.json.decode(annotation.area if annotation.area is not UNSET else b"null", type=float)
    except UNREADABLE:
        return "no_usable_area"
    return "below_min_area" if area < min_area_px else ""


def _image_reason(
    image: Image, kept: Sequence[Annotation], annotated_ids: set[int | None], params: FilterParams
) -> str | None:
    if params.licenses is not None and image.license not in params.licenses:
        return "license"
    if image.id not in annotated_ids:
        return "no_annotation"
    if not any(annotation.iscrowd == 0 or params.crowd == "keep" for annotation in kept):
        return "no_kept_annotation"
    if params.max_instances is not None and len(kept) > params.max_instances:
        return "too_many_instances"
    return None


def _refuse_shared_ids(categories: Sequence[Raw], place: Path) -> None:
    """Of two categories with one id, which one an annotation means cannot be known; the same one twice is harmless."""
    entries: dict[int, bytes] = {}
    for raw in categories:
        try:
            category_id = msgspec.json.decode(raw, type=_Identified).id
        except UNREADABLE:
            continue
        if entries.setdefault(category_id, bytes(raw)) != bytes(raw):
            raise CocosegError(f"{place}: two categories have the id {category_id}; give each an id of its own")


class _Identified(msgspec.Struct):
    id: int


def _refuse_shared_masks(images: Sequence[Image], place: Path) -> None:
    """Raise `CocosegError` if the masks of two images cannot be written beside each other."""
    for name, other, file in clashes((image.file_name for image in images), lambda name: (name, mask_name(name))):
        found = (
            f"images {other!r} and {name!r} would share the mask {mask_name(name)}"
            if file is None
            else f"image {name!r} would need a file where {other!r} needs a folder"
        )
        raise CocosegError(f"{place}: {found}; rename one of them")


def _nothing_left(place: Path, images: Ledger, annotations: Ledger) -> str:
    def listed(ledger: Ledger) -> str:
        return ", ".join(f"{count} {reason}" for reason, count in ledger.dropped.most_common() if count) or "none"

    return (
        f"{place}: no image is left of {images.input} (dropped: {listed(images)}; "
        f"annotations: {listed(annotations)}); loosen classes, crowd, licenses, max_instances or min_area_px in "
        "params.yaml"
    )


def _class_counts(categories: Sequence[Category], annotations: Sequence[Annotation]) -> dict[str, Any]:
    instances: Counter[int] = Counter()
    images: dict[int, set[int]] = {category.id: set() for category in categories}
    for annotation in annotations:
        instances[annotation.category_id] += 1
        images[annotation.category_id].add(annotation.image_id)
    return {
        category.name: {"images": len(images[category.id]), "instances": instances[category.id]}
        for category in categories
    }
