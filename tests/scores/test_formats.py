"""Numbers and intervals in tables, worked out by hand."""

from cocoseg.scores.formats import interval, number


def test_a_number_has_four_decimals_or_the_form_that_is_asked_for() -> None:
    assert number(2 / 3) == "0.6667"
    assert number(2 / 3, ".3f") == "0.667"
    assert (number(0.05, "+.4f"), number(-0.05, "+.4f")) == ("+0.0500", "-0.0500")


def test_an_interval_has_both_ends_in_one_form() -> None:
    assert interval(-0.01, 0.125, "+.4f") == "-0.0100 to +0.1250"


def test_what_is_unknown_is_a_dash() -> None:
    assert number(None) == interval(None, 0.5, ".3f") == interval(0.5, None, ".3f") == "–"
