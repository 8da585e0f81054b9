"""An order of images that no run, machine or neighbour changes."""

from cocoseg.unit_hash import unit_hash


def test_a_hash_is_what_sha_256_says() -> None:
    # `printf 0/split/139 | sha256sum` begins with 59bf339cfb6b5f7a; its first 53 bits over 2**53. It may never change:
    # every split would change with it.
    assert unit_hash(0, "split", 139) == (0x59BF339CFB6B5F7A >> 11) / 2**53 == 0.350573755098066


def test_seed_purpose_and_image_each_change_the_hash() -> None:
    values = {unit_hash(0, "split", 1), unit_hash(1, "split", 1), unit_hash(0, "select", 1), unit_hash(0, "split", 2)}
    assert len(values) == 4
    assert all(0 <= value < 1 for value in values)
