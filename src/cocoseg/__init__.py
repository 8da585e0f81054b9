"""Train segmentation models on COCO; trust, repeat, compare and share every result."""

import sys
from pathlib import Path

from cocoseg.core.interrupt import end_silently_at_ctrl_c

# So early, because modules in C, such as msgspec's, can clear Python's exception for Ctrl-C while they are imported.
_started = Path(sys.argv[0])
if _started.parent.name == "stages" or _started.name in ("cocoseg", "-m"):  # -m: python -m cocoseg, for now
    end_silently_at_ctrl_c()
