"""Which annotations and images stay, and under which name each of the others went."""

import difflib
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import UNSET, Meta, Raw

from cocoseg.accounts import account
from cocoseg.coco import Annotation, Category, Image, Instances
from cocoseg.errors import CocosegError
from cocoseg.file_names import is_safe, mask_name
from cocoseg.order import unit_hash

Count = Annotated[int, Meta(ge=1, le=10**9, extra_json_schema={"examples": [500]})]
Entry = TypeVar("Entry", Image, Annotation)

LONGEST_SIDE_PX = 65_500  # JPEG's own limit
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
    on_defect: Literal["count", "fail"]


class Ledger:
    """What came in, and why some of it went: each entry is counted once, under its first reason."""

    def __init__(self, entries: int) -> None:
        self.input = entries
        self.dropped: Counter[str] = Counter()
        self.dropped_ids: dict[int, str] = {}


class RawInstances(msgspec.Struct):
    """An annotations file whose single entries are not yet trusted."""

    images: list[Raw]
    annotations: list[Raw]
    categories: list[Category]
    info: Raw = Raw(b"null")
    licenses: Raw = Raw(b"null")


def filter_instances(raw: bytes, params: FilterParams, place: Path) -> tuple[Instances, dict[str, Any]]:
    """The chosen part of an annotations file, and the metrics that account for the rest.

    Images come in the order of their ids, annotations in the order of the file, categories in the order of the classes.
    `place` names the file in errors. Raises `CocosegError` if a class is unknown, nothing is left, two images would
    share a mask, or with `on_defect: fail` at the first bad entry.
    """
    try:
        file = msgspec.json.decode(raw, type=RawInstances)
    except (msgspec.DecodeError, RecursionError) as error:
        raise CocosegError(f"{place}: {error}; expected a COCO instances file; run: dvc repro -f download") from None
    categories = chosen_categories(file.categories, params.classes, place)
    images, image_ledger = _sound_entries(file.images, Image, _image_defect, params, place)
    annotations, annotation_ledger = _sound_entries(file.annotations, Annotation, _annotation_defect, params, place)

    chosen_ids = {category.id for category in categories}
    category_ids = {category.id for category in file.categories}
    image_ids = {image.id for image in images}
    kept_of_image: dict[int, list[Annotation]] = {}
    annotated_ids: set[int] = set()
    for annotation in annotations:
        annotated_ids.add(annotation.image_id)
        reason = (
            _annotation_reason(annotation, category_ids, chosen_ids, params)
            if annotation.image_id in image_ids
            else f"image_{image_ledger.dropped_ids[annotation.image_id]}"
            if annotation.image_id in image_ledger.dropped_ids
            else "unknown_image"
        )
        if reason is None:
            kept_of_image.setdefault(annotation.image_id, []).append(annotation)
        else:
            annotation_ledger.dropped[reason] += 1
            if params.on_defect == "fail" and reason in DEFECTS:
                raise CocosegError(f"{place}: annotation {annotation.id}: {reason}; mend it, or set on_defect: count")

    available: list[Image] = []
    for image in images:
        reason = _image_reason(image, kept_of_image.get(image.id, []), annotated_ids, params)
        if reason is None:
            available.append(image)
        else:
            image_ledger.dropped[reason] += 1
            annotation_ledger.dropped[f"image_{reason}"] += len(kept_of_image.pop(image.id, []))

    available.sort(key=lambda image: (unit_hash(params.data_seed, "select", image.id), image.id))
    for image in available[params.max_images :] if params.max_images else []:
        image_ledger.dropped["beyond_max_images"] += 1
        annotation_ledger.dropped["image_beyond_max_images"] += len(kept_of_image.pop(image.id, []))
    chosen = sorted(available[: params.max_images], key=lambda image: image.id)
    if not chosen:
        raise CocosegError(_nothing_left(place, image_ledger, annotation_ledger))
    _refuse_shared_masks(chosen, place)

    kept = [annotation for image in chosen for annotation in kept_of_image[image.id]]
    metrics = {
        "images": {
            "requested": params.max_images,
            "available": len(available),
            **account(image_ledger.input, image_ledger.dropped),
        },
        "annotations": account(annotation_ledger.input, annotation_ledger.dropped),
        "classes": _class_counts(categories, kept),
    }
    instances = Instances(
        info=file.info,
        licenses=file.licenses,
        images=chosen,
        annotations=kept,
        categories=categories,
    )
    return instances, metrics


def chosen_categories(categories: Sequence[Category], classes: Sequence[str], place: Path) -> list[Category]:
    """The categories named by `classes`, in that order; all of them in the order of their ids for an empty list."""
    by_name: dict[str, Category] = {}
    repeated_ids = [
        category_id for category_id, count in Counter(entry.id for entry in categories).items() if count > 1
    ]
    if repeated_ids:
        raise CocosegError(f"{place}: two categories have the id {repeated_ids[0]}; give each an id of its own")
    for category in categories:
        if category.name in by_name:
            raise CocosegError(f"{place}: two categories are named {category.name!r}; give each a name of its own")
        by_name[category.name] = category
    for name in classes:
        if name not in by_name:
            near = difflib.get_close_matches(name, by_name, n=1)
            hint = f"did you mean {near[0]}?" if near else f"it has: {', '.join(sorted(by_name))}"
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


