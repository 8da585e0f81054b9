"""What holds for every test."""

import os

# Two tests run at a time, and start processes of their own: threads of several would wait for each other's cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
