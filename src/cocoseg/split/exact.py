"""Split images into sides of exact size, stratified by class: `split_rule: exact`."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from cocoseg.split.params import Side
from cocoseg.unit_hash import unit_hash

SIDES: tuple[Side, ...] = ("train", "val", "test")
Group = Sequence[int]
"""The ids of images that stay together; the first id names the group."""


def exact_counts(images: int, shares: Mapping[Side, float]) -> dict[Side, int]:
    """Return counts that sum to `images`, each within 1 of its share: the largest remainder method (Hamilton)."""
    quotas = {side: images * share for side, share in shares.items()}
    # 1e-9: 0.1 * 30 is 3.0000000000000004 in floats, which is no remainder.
    counts = {side: int(quota + 1e-9) for side, quota in quotas.items()}
    by_remainder = sorted(SIDES, key=lambda side: (-round(quotas[side] - counts[side], 9), SIDES.index(side)))
    for side in by_remainder[: images - sum(counts.values())]:
        counts[side] += 1
    return counts


def exact_sides(
    groups: Sequence[Group], classes_of_image: Mapping[int, set[int]], shares: Mapping[Side, float], data_seed: int
) -> dict[int, Side]:
    """Return the side of each image: counts are exact, groups stay together, each side gets its share of each class.

    Iterative stratification (Sechidis, Tsoumakas and Vlahavas 2011): deals out the rarest class first, each group to
    the side that lacks most of it. A class with no more groups left than there are sides without it
    goes to those sides first. At the end, groups of equal size are swapped where a side still lacks a class.
    """
    deal = _Deal(groups, classes_of_image, shares, data_seed)
    while any(deal.left_of_class.values()):
        group, rarest = deal.next_group()
        deal.give(group, deal.side_for(group, rarest))
    deal.supply_lacking_classes()
    return deal.side_of


class _Deal:
    """The state of the split while groups are dealt out to sides."""

    def __init__(
        self,
        groups: Sequence[Group],
        classes_of_image: Mapping[int, set[int]],
        shares: Mapping[Side, float],
        data_seed: int,
    ) -> None:
        self.groups = groups
        self.sides = [side for side, share in shares.items() if share > 0]
        self.room = exact_counts(sum(len(group) for group in groups), shares)
        self.classes_of = {group[0]: set().union(*(classes_of_image[image] for image in group)) for group in groups}
        self.left_of_class: dict[int, dict[int, Group]] = defaultdict(dict)
        # Larger groups come first, while there is room for them. The order among equals is a hash, not the file's.
        for group in sorted(groups, key=lambda one: (-len(one), unit_hash(data_seed, "split", one[0]), one[0])):
            for class_index in self.classes_of[group[0]]:
                self.left_of_class[class_index][group[0]] = group
        self.wanted = {
            (side, class_index): shares[side] * len(left)
            for side in self.sides
            for class_index, left in self.left_of_class.items()
        }
        self.holds: Counter[tuple[Side, int]] = Counter()
        self.images_of: Counter[Side] = Counter()
        self.side_of: dict[int, Side] = {}
        self.dealt = 0

    def next_group(self) -> tuple[Group, int]:
        """Return the next group of the class with the fewest groups left, and that class."""
        rarest = min((len(left), class_index) for class_index, left in self.left_of_class.items() if left)[1]
        return next(iter(self.left_of_class[rarest].values())), rarest

    def side_for(self, group: Group, rarest: int) -> Side:
        """Return the side that `group`, which has the class `rarest`, goes to."""
        fits = [side for side in self.sides if self.room[side] >= len(group)]
        fits = fits or [max(self.sides, key=lambda side: self.room[side])]
        lacking = [side for side in self.sides if not self.holds[side, rarest]]
        if len(self.left_of_class[rarest]) <= len(lacking):
            fits = [side for side in fits if side in lacking] or fits
        empty = [side for side in self.sides if not self.images_of[side]]
        if len(self.groups) - self.dealt <= len(empty):
            fits = empty
        return max(fits, key=lambda side: (self.wanted[side, rarest], self.room[side], -SIDES.index(side)))

    def give(self, group: Group, side: Side) -> None:
        """Put a group on a side."""
        self.dealt += 1
        self.side_of |= dict.fromkeys(group, side)
        self.room[side] -= len(group)
        self.images_of[side] += len(group)
        for class_index in self.classes_of[group[0]]:
            self.wanted[side, class_index] -= 1
            self.holds[side, class_index] += 1
            del self.left_of_class[class_index][group[0]]

    def supply_lacking_classes(self) -> None:
        """Swap groups of equal size if a side lacks a class that another has twice, and neither side loses a class."""
        for class_index in sorted({class_index for classes in self.classes_of.values() for class_index in classes}):
            for side in self.sides:
                if not self.holds[side, class_index] and (swap := self._swap(class_index, side)) is not None:
                    donated, returned = swap
                    donor = self.side_of[donated[0]]
                    self._move(donated, donor, side)
                    self._move(returned, side, donor)

    def _swap(self, class_index: int, side: Side) -> tuple[Group, Group] | None:
        """Return a group that brings the class to `side`, and the group of `side` to swap it for, or None."""
        for donated in self.groups:
            donor = self.side_of[donated[0]]
            if class_index not in self.classes_of[donated[0]] or self.holds[donor, class_index] < 2:
                continue
            for returned in self.groups:
                if self.side_of[returned[0]] != side or len(returned) != len(donated):
                    continue
                if self._spares(donor, donated, returned) and self._spares(side, returned, donated):
                    return donated, returned
        return None

    def _spares(self, side: Side, given: Group, got: Group) -> bool:
        """Return whether `side` still has all its classes after it gives one group and gets another."""
        lost = self.classes_of[given[0]] - self.classes_of[got[0]]
        return all(self.holds[side, class_index] > 1 for class_index in lost)

    def _move(self, group: Group, old: Side, new: Side) -> None:
        self.side_of |= dict.fromkeys(group, new)
        for class_index in self.classes_of[group[0]]:
            self.holds[old, class_index] -= 1
            self.holds[new, class_index] += 1
