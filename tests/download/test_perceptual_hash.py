"""The fingerprint by which near-duplicates are found."""

from itertools import combinations
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from cocoseg.download.perceptual_hash import perceptual_hash

COCO_REAL = Path(__file__).parents[1].parent.parent / "shared" / "data" / "coco-real" / "images"

Pixels = NDArray[np.uint8]


def distance(first: str, second: str) -> int:
    return (int(first, 16) ^ int(second, 16)).bit_count()


def test_a_hash_is_sixteen_hexadecimal_digits_of_any_size() -> None:
    for height, width in ((1, 1), (7, 200), (31, 33), (640, 480)):
        value = perceptual_hash(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))
        assert len(value) == 16
        assert 0 <= int(value, 16) < 2**64


def test_the_hash_of_a_step_is_known() -> None:
    """The odd frequencies of a step from dark to bright alternate in sign, the even ones and all others are 0."""
    step = np.zeros((64, 64, 3), np.uint8)
    step[:, 32:] = 200

    # First row: the mean, above; then -, 0, +, 0, -, 0, +. The median is 0, so only three bits are set.
    assert perceptual_hash(step) == "9100000000000000"


def test_the_hash_does_not_change_with_the_size_of_flat_areas() -> None:
    small = np.random.default_rng(1).integers(0, 256, (32, 32, 3), dtype=np.uint8)

    assert perceptual_hash(small) == perceptual_hash(small.repeat(5, axis=0).repeat(3, axis=1))


def photographs() -> list[Pixels]:
    return [decoded(path.read_bytes()) for path in sorted(COCO_REAL.glob("*.jpg"))[:60]]


def decoded(data: bytes) -> Pixels:
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert pixels is not None
    return pixels.astype(np.uint8)


@pytest.mark.skipif(not COCO_REAL.is_dir(), reason="real images are not at hand")
def test_real_photographs_stay_within_four_bits_of_their_copies_and_far_from_each_other() -> None:
    images = photographs()
    hashes = [perceptual_hash(image) for image in images]

    for image, original in zip(images, hashes, strict=True):
        again = decoded(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 50])[1].tobytes())
        brighter = np.minimum(image, 245) + np.uint8(10)
        for copy in (again, brighter, image[::2, ::2]):
            assert distance(original, perceptual_hash(copy)) <= 4
    assert min(distance(first, second) for first, second in combinations(hashes, 2)) >= 12
