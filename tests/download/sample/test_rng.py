import numpy as np

from cocoseg.download.sample.rng import Rng


def test_numpys_raw_integers_are_those_that_the_sample_was_drawn_from() -> None:
    # numpy promises that they never change; if these do, the sample does, and so does every number in the README.
    assert np.random.PCG64((0,)).random_raw(2).tolist() == [0xA30FEBCFD9C2825F, 0x4510BDF882D9D721]
    assert np.random.PCG64((20170712, 1, 0)).random_raw(2).tolist() == [0x08AEADF0CEBCFB09, 0x0B74E9C1C709E51B]
    assert np.random.PCG64((20170712, 1032, 2)).random_raw(2).tolist() == [0x1D6DA5198CB15DCB, 0x370BE2C25724F1F4]


def test_integers_are_the_upper_half_of_the_raw_ones_scaled_to_their_range() -> None:
    raw = np.random.PCG64((1, 2)).random_raw(50).tolist()
    rng = Rng(1, 2)
    assert [rng.below(10) for _ in raw] == [int((word // 2**32) / 2**32 * 10) for word in raw]


def test_a_field_holds_the_integers_of_the_same_stream() -> None:
    one, other = Rng(1, 2), Rng(1, 2)
    assert other.field(256, 4, 5).tolist() == [[one.below(256) for _ in range(5)] for _ in range(4)]
    assert one.below(100) == other.below(100)


def test_integers_stay_in_their_range_and_reach_its_ends() -> None:
    rng = Rng(7)
    assert {rng.between(-2, 2) for _ in range(200)} == {-2, -1, 0, 1, 2}
    assert {rng.choice("abc") for _ in range(100)} == set("abc")
    assert set(rng.field(3, 10, 10).ravel().tolist()) == {0, 1, 2}


def test_one_in_four_is_true_about_once_in_four_times() -> None:
    rng = Rng(7)
    assert 900 < sum(rng.one_in(4) for _ in range(4000)) < 1100


def test_a_permutation_has_every_integer_once_and_depends_on_the_key() -> None:
    assert sorted(Rng(1).permutation(20)) == list(range(20))
    assert Rng(1, 2).permutation(20) != Rng(2, 1).permutation(20)
