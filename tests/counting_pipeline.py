"""A pipeline of three stages that runs in a second and has every kind of output.

A folder, an empty folder, files, and a metric that git tracks. `total.txt` has the content of the first file of the
folder, and `report.txt` has it twice.
"""

from pathlib import Path

from clones import Clone

DVC_YAML = """\
stages:
  draw:
    cmd: python draw.py
    deps: [draw.py]
    params: [count]
    outs: [raw, none]
  count:
    cmd: python count.py
    deps: [count.py, raw/0.txt]
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
Path("metrics").mkdir(exist_ok=True)
Path("total.txt").write_text(Path("raw/0.txt").read_text())
Path("metrics/total.json").write_text('{"total": 1}')
"""


def counting_pipeline(folder: Path) -> Clone:
    """Return the pipeline in `folder`: run, committed, and pushed to `store` beside it, its default remote."""
    pipeline = Clone(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in {"dvc.yaml": DVC_YAML, "draw.py": DRAW, "count.py": COUNT, "params.yaml": "count: 3\n"}.items():
        (folder / name).write_text(text)
    pipeline.git("init", "--quiet", "--initial-branch=main")
    pipeline.git("config", "user.name", "A. Tester")
    pipeline.git("config", "user.email", "tester@example.org")
    pipeline.dvc_here("init", "--quiet")
    pipeline.dvc_here("remote", "add", "--default", "store", "../store")
    pipeline.dvc_here("repro")
    pipeline.dvc_here("push")
    pipeline.commit("results")
    return pipeline
