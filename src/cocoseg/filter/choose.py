"""Which annotations and images stay, and under which name each of the others went."""

import gc
from collections.abc import Container, Iterable, Sequence
from contextlib import suppress
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

from msgspec import Raw

from cocoseg.accounts import refuse_many_defects
from cocoseg.coco.file_names import clashes, mask_name
from cocoseg.coco.format import (
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
    entries_of,
    likely_keys,
    read_entries,
    readable_or_null,
    region_entries,
)
from cocoseg.filter.ids import AnnotationIds, key_of
from cocoseg.filter.judge import Judge
from cocoseg.filter.params import FilterParams
from cocoseg.filter.pieces import NotInPieces, entries_in_pieces
from cocoseg.filter.tidy import TidyImages, plain_images, tidy_images
from cocoseg.filter.ways_out import nothing_left
from cocoseg.unit_hash import unit_hash

_IS_CROWD = attrgetter("iscrowd")


def filter_file(source: Path, target: Path, params: FilterParams) -> dict[str, Any]:
    """Write the chosen part of an annotations file to `target`, and return the metrics, as `filter_instances` does."""
    raw = mapped(source)
    gc.disable()  # a million small objects and not one cycle: looking for cycles takes a tenth of the time
    try:
        try:
            instances, metrics = filter_instances(raw, params, source)
        except CocosegError as error:
            raise CocosegError("; ".join([str(error), *likely_keys(raw)])) from None
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
    file, ledgers, (images, categories, found) = _read(raw, params, place)
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
    metrics = {
        "images": {
            "requested": params.max_images,
            "available": len(available),
            "negatives": sum(not found.kept[image.id] for image in chosen),
            **ledgers.images.account(),
        },
        **_account_of_kept(categories.chosen, kept, ledgers, params),
        "lost_objects": len(lost),
    }
    return instances, metrics


def _read(raw: Mapped, params: FilterParams, place: Path) -> tuple[Entries, "_Ledgers", "_Sound"]:
    """Return what `_sound_entries` does, of the file in pieces if that goes well: errors are those of the whole."""
    with suppress(NotInPieces, CocosegError):
        file = entries_in_pieces(raw)
        ledgers = _ledgers(file, params, place)
        return file, ledgers, _sound_entries(file, ledgers, params, place)
    file = read_entries(raw, place)
    ledgers = _ledgers(file, params, place)
    return file, ledgers, _sound_entries(file, ledgers, params, place)


_Sound = tuple[TidyImages, Categories, "_Sorted"]


def _sound_entries(file: Entries, ledgers: "_Ledgers", params: FilterParams, place: Path) -> _Sound:
    """Return what can be used of the file, in COCO's form. Raises `CocosegError` if too many entries are broken."""
    images = plain_images(file.images) or tidy_images(
        entries_of(file.images, ImageEntry, ledgers.images), params.images, ledgers.images, place
    )
    if images.images:  # else `nothing_left` names the way out
        refuse_many_defects(ledgers.images, ledgers.images.input, params.max_skipped, "images", "max_skipped", place)
    entries = entries_of(file.categories, CategoryEntry, ledgers.categories)
    categories = choose_categories(entries, UsedCategories(file.keys), params.classes, ledgers.categories, place)
    ids, file.keys = AnnotationIds(file.keys or ()), None
    found = _sorted_annotations(file.annotations, images, categories, ids, ledgers, params)
    if found.moved_ids:
        raise CocosegError(f"{place}: {found.moved_ids}")
    total, noun = found.of_chosen_classes, "annotations of the chosen classes"
    refuse_many_defects(ledgers.annotations, total, params.max_defects, noun, "max_defects", place)
    return images, categories, found


class _Ledgers(NamedTuple):
    categories: Ledger
    images: Ledger
    annotations: Ledger


def _ledgers(file: Entries, params: FilterParams, place: Path) -> _Ledgers:
    lists = {"category": file.categories, "image": file.images, "annotation": ()}  # counted as they are read
    return _Ledgers(*(Ledger(place, noun, len(entries), params.on_defect) for noun, entries in lists.items()))


