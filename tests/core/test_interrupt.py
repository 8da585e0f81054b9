"""Ctrl-C in a terminal: the prompt is back within 2 s, after one line at most, whatever is under way."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from terminal import Interrupted, press_ctrl_c

ROOT = Path(__file__).parents[2]
# What the main thread does. While it is in C code, Python calls no handler.
PHASES = {
    "its own loop": "while True: pass",
    "C code": "import hashlib; hashlib.pbkdf2_hmac('sha256', b'a', b'b', 10**9)",
    "threads that never end": "with ThreadPoolExecutor(4) as pool: list(pool.map(time.sleep, [300] * 8))",
    "workers that are busy": "with process_pool(2) as pool: list(pool.map(time.sleep, [300] * 4))",
    "workers that are starting": "with process_pool(2) as pool: pool.submit(abs, 1).result(); time.sleep(300)",
    "code that swallows it": "exec('while True:\\n try: time.sleep(300)\\n except BaseException: pass')",
    "code that takes it for a fault": "exec('try: time.sleep(300)\\nexcept BaseException: raise RuntimeError')",
    "code that goes on": "exec('try: time.sleep(300)\\nexcept BaseException: pass')",
    "an import": "Path('slow.py').write_text('try: open(0).read()\\nfinally: open(\"cleaned\", \"w\")'); import slow",
    "an end that hangs": "sys.hangs = Hangs(); time.sleep(300)",
    "cleaning up": "exec('try: time.sleep(300)\\nfinally: Path(\"cleaned\").touch()')",
}
SCRIPT = """\
import sys, time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
import msgspec
from cocoseg.core.stage import run
from cocoseg.workers import process_pool

class Params(msgspec.Struct, frozen=True, kw_only=True):
    lr: float

class Hangs:
    def __del__(self, sleep=time.sleep):
        sleep(300)

def main(params):
    print("begins", flush=True)
    {phase}

if __name__ == "__main__":
    run(main, Params)
"""


@pytest.mark.parametrize("phase", PHASES)
def test_ctrl_c_ends_a_stage_in_every_phase_with_one_line_and_status_130(phase: str, tmp_path: Path) -> None:
    (tmp_path / "toy.py").write_text(SCRIPT.format(phase=PHASES[phase]))
    (tmp_path / "params.yaml").write_text("lr: 1\n")
    (tmp_path / "dvc.yaml").write_text("stages: {toy: {cmd: x, params: [lr]}}\n")
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    ended = press_ctrl_c([sys.executable, "toy.py"], tmp_path, environment, "begins", 0.3)
    assert (ended.status, ended.lines) == (130, ["toy: interrupted; run the same line again to go on"])
    assert ended.seconds < 2
    assert (tmp_path / "cleaned").exists() == (phase == "cleaning up")


# However fast the machine, and however busy: what Python runs at its start says when it begins to import torch.
AT_TORCH = """\
import sys
class Finder:
    def find_spec(name, path, target=None):
        if name == "torch":
            print("imports", flush=True)
sys.meta_path.insert(0, Finder)
"""


def press_ctrl_c_while_it_imports(command: list[str], folder: Path) -> Interrupted:
    (folder / "sitecustomize.py").write_text(AT_TORCH)
    environment = os.environ | {"PYTHONPATH": f"{folder}:{ROOT / 'src'}", "PYTHONSAFEPATH": "1"}
    return press_ctrl_c([sys.executable, *command], folder, environment, "imports", 0.3)


@pytest.mark.parametrize("stage", ["train", "evaluate"])
def test_ctrl_c_ends_a_stage_while_it_imports(stage: str, tmp_path: Path) -> None:
    ended = press_ctrl_c_while_it_imports([str(ROOT / f"stages/{stage}.py")], tmp_path)
    assert (ended.status, ended.lines) == (-2, [])  # which shells show as 130
    assert ended.seconds < 2


@pytest.mark.parametrize("program", ["stages/a.py", "bin/cocoseg", "notebook.py"])
def test_ctrl_c_ends_a_program_of_ours_before_it_imports_modules_in_c_which_can_clear_its_exception(
    program: str,
) -> None:
    code = f"import sys; sys.argv = ['{program}']; import cocoseg, signal; print(signal.getsignal(2), *sys.modules)"
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    ended = subprocess.run([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True, check=True)
    handler, *imported = ended.stdout.split()
    assert (handler == "0") == (program != "notebook.py")  # SIG_DFL
    assert "msgspec" not in imported


def test_a_stage_may_import_it_in_a_thread_first() -> None:
    code = (
        "import sys, threading as t; sys.argv = ['stages/a.py']; t.Thread(target=__import__, args=['cocoseg']).start()"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    assert (
        subprocess.run([sys.executable, "-c", code], env=environment, stderr=subprocess.PIPE, check=True).stderr == b""
    )


@pytest.mark.parametrize("line", ["cocoseg --help", "cocoseg.cli --help", "other --help"])
def test_a_module_that_is_run_has_its_ctrl_c_ended_only_if_it_is_ours(line: str, tmp_path: Path) -> None:
    (tmp_path / "other.py").write_text("")
    (tmp_path / "sitecustomize.py").write_text(
        "import sys; assert sys.argv[0] == '-m'; import cocoseg, signal; print(signal.getsignal(2), flush=True)"
    )
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}:{ROOT / 'src'}"}
    command = [sys.executable, "-m", *line.split()]
    said = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout
    assert (said.split()[0] == "0") == line.startswith("cocoseg")  # SIG_DFL


@pytest.mark.parametrize("command", ["evaluate", "predict x --out y", "export --format onnx --out y"])
def test_ctrl_c_ends_a_command_while_it_imports(command: str, tmp_path: Path) -> None:
    ended = press_ctrl_c_while_it_imports(["-m", "cocoseg", *command.split()], tmp_path)
    said = [f"cocoseg {command.split()[0]}: interrupted; run the same line again"]
    assert (ended.status, ended.lines) in [(130, said), (-2, [])]
    assert ended.seconds < 2
