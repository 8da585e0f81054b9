import numpy as np

from cocoseg.chance import Chance


def test_the_stream_is_the_published_splitmix64() -> None:
    chance = Chance()
    # First outputs of the reference implementation (https://prng.di.unimi.it/splitmix64.c) for the seed 0.
    assert chance.integer(0, 2**64 - 1) == 0xE220A8397B1DCDAF
    assert chance.integer(0, 2**64 - 1) == 0x6E789E6AA1B965F4
    assert chance.integer(0, 2**64 - 1) == 0x06C45D188009454F


def test_a_field_holds_the_bytes_of_the_same_stream() -> None:
    one, other = Chance(1, 2), Chance(1, 2)
    words = [one.integer(0, 2**64 - 1) for _ in range(3)]
    expected = [word >> shift & 255 for word in words for shift in range(0, 64, 8)]
    assert other.field(4, 5).tolist() == np.array(expected[:20]).reshape(4, 5).tolist()
    assert one.integer(0, 99) == other.integer(0, 99)


def test_integers_stay_in_their_range_and_reach_its_ends() -> None:
    chance = Chance(7)
    assert {chance.integer(-2, 2) for _ in range(200)} == {-2, -1, 0, 1, 2}


def test_a_shuffle_is_a_permutation_and_depends_on_the_key() -> None:
    assert sorted(Chance(1).shuffled(20)) == list(range(20))
    assert Chance(1, 2).shuffled(20) != Chance(2, 1).shuffled(20)
