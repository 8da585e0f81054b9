"""How PyTorch's threads wait for each other."""

import os

# Of libgomp, which PyTorch's wheels for Linux bring. By default a thread that waits tests its flag 300,000 times before
# it sleeps. If other programs hold the cores, the threads of a training then wait for each other at full speed. Alone,
# 3,000 tests cost a training step 0 to 3 % of its time, and 1,000 cost 2 to 9 %.
_TESTS = "3000"


def wait_briefly() -> None:
    """Let PyTorch's threads sleep soon when they wait, unless the environment says how.

    To be called before torch is imported. Results do not depend on it: the number of threads stays.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", _TESTS)