class _Sorted(NamedTuple):
    """The annotations of a file: those kept of each image, the images that had any, and what was lost.

    `of_chosen_classes`: how many are of the chosen classes, or of a class that cannot be told. `moved_ids`: as `Judge`
    has them.
    """

    kept: dict[int, list[Annotation]]
    annotated: set[int]
    lost: list[LostObject]
    lost_images: set[int]
    of_chosen_classes: int
    moved_ids: str


def _sorted_annotations(
    pieces: Iterable[list[AnnotationEntry] | list[Raw]],
    images: TidyImages,
    categories: Categories,
    ids: AnnotationIds,
    ledgers: _Ledgers,
    params: FilterParams,
) -> _Sorted:
    """Sort the annotations out by image; count those that go."""
    ledger = ledgers.annotations
    judge = Judge(images, categories, ids, ledger, params)
    kept: dict[int, list[Any]] = {image.id: [] for image in images.images}
    for piece in pieces:
        position, ledger.input = ledger.input, ledger.input + len(piece)
        plain = judge.plain(piece)
        if plain is None:
            _sort_piece(piece, position, judge, kept)
            continue
        for entry in plain:
            kept[entry.image_id].append(entry)
    if judge.others:
        ledger.dropped["class_not_chosen"] += judge.others
    relevant = ledger.input - judge.others
    lost_images = {one.image_id for one in judge.lost}
    return _Sorted(kept, judge.annotated, judge.lost, lost_images, relevant, judge.moved_ids())


def _sort_piece(
    piece: list[AnnotationEntry] | list[Raw], position: int, judge: Judge, kept: dict[int, list[Any]]
) -> None:
    """Add the annotations that stay to those of their images. `position`: that of the first in the file."""
    image_numbers, category_numbers, ledger = judge.images.numbers, judge.categories.numbers, judge.ledger
    image_of, category_of, chosen_ids = image_numbers.get, category_numbers.get, judge.categories.ids
    note_annotated, note_named, keeps = judge.annotated.add, judge.named.add, judge.keeps
    others = 0
    for number, entry in entries_of(piece, AnnotationEntry, ledger, position):
        # Most ids are whole numbers, which need no more than a look: a file has hundreds of thousands.
        image_id = image_of(own) if type(own := entry.image_id) is int else None
        if image_id is None:
            image_id = image_numbers.of(own, "image_id", ledger)
        category_id = category_of(own) if type(own := entry.category_id) is int else None
        if category_id is None:
            category_id = category_numbers.of(own, "category_id", ledger)
        if image_id is not None:
            note_annotated(image_id)
        else:
            judge.note_unknown_image(entry)
        if category_id is not None:
            note_named(category_id)
            if category_id not in chosen_ids:
                others += 1
                continue
        if image_id is None:
            judge.count_without_image(number, entry)
        elif keeps(number, entry, image_id, category_id):
            entry.image_id, entry.category_id = image_id, category_id
            kept[image_id].append(entry)
    judge.others += others


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
    # The first annotation decides most images: a look at it costs less than a loop.
    if not negative and not (kept and (params.crowd == "keep" or not kept[0].iscrowd or not all(map(_IS_CROWD, kept)))):
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


def _account_of_kept(
    categories: Sequence[Category], kept: Sequence[Annotation], ledgers: _Ledgers, params: FilterParams
) -> dict[str, Any]:
    """Return the accounts of annotations and categories, and for each class its instances and the images with any.

    An instance is an annotation that may paint its class.
    """
    instances = {category.id: 0 for category in categories}
    images: dict[int, set[int]] = {category.id: set() for category in categories}
    keep = params.crowd == "keep"
    for annotation in kept:
        if keep or not annotation.iscrowd:
            instances[annotation.category_id] += 1
            images[annotation.category_id].add(annotation.image_id)
    return {
        "annotations": {**ledgers.annotations.account(), "ignored_crowds": len(kept) - sum(instances.values())},
        "categories": ledgers.categories.account(),
        "classes": {one.name: {"images": len(images[one.id]), "instances": instances[one.id]} for one in categories},
    }
