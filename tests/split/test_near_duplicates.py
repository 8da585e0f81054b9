"""Images that look the same, by their perceptual hashes."""

import itertools
import random

from cocoseg.split.near_duplicates import near_duplicate_groups, near_duplicate_pairs


def test_near_duplicates_differ_in_at_most_four_of_64_bits() -> None:
    phashes = {1: f"{0:016x}", 2: f"{0b1111:016x}", 3: f"{0b11111:016x}", 4: "f" * 16, 5: f"{1 << 63 | 1 << 40:016x}"}
    # 1-2 differ in 4 bits, 2-3 in 1, 1-3 in 5; 5 differs from 1 in 2 bits and from 2 in 6
    assert near_duplicate_pairs(phashes) == [(1, 2), (1, 5), (2, 3)]
    assert near_duplicate_groups(phashes) == [[1, 2, 3, 5], [4]]


def test_no_pair_is_missed_that_comparing_all_with_all_would_find() -> None:
    chance = random.Random(0)
    hashes: dict[int, int] = {}
    for number in range(120):
        near = hashes[chance.randrange(number)] if number and chance.random() < 0.5 else chance.getrandbits(64)
        for bit in chance.sample(range(64), 1 + chance.randrange(6)):
            near ^= 1 << bit
        hashes[number] = near if near not in hashes.values() else chance.getrandbits(64)
    expected = [
        (first, second)
        for first, second in itertools.combinations(sorted(hashes), 2)
        if (hashes[first] ^ hashes[second]).bit_count() <= 4
    ]
    assert len(expected) > 20
    assert near_duplicate_pairs({number: f"{value:016x}" for number, value in hashes.items()}) == expected
