"""What came in is what stayed and what went."""

from collections import Counter

from cocoseg.accounts import account


def test_an_account_adds_up_and_names_only_reasons_that_took_something() -> None:
    assert account(10, Counter({"b": 2, "a": 3, "none": 0})) == {"input": 10, "kept": 5, "dropped": {"a": 3, "b": 2}}
