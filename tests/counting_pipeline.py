"""A pipeline of three stages that runs in a second and has every kind of output.

A folder, an empty folder, files, and a metric that git tracks. `total.txt` has the content of the first file of the
folder, and `report.txt` has it twice. A folder of modules is among its dependencies, with our `.dvcignore`.
"""

import shutil
from pathlib import Path

from clones import ROOT, Clone

DVC_YAML = """\
stages:
  draw:
    cmd: python draw.py
    deps: [draw.py]
    params: [count]
    outs: [raw, none]
  count:
    cmd: PYTHONPATH=src python count.py
    deps: [count.py, raw/0.txt, src/counting]
    outs: [total.txt]
    metrics:
    - metrics/total.json: {cache: false}
  report:
    cmd: cat total.txt total.txt > report.txt
    deps: [total.txt]
    outs: [report.txt]
"""
DRAW = """\
from pathlib import Path
Path("raw").mkdir()
Path("none").mkdir()
for number in range(3):
    Path(f"raw/{number}.txt").write_text(f"drawn {number}")
"""
COUNT = """\
from pathlib import Path
from counting.total import TOTAL
Path("metrics").mkdir(exist_ok=True)
Path("total.txt").write_text(Path("raw/0.txt").read_text())
Path("metrics/total.json").write_text(f'{{"total": {TOTAL}}}')
"""
FILES = {
    "dvc.yaml": DVC_YAML,
    "draw.py": DRAW,
    "count.py": COUNT,
    "src/counting/__init__.py": "",
    "src/counting/total.py": "from counting.unit import UNIT\nTOTAL = 1 * UNIT\n",
    "src/counting/unit.py": "UNIT = 1\n",
    "params.yaml": "count: 3\n",
    ".gitignore": "__pycache__/\n",
}


def counting_pipeline(folder: Path) -> Clone:
    """Return the pipeline in `folder`: run, committed, and pushed to `store` beside it, its default remote."""
    pipeline = Clone(folder)
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    pipeline.git("init", "--quiet", "--initial-branch=main")
    pipeline.git("config", "user.name", "A. Tester")
    pipeline.git("config", "user.email", "tester@example.org")
    pipeline.dvc_here("init", "--quiet")
    shutil.copy(ROOT / ".dvcignore", folder)
    pipeline.dvc_here("remote", "add", "--default", "store", "../store")
    pipeline.dvc_here("repro")
    pipeline.dvc_here("push")
    pipeline.commit("results")
    return pipeline
