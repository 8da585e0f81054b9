"""Random integers that are the same on every machine and under every version of numpy."""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt

Option = TypeVar("Option")


class Rng:
    """A stream of random integers, chosen by its key: integers of at least 0.

    numpy guarantees what `PCG64.random_raw` returns for a seed, but not what the methods of `Generator` compute
    from it (NEP 19), so the sample is drawn from the raw integers alone.
    """

    def __init__(self, *key: int) -> None:
        self._bits = np.random.PCG64(key)

    def below(self, count: int) -> int:
        """Return an integer from 0 to `count` - 1, for a `count` far below 2**32."""
        return (self._bits.random_raw() >> 32) * count >> 32

    def field(self, count: int, height: int, width: int) -> npt.NDArray[np.int32]:
        """Return what `height` times `width` calls of `below` would, (height, width)."""
        return ((self._bits.random_raw((height, width)) >> 32) * count >> 32).astype(np.int32)

    def between(self, low: int, high: int) -> int:
        """Return an integer from `low` to `high`, both included."""
        return low + self.below(high - low + 1)

    def one_in(self, count: int) -> bool:
        """Return true with a probability of one in `count`."""
        return self.below(count) == 0

    def choice(self, options: Sequence[Option]) -> Option:
        """Return one of `options`."""
        return options[self.below(len(options))]

    def permutation(self, count: int) -> list[int]:
        """Return the integers below `count` in random order."""
        order: list[int] = np.argsort(self._bits.random_raw(count), kind="stable").tolist()
        return order
