"""Find images that look the same by their perceptual hashes."""

import itertools
from collections import defaultdict
from collections.abc import Iterable, Mapping

MOST_DIFFERING_BITS = 4
_HASH_BITS = 64
_BANDS = MOST_DIFFERING_BITS + 1


def near_duplicate_pairs(phash_of_image: Mapping[int, str]) -> list[tuple[int, int]]:
    """Return the pairs of image ids whose 64-bit hashes differ in at most 4 bits, sorted.

    If four bits differ, at least one of five bands is equal, so only images that share a band are compared. Images of
    equal hash form a chain of pairs.
    """
    images_of_hash: dict[int, list[int]] = defaultdict(list)
    for image_id in sorted(phash_of_image):
        images_of_hash[int(phash_of_image[image_id], 16)].append(image_id)
    pairs: set[tuple[int, int]] = set()
    for same in images_of_hash.values():
        # A chain, not all pairs: ten thousand black images would be fifty million pairs.
        pairs.update(itertools.pairwise(same))
    for hashes in _sharing_a_band(list(images_of_hash)):
        for position, first in enumerate(hashes):
            for second in hashes[position + 1 :]:
                if (first ^ second).bit_count() <= MOST_DIFFERING_BITS:
                    low, high = sorted((images_of_hash[first][0], images_of_hash[second][0]))
                    pairs.add((low, high))
    return sorted(pairs)


def near_duplicate_groups(
    phash_of_image: Mapping[int, str], together: Iterable[tuple[int, int]] = ()
) -> list[list[int]]:
    """Return the images in groups, so that near-duplicates of near-duplicates share a group. Most hold one image.

    The pairs of ids in `together` share a group too.
    """
    leader = {image_id: image_id for image_id in phash_of_image}

    def find(image_id: int) -> int:
        while leader[image_id] != image_id:
            leader[image_id] = leader[leader[image_id]]
            image_id = leader[image_id]
        return image_id

    for first, second in itertools.chain(near_duplicate_pairs(phash_of_image), together):
        low, high = sorted((find(first), find(second)))
        leader[high] = low
    groups: dict[int, list[int]] = defaultdict(list)
    for image_id in sorted(phash_of_image):
        groups[find(image_id)].append(image_id)
    return list(groups.values())


def _sharing_a_band(hashes: list[int]) -> list[list[int]]:
    width = -(-_HASH_BITS // _BANDS)
    sharing: dict[tuple[int, int], list[int]] = defaultdict(list)
    for value in hashes:
        for band in range(_BANDS):
            sharing[band, (value >> (band * width)) & ((1 << width) - 1)].append(value)
    return [group for group in sharing.values() if len(group) > 1]
