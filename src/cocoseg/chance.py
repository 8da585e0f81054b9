"""Random whole numbers, the same on every machine."""

import numpy as np
import numpy.typing as npt

_INCREMENT = 0x9E3779B97F4A7C15
_MASK = (1 << 64) - 1


class Chance:
    """A stream of random integers: SplitMix64 (Steele, Lea and Flood 2014), every bit of it written down here.

    Python promises only `random()` across versions and numpy no stream at all, so neither can hold a dataset still.
    """

    def __init__(self, *key: int) -> None:
        self._state = 0
        for part in key:
            self._state = _mix((self._state + part + 1) * _INCREMENT & _MASK)

    def integer(self, low: int, high: int) -> int:
        """An integer from `low` to `high`, both included."""
        self._state = (self._state + _INCREMENT) & _MASK
        return low + (_mix(self._state) * (high - low + 1) >> 64)

    def one_in(self, count: int) -> bool:
        """True once in `count` times."""
        return self.integer(1, count) == 1

    def sign(self) -> int:
        """-1 or 1."""
        return 2 * self.integer(0, 1) - 1

    def shuffled(self, count: int) -> list[int]:
        """The integers below `count` in random order."""
        order = list(range(count))
        for last in range(count - 1, 0, -1):
            other = self.integer(0, last)
            order[last], order[other] = order[other], order[last]
        return order

    def field(self, height: int, width: int) -> npt.NDArray[np.int64]:
        """Independent integers from 0 to 255, (height, width)."""
        # Eight bytes of each word, little-endian on every machine.
        words = -(-height * width // 8)
        steps = np.arange(1, words + 1, dtype=np.uint64) * np.uint64(_INCREMENT) + np.uint64(self._state)
        self._state = (self._state + words * _INCREMENT) & _MASK
        octets = _mix_array(steps).astype("<u8").view(np.uint8)
        return octets[: height * width].reshape(height, width).astype(np.int64)


def _mix(state: int) -> int:
    state = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 & _MASK
    state = (state ^ state >> 27) * 0x94D049BB133111EB & _MASK
    return state ^ state >> 31


def _mix_array(state: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """`_mix` of each, (n,) uint64; the product wraps at 64 bits as it should."""
    state = (state ^ state >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ state >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    mixed: npt.NDArray[np.uint64] = state ^ state >> np.uint64(31)
    return mixed