def _sound_entries(
    entries: Sequence[Raw],
    type_: type[Entry],
    defect: Callable[[dict[str, Raw]], str],
    params: FilterParams,
    place: Path,
) -> tuple[list[Entry], Ledger]:
    """The entries that are of their type and bear an id of their own; the others are named in the ledger."""
    decoder = msgspec.json.Decoder(type_)
    ledger = Ledger(len(entries))
    sound: dict[int, Entry] = {}
    for position, raw in enumerate(entries):
        try:
            entry = decoder.decode(raw)
        except msgspec.ValidationError:
            reason, readable_id = _defect_of(raw, defect)
            if readable_id is not None:
                ledger.dropped_ids.setdefault(readable_id, reason)
        else:
            value_defect = _image_value_defect(entry) if isinstance(entry, Image) else None
            if value_defect is None and entry.id not in sound:
                sound[entry.id] = entry
                continue
            reason = value_defect or "duplicate_id"
            ledger.dropped_ids.setdefault(entry.id, reason)
        ledger.dropped[reason] += 1
        if params.on_defect == "fail":
            noun = type_.__name__.lower()
            raise CocosegError(f"{place}: {noun} at position {position}: {reason}; mend it, or set on_defect: count")
    return list(sound.values()), ledger


def _defect_of(raw: Raw, defect: Callable[[dict[str, Raw]], str]) -> tuple[str, int | None]:
    """Why an entry is not of its type, and its id if that much can be read."""
    try:
        fields = msgspec.json.decode(raw, type=dict[str, Raw])
    except msgspec.DecodeError:
        return "not_an_object", None
    readable = _is(fields.get("id"), int)
    return defect(fields), msgspec.json.decode(fields["id"], type=int) if readable else None


def _is(raw: Raw | None, type_: Any) -> bool:
    try:
        msgspec.json.decode(raw if raw is not None else b"null", type=type_)
    except msgspec.DecodeError:
        return False
    return True


def _image_defect(fields: dict[str, Raw]) -> str:
    if not _is(fields.get("id"), int):
        return "bad_id"
    if not _is(fields.get("file_name"), str):
        return "bad_file_name"
    return "bad_size" if not (_is(fields.get("width"), int) and _is(fields.get("height"), int)) else "bad_entry"


def _image_value_defect(image: Image) -> str | None:
    if not is_safe(image.file_name):
        return "unsafe_file_name"
    return None if 1 <= image.width <= LONGEST_SIDE_PX and 1 <= image.height <= LONGEST_SIDE_PX else "bad_size"


def _annotation_defect(fields: dict[str, Raw]) -> str:
    for key in ("id", "image_id", "category_id", "iscrowd"):
        if not _is(fields.get(key), int):
            return f"bad_{key}"
    return "bad_entry"


# The reasons that speak of a broken file; the others are choices of the parameters.
DEFECTS = frozenset(
    {
        "unknown_image",
        "unknown_category",
        "bad_iscrowd",
        "missing_segmentation",
        "null_segmentation",
        "empty_segmentation",
    }
)


def _annotation_reason(
    annotation: Annotation, category_ids: set[int], chosen_ids: set[int], params: FilterParams
) -> str | None:
    if annotation.category_id not in category_ids:
        return "unknown_category"
    if annotation.category_id not in chosen_ids:
        return "class_not_chosen"
    if annotation.iscrowd not in (0, 1):
        return "bad_iscrowd"
    if annotation.iscrowd == 1 and params.crowd == "drop":
        return "crowd"
    if annotation.segmentation is UNSET:
        return "missing_segmentation"
    if len(bytes(annotation.segmentation)) < 16:  # only a short one can be null or empty: most are kilobytes
        content = b"".join(bytes(annotation.segmentation).split())
        if content == b"null":
            return "null_segmentation"
        if content in (b"[]", b"{}", b'""'):
            return "empty_segmentation"
    return _area_reason(annotation, params.min_area_px)


def _area_reason(annotation: Annotation, min_area_px: float | None) -> str | None:
    if min_area_px is None:
        return None
    try:
        area = msgspec.json.decode(annotation.area if annotation.area is not UNSET else b"null", type=float)
    except msgspec.DecodeError:
        return "no_usable_area"
    return "below_min_area" if area < min_area_px else None


def _image_reason(
    image: Image, kept: Sequence[Annotation], annotated_ids: set[int], params: FilterParams
) -> str | None:
    if params.licenses is not None and image.license not in params.licenses:
        return "licence"
    if image.id not in annotated_ids:
        return "no_annotation"
    if not any(annotation.iscrowd == 0 or params.crowd == "keep" for annotation in kept):
        return "no_kept_annotation"
    if params.max_instances is not None and len(kept) > params.max_instances:
        return "too_many_instances"
    return None


def _refuse_shared_masks(images: Sequence[Image], place: Path) -> None:
    owners: dict[str, str] = {}
    folders = {
        str(parent).casefold(): image.file_name
        for image in images
        for name in (image.file_name, mask_name(image.file_name))
        for parent in PurePosixPath(name).parents
    }
    for image in images:
        # Compared without case: on macOS and Windows A.png and a.png are one file.
        owner = owners.setdefault(mask_name(image.file_name).casefold(), image.file_name)
        if owner is not image.file_name:
            raise CocosegError(
                f"{place}: images {owner!r} and {image.file_name!r} would share the mask "
                f"{mask_name(image.file_name)}; rename one of them"
            )
        for name in (image.file_name, mask_name(image.file_name)):
            if name.casefold() in folders:
                raise CocosegError(
                    f"{place}: image {image.file_name!r} would need a file where {folders[name.casefold()]!r} needs a "
                    "folder; rename one of them"
                )


def _nothing_left(place: Path, images: Ledger, annotations: Ledger) -> str:
    def listed(ledger: Ledger) -> str:
        return ", ".join(f"{count} {reason}" for reason, count in ledger.dropped.most_common() if count) or "none"

    return (
        f"{place}: no image is left of {images.input} (dropped: {listed(images)}; "
        f"annotations: {listed(annotations)}); loosen classes, licenses, max_instances or min_area_px in params.yaml"
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
