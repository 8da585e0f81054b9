"""Train segmentation models on COCO; trust, repeat, compare and share every result."""

import sys
from pathlib import Path

from cocoseg.core.interrupt import end_silently_at_ctrl_c
from cocoseg.core.surroundings import settle

# So early, because modules in C, such as msgspec's, can clear Python's exception for Ctrl-C while they are imported.
_started = Path(sys.argv[0])
# With -m, which comes before its module: other programs' own handlers are theirs.
_module = sys.orig_argv[-len(sys.argv)].removeprefix("-m").split(".")[0] if _started.name == "-m" else ""
if _started.parent.name == "stages" or "cocoseg" in (_started.name, _module):
    end_silently_at_ctrl_c()
    settle()
