"""Which annotations of the chosen classes stay, and what is broken about the others."""

from collections import Counter
from math import nan
from typing import Any, cast

import msgspec
from msgspec import UNSET, Raw, UnsetType

from cocoseg.coco.format import UNREADABLE, LostObject
from cocoseg.filter.categories import Categories
from cocoseg.filter.entries import AnnotationEntry, Ledger, PlainEntry, found
from cocoseg.filter.ids import AnnotationIds, Key, key_of
from cocoseg.filter.params import FilterParams
from cocoseg.filter.tidy import TidyImages, tidy_crowd

_LONGEST_EMPTY = 15  # bytes
_AREA: msgspec.json.Decoder[Any] = msgspec.json.Decoder(float | str)


class Judge:
    """Judge the annotations that may be of a chosen class, and count those that go.

    `annotated`: the images that have any annotation; `named`: the categories. `others`: how many are of a class that is
    not chosen.
    """

    def __init__(
        self, images: TidyImages, categories: Categories, ids: AnnotationIds, ledger: Ledger, params: FilterParams
    ) -> None:
        self.annotated: set[int] = set()
        self.named: set[int] = set()
        self._unknown_images: Counter[Key] = Counter()
        self._unknown_categories: Counter[Key] = Counter()
        self.lost: list[LostObject] = []
        self.others = 0
        self.images = images
        self.categories = categories
        self.ledger = ledger
        self._ids = ids
        self._are_sound, self._are_shared = ids.sound, bool(ids.shared)
        self._params = params
        self._chooses = params.crowd == "drop" or params.min_area_px is not None
        self._name_of = {image.id: image.file_name for image in images.images}
        # Ids that need no look at the numbers behind them. Of a Python `set`: a test of all of a piece is one call.
        self._own_images, self._own_categories = (
            {key for key, number in one.numbers.items() if key == number} for one in (images, categories)
        )

    def plain(self, piece: list[AnnotationEntry] | list[Raw]) -> list[PlainEntry] | None:
        """Return those of a piece that stay; `None` if it has one that is not plain, or of no known image or category.

        All of a piece at once: a file has hundreds of thousands of entries.
        """
        if not piece or type(piece[0]) is not PlainEntry or not self._are_sound:
            return None
        entries = cast(list[PlainEntry], piece)
        images = {one.image_id for one in entries}
        categories = {one.category_id for one in entries}
        if not images <= self._own_images or not categories <= self._own_categories:
            return None
        self.annotated |= images
        self.named |= categories
        chosen_ids = self.categories.ids
        chosen = [one for one in entries if one.category_id in chosen_ids]
        self.others += len(entries) - len(chosen)
        long = 0 if self._chooses else _LONGEST_EMPTY
        return [
            one
            for one in chosen
            if (long and len(one.segmentation) > long) or self.keeps(0, one, one.image_id, one.category_id)
        ]

    def keeps(self, position: int, entry: AnnotationEntry, image_id: int, category_id: int | None) -> bool:
        """Return whether an annotation of a known image stays, then in COCO's form but for its two ids."""
        ledger = self.ledger
        if self._are_shared and self._ids.is_repeated(entry):
            ledger.dropped["duplicate"] += 1
            return False
        ignored = entry.ignore is not UNSET and _is_ignored(entry)
        if self._chooses and (choice := _choice(entry, self._params)):
            ledger.dropped[choice] += 1
            return False
        if category_id is None and (key := key_of(entry.category_id)) not in self.categories.defective:
            self._unknown_categories[key] += 1
        defect = _category_defect(entry, self.categories) if category_id is None else _defect(entry, self._params)
        if defect is not None:
            reason, value = defect
            ledger.count_defect(reason, f"{_named(entry, position)} of {self._name_of[image_id]}", value)
            self.lost.append(LostObject(image_id=image_id, reason=reason, bbox=entry.bbox))
            return False
        if type(entry.iscrowd) is not int:
            entry.iscrowd = tidy_crowd(entry.iscrowd)
            ledger.converted["iscrowd"] += 1
        if ignored:
            ledger.converted["ignore"] += 1
        if not self._are_sound:
            entry.id = self._ids.of(entry, ledger)
        return True

    def note_unknown_image(self, entry: AnnotationEntry) -> None:
        """Remember the id of an image that never was, also of an annotation of a class that is not chosen."""
        if (key := key_of(entry.image_id)) not in self.images.defective:
            self._unknown_images[key] += 1

    def count_without_image(self, position: int, entry: AnnotationEntry) -> None:
        """Count an annotation whose image went, or never was."""
        gone = self.images.defective.get(key_of(entry.image_id))
        if gone:
            self.ledger.dropped[f"image_{gone}"] += 1
        else:
            self.ledger.count_defect("unknown_image", _named(entry, position), found("image_id", entry.image_id))

    def moved_ids(self) -> str:
        """Return which ids of annotations seem to count from another number than those of the list, in words.

        Where that is not likely, the example of the annotations that are lost says so, and nothing is returned.
        """
        # Of ids that are all moved by one, those of the list are named but for one end, and the one beyond the other
        # end has about as many annotations as each. A stray annotation has fewer; negatives leave gaps, and an end may
        # be one of them. Classes are rarer or more frequent than each other by far more than images are.
        for noun, listed, named, unknown, most_named, share in (
            ("image", self.images.numbers, self.annotated, self._unknown_images, 0.95, 0.5),
            ("category", self.categories.numbers, self.named, self._unknown_categories, 1.0, 0.05),
        ):
            low, high = min(listed.values(), default=0), max(listed.values(), default=0)
            for one, end in ((low - 1, high), (high + 1, low)):
                if unknown.keys() != {one} or end in named or high - low + 1 != len(listed) or len(listed) < 2:
                    continue
                mean = (self.ledger.input - unknown[one]) / max(1, len(named))
                is_as_others = unknown[one] > share * mean and (unknown[one] > 1 or mean < 2)
                if is_as_others and len(named) >= most_named * (len(listed) - 1):
                    return (
                        f"annotations name the {noun}_id {one}, which is not listed, and none names {end}, of {low} to "
                        f"{high}: all seem to be moved by one; correct {noun}_id, or remove the annotations of {one}"
                    )
                if (reason := f"unknown_{noun}") in self.ledger.first:
                    self.ledger.first[reason] += (
                        f"; none names {end}, of {low} to {high}: check that none is moved by one"
                    )
        return ""


def _is_ignored(entry: AnnotationEntry) -> bool:
    """Read the flag `ignore`, and return whether it makes a crowd of an object: a region that `crowd` decides about.

    The flag is unset, unless it is neither 0 nor 1.
    """
    flag = None if isinstance(entry.ignore, UnsetType) else tidy_crowd(entry.ignore)
    if flag is not None:
        entry.ignore = UNSET
    if flag != 1 or tidy_crowd(entry.iscrowd) != 0:
        return False
    entry.iscrowd = 1
    return True


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
    if entry.ignore is not UNSET:
        return "bad_ignore", f"ignore is {entry.ignore!r}"
    if entry.segmentation is UNSET:
        return "missing_segmentation", ""
    if len(entry.segmentation) <= _LONGEST_EMPTY:  # most are kilobytes, and only a short one can be null or empty
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
