"""The examples of docs/your-own-code.md, as they stand: trained, compared, predicted and exported through DVC."""

import json
import re
from hashlib import sha256
from pathlib import Path

import pytest
from clones import ROOT, TINY, Clone, clone
from stage_runs import run_stage, start_stage
from test_resume import PARAMS, as_dvc_does, environment, outputs, wait_for_state, work

__all__ = ["work"]

PAGE = (ROOT / "docs/your-own-code.md").read_text()
CODE = "\n\n".join(re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL))
(LINES,) = re.findall(r"^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
FILE = "src/custom/mine.py"


@pytest.fixture(scope="module")
def tried(tmp_path_factory: pytest.TempPathFactory) -> tuple[Clone, str]:
    """A clone with results, in which the lines of the page were run, and what they printed."""
    folder = tmp_path_factory.mktemp("own")
    made = clone(folder / "repo", TINY | {"bootstrap_samples": 200})
    made.dvc("repro", COCOSEG_CACHE=str(folder / "cache"))
    made.commit("results")
    (made.folder / FILE).write_text(CODE)
    said = made.run("bash", "-euc", LINES, COCOSEG_CACHE=str(folder / "cache"))
    return made, said.stdout + said.stderr


@pytest.mark.slow
def test_the_examples_are_trained_compared_predicted_and_exported_with_no_other_line_changed(
    tried: tuple[Clone, str],
) -> None:
    made, said = tried
    changed = made.git("status", "--porcelain", "--untracked-files=all", "--", "src", "stages", "dvc.yaml").splitlines()
    assert [line[3:] for line in changed] == [FILE]
    assert made.stages_run(said) == ["train", "evaluate"]
    info = json.loads((made.folder / "data/model/model.json").read_text())
    hashed = sha256(CODE.encode()).hexdigest()
    assert (info["arch"], info["encoder"], info["own_code"]) == ("custom/mine.py:small_net", "", {FILE: hashed})
    assert f"`{FILE}` (SHA-256 `{hashed[:12]}`)" in (made.folder / "metrics/model_card.md").read_text()
    assert re.search(rf"^Code: .*{FILE}", said, re.MULTILINE)
    assert "exported/model.onnx: checked with onnxruntime against PyTorch" in said
    assert len(list((made.folder / "predicted").rglob("*.png"))) >= 60


@pytest.mark.slow
def test_a_model_is_used_only_with_the_code_that_it_was_made_with(tried: tuple[Clone, str], tmp_path: Path) -> None:
    made, _ = tried
    predict = ("cocoseg", "predict", "data/images", "--out", str(tmp_path / "out"))
    file = made.folder / FILE
    file.write_text(CODE + "\nopen('ran', 'w').close()\n")
    for more in ((), ("--rev", "mine"), ("--repo", str(made.folder))):
        refused = made.run(*predict, *more, check=False)
        assert refused.returncode == 1
        assert re.fullmatch(
            rf"cocoseg predict: [^\n]*: made with another {FILE} \(SHA-256 \w{{12}}, here \w{{12}}\), and only code of "
            rf"your own tree runs; bring that file here, as with: git checkout \w+ -- {FILE}\n",
            refused.stderr,
        )
    assert not (made.folder / "ran").exists()
    file.unlink()
    refused = made.run(*predict, "--rev", "mine", check=False)
    assert refused.stderr.startswith(f"cocoseg predict: {FILE}: not found, but mine: data/model has arch: ")
    made.run("bash", "-euc", refused.stderr.partition("run from; ")[2])
    made.run(*predict, "--rev", "mine")


@pytest.mark.slow
def test_a_killed_run_goes_on_with_the_same_code_in_one_process_or_two_and_starts_afresh_with_other(
    work: Path, tmp_path: Path
) -> None:
    (work / FILE).parent.mkdir(parents=True)
    own = {"arch": "custom/mine.py:small_net", "loss": "custom/mine.py:smooth_ce", "augment": "custom/mine.py:mirrored"}
    params = PARAMS | own | {"epochs": 4}
    for processes in ("1", "2"):
        many = {"COCOSEG_DEVICES": processes, "COCOSEG_WORKERS": processes}
        as_dvc_does(work)
        (work / FILE).write_text(CODE)
        assert run_stage(work, "train", params, environment(tmp_path / "quiet") | many)[0] == 0
        unbroken = outputs(work)
        for text in (CODE, CODE + "\n# changed\n"):
            cache = tmp_path / f"cache{processes}{len(text)}"
            as_dvc_does(work)
            (work / FILE).write_text(CODE)
            with start_stage(work, "train", params, environment(cache) | many) as process:
                wait_for_state(process, cache)
                process.kill()
                process.communicate()
            as_dvc_does(work)
            (work / FILE).write_text(text)
            status, lines = run_stage(work, "train", params, environment(cache) | many)
            assert (status, any("resuming after epoch" in line for line in lines)) == (0, text == CODE), lines
            assert (outputs(work) == unbroken) == (text == CODE)
