"""The whole pipeline through DVC, as a user runs it, in a clone with tiny settings."""

import csv
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from clones import ROOT, Clone, clone
from reach import REACHED_FROM

from cocoseg.images.headers import read_header

DATA_STAGES = ["download", "filter", "download_images", "mask", "split"]
STAGES = [*DATA_STAGES, "train", "evaluate"]
MODEL_STAGES = ["train", "evaluate"]
CORE = "src/cocoseg/core"


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A clone in which `dvc repro` ran once and its results were committed. Tests leave it as they found it."""
    repository = clone(tmp_path_factory.mktemp("done"))
    output = repository.dvc("repro")
    assert repository.stages_run(output) == STAGES
    assert "WARNING" not in output
    repository.commit("results")
    repository.pack()
    return repository


def restore(repository: Clone) -> None:
    repository.git("checkout", "--quiet", "--", ".")
    repository.dvc("checkout")


def load(repository: Clone, name: str) -> Any:
    return json.loads((repository.folder / name).read_text())


def test_every_annotation_and_image_is_accounted_for_from_the_file_to_the_masks(done: Clone) -> None:
    filtered, masked = load(done, "metrics/filter.json"), load(done, "metrics/mask.json")
    raw = load(done, "data/raw/instances.json")
    for noun in ("images", "annotations"):
        assert filtered[noun]["input"] == len(raw[noun])
        assert masked[noun]["input"] == filtered[noun]["kept"]
        for account in (filtered[noun], masked[noun]):
            assert account["input"] == account["kept"] + sum(account["dropped"].values())
    split = load(done, "metrics/split.json")
    assert sum(side["images"] for side in split["sides"].values()) == masked["images"]["kept"]


def test_the_scores_are_those_of_the_confusion_that_the_per_image_table_sums_to(done: Clone) -> None:
    scores = load(done, "metrics/evaluate.json")
    assert scores["split"] == "test"
    assert scores["images"] == load(done, "metrics/split.json")["sides"]["test"]["images"]
    sums: dict[str, list[int]] = {}
    for row in csv.DictReader((done.folder / "data/evaluation/per_image.csv").read_text().splitlines()):
        total = sums.setdefault(row["class_name"], [0, 0, 0])
        for place, column in enumerate(("target", "prediction", "hit")):
            total[place] += int(row[column])
    iou = {name: hit / (target + predicted - hit) for name, (target, predicted, hit) in sums.items() if target}
    assert {name: value for name, value in scores["iou"].items() if value is not None} == pytest.approx(iou, abs=1e-6)
    assert scores["classes_averaged"] == len(iou)
    assert scores["miou"] == pytest.approx(sum(iou.values()) / len(iou), abs=1e-6)


def test_training_recorded_one_step_an_epoch_under_the_agreed_names(done: Clone) -> None:
    folder = done.folder / "metrics/train/plots/metrics"
    recorded = {path.relative_to(folder).as_posix() for path in folder.rglob("*.tsv")}
    classes = ["background", "person", "bicycle", "car", "motorcycle", "airplane"]
    assert recorded == {
        "lr.tsv",
        "train/loss.tsv",
        *(f"val/{name}.tsv" for name in ("loss", "miou", "dice", "pixel_accuracy")),
        *(f"val/{score}/{name}.tsv" for score in ("iou", "dice") for name in classes),
    }
    assert len((folder / "val/miou.tsv").read_text().splitlines()) == 2  # a header and one epoch


def test_a_second_repro_does_nothing_and_status_is_clean(done: Clone) -> None:
    assert done.stages_run(done.dvc("repro")) == []
    assert "up to date" in done.dvc("status")
    assert done.git("status", "--porcelain") == ""


def test_outputs_are_read_only_links_into_the_cache(done: Clone) -> None:
    image = next((done.folder / "data/images").iterdir())
    assert image.stat().st_mode & 0o222 == 0


def test_data_stages_make_the_same_bytes_again(done: Clone, tmp_path: Path) -> None:
    again = clone(tmp_path)
    again.dvc("repro", "split", COCOSEG_WORKERS="1")
    first, second = done.yaml("dvc.lock")["stages"], again.yaml("dvc.lock")["stages"]
    assert {stage: first[stage] for stage in DATA_STAGES} == second


def test_without_instance_masks_their_table_is_a_header_alone(done: Clone) -> None:
    (table,) = (done.folder / "data/instance_masks").iterdir()
    assert (table.name, table.read_text()) == ("instances.csv", "image_id,file_name,number,annotation_id,category_id\n")


def test_every_plot_that_is_declared_is_there(done: Clone) -> None:
    output = done.dvc("plots", "show", "--out", "plots-page")
    page = (done.folder / "plots-page/index.html").read_text()
    subprocess.run(["rm", "-r", "plots-page"], cwd=done.folder, check=True)
    assert "DVC failed to load some plots" not in output
    for name in ("confusion.png", "gallery.png", "preview.png", "vega"):
        assert name in page
    assert "max-width" in page  # of .dvc/plots/page.html
    assert page.count('"range": [[6, 4], [1, 0]]') == 2  # of .dvc/plots/curves.json and losses.json
    assert page.count('"type": "log"') == 1  # of the loss, whose first values flatten all others
    assert page.count('"height": {"step": 16') == 2  # of .dvc/plots/bars.json


def test_no_picture_is_wider_than_the_column_of_a_page(done: Clone) -> None:
    widths = {path.name: read_header(path.read_bytes()).width for path in done.folder.glob("[pm]*/**/*.png")}
    assert {"typical.png", "gallery.png", "preview.png", "funnel_images.png", "validation.png"} <= widths.keys()
    assert max(widths.values()) <= 840
    # Two of these fit beside each other into a window of 1,400.
    assert widths["curves.png"] == widths["iou.png"] == widths["confusion.png"] == 640


OPENED = """
import runpy, sys
opened = open(sys.argv.pop(), "w")
def hook(event, arguments):
    if event == "open" and isinstance(arguments[0], str):
        opened.write(arguments[0] + "\\n"); opened.flush()
sys.addaudithook(hook)
sys.argv = sys.argv[1:]
sys.path[0] = "stages"
runpy.run_path(sys.argv[0], run_name="__main__")
"""


TYPES = """
import sys
from importlib import import_module
from cocoseg.core.params import PARAMS_OF_STAGE
for place in PARAMS_OF_STAGE.values():
    import_module(place.partition(":")[0])
print(*(module.__file__ for name, module in sys.modules.items() if name.startswith("cocoseg")))
"""


@pytest.fixture(scope="module")
def parameter_types(done: Clone) -> set[Path]:
    """Return the modules of all stages' parameters: each stage checks the others' too, which can only refuse."""
    listed = done.run("python", "-c", TYPES, PYTHONPATH="src").stdout.split()
    return {Path(name).relative_to(done.folder) for name in listed}


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_opens_no_file_that_it_does_not_declare(
    done: Clone, stage: str, parameter_types: set[Path], tmp_path: Path
) -> None:
    copy = Clone(tmp_path / "copy")
    subprocess.run(["cp", "-r", "--no-preserve=mode", done.folder, copy.folder], check=True)
    entry = done.yaml("dvc.yaml")["stages"][stage]
    declared = [
        next(iter(out)) if isinstance(out, dict) else out for kind in ("outs", "metrics") for out in entry.get(kind, [])
    ]
    for path in declared:
        subprocess.run(["rm", "-r", path], cwd=copy.folder, check=True)
    copy.run("python", "-c", OPENED, f"stages/{stage}.py", str(tmp_path / "opened"), PYTHONPATH="src")
    needed = [dep["path"] for dep in done.yaml("dvc.lock")["stages"][stage].get("deps", [])]  # with their values
    declared += [*needed, "params.yaml", "dvc.yaml", f"metrics/timing/{stage}.json", "data/.lock"]
    for line in (tmp_path / "opened").read_text().splitlines():
        path = Path(copy.folder, line)
        # What git and DVC keep for themselves (dvclive looks up the commit) is no input of the stage.
        if path.is_relative_to(copy.folder):
            name = path.relative_to(copy.folder)
            if name.parts and (name.parts[0].startswith((".git", ".dvc")) or "__pycache__" in name.parts):
                continue
            if name in parameter_types:
                continue
            inside = [out for out in declared if name == Path(out) or Path(out) in name.parents]
            temporary = name.name.startswith(".writing-")
            assert inside or temporary or path.is_dir(), f"{stage} opened {name}"


def test_the_blocks_of_the_api_page_print_what_it_says(done: Clone) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / "docs/api.md").read_text(), re.MULTILINE | re.DOTALL)
    said = done.run("python", "-c", "".join(blocks), PYTHONPATH="src").stdout.splitlines()
    assert said == re.findall(r"^print\(.*\)  # (.+)$", "".join(blocks), re.MULTILINE)
    assert len(said) == 8


def test_another_learning_rate_trains_and_evaluates_again_and_nothing_else(done: Clone) -> None:
    output = done.dvc("exp", "run", "--name", "slow", "-S", "lr=1e-5")
    try:
        assert done.stages_run(output) == MODEL_STAGES
        assert done.yaml("dvc.lock")["stages"]["train"]["params"]["params.yaml"]["lr"] == 1e-05
        assert isinstance(done.yaml("params.yaml")["lr"], float)
        shown = json.loads(done.dvc("exp", "show", "--json"))
        assert "slow" in json.dumps(shown)
        assert "lr" in done.dvc("params", "diff")
        assert "metrics/scores.json" in done.dvc("metrics", "diff")
    finally:
        restore(done)


def test_a_learning_rate_typed_by_hand_is_the_same_number(done: Clone) -> None:
    text = (done.folder / "params.yaml").read_text()
    assert "lr: 0.01\n" in text
    (done.folder / "params.yaml").write_text(text.replace("lr: 0.01\n", "lr: 1e-2\n"))
    try:
        assert done.stages_run(done.dvc("repro")) == []
    finally:
        restore(done)


def changed_stages(repository: Clone) -> list[str]:
    """The stages that `dvc status` names."""
    lines = repository.dvc_here("status").splitlines()
    return [line.rstrip(":") for line in lines if line.endswith(":") and line[0] != "\t"]


def test_a_comment_in_a_module_reruns_only_the_stages_that_reach_it(done: Clone) -> None:
    try:
        for name, stages in REACHED_FROM.items():
            module = done.folder / f"src/cocoseg/{name}.py"
            module.write_text(module.read_text() + "# a comment\n")
            assert sorted(changed_stages(done)) == sorted(stages.split()), name
            done.git("checkout", "--quiet", "--", "src")
        module = done.folder / "src/cocoseg/mask/painting.py"
        module.write_text(module.read_text() + "# a comment\n")
        # The masks come out the same, so what reads them stays as it is.
        assert done.stages_run(done.dvc("repro")) == ["mask"]
    finally:
        restore(done)


@pytest.mark.slow
def test_queued_runs_execute_the_code_of_the_moment_they_were_queued(done: Clone) -> None:
    # Of each: a script, a module of a folder of modules, and one that is new there.
    script, module, new = (done.folder / name for name in ("stages/filter.py", f"{CORE}/stage.py", f"{CORE}/new.py"))
    new.write_text("STAGE = 'new'\n")
    module.write_text(module.read_text() + "import cocoseg.core.new\n")
    try:
        untracked = done.dvc("exp", "run", "--temp", "split", check=False)
        assert "ModuleNotFoundError: No module named 'cocoseg.core.new'" in untracked
        assert "ERROR: failed to reproduce 'download'" in untracked
        done.git("add", str(new))
        done.dvc("exp", "run", "--queue", "-S", "data_seed=1,2", "split")
        for path in (script, module, new):
            path.write_text("raise SystemExit('the code of after')\n")
        done.dvc("queue", "start", "--jobs", "1")
        for _ in range(120):
            status = done.dvc("queue", "status")
            if "Queued" not in status and "Running" not in status:
                break
            subprocess.run(["sleep", "1"], check=True)
        assert status.count("Success") == 2, status + done.dvc("queue", "logs", status.split()[5], check=False)
    finally:
        done.dvc("queue", "remove", "--all", check=False)
        done.git("rm", "--quiet", "--force", "--ignore-unmatch", str(new))
        restore(done)


def test_a_wrong_value_stops_in_one_line_and_the_last_outputs_come_back(done: Clone) -> None:
    weights = (done.folder / "data/model/model.safetensors").read_bytes()
    done.set_params(lr="fast")
    try:
        finished = done.run(sys.executable, "-m", "dvc", "repro", check=False)
        assert finished.returncode != 0
        output = finished.stdout + finished.stderr
        assert "train: params.yaml: lr is 'fast'; expected a number above 0 and at most 1000, such as 0.001" in output
        assert "Traceback" not in output
        (back,) = re.findall(r"parameters and outputs with: (.*)\)", output)
        done.run("bash", "-c", back.replace("dvc checkout", f"{sys.executable} -m dvc checkout"))
        assert (done.folder / "data/model/model.safetensors").read_bytes() == weights
        assert "up to date" in done.dvc("status")
    finally:
        restore(done)


def test_other_classes_and_another_task_rerun_everything_after_the_download(done: Clone) -> None:
    output = done.dvc("exp", "run", "-S", "classes=[person, dog]", "-S", "task=binary")
    try:
        assert done.stages_run(output) == STAGES[1:]
        assert set(load(done, "metrics/evaluate.json")["iou"]) == {"background", "foreground"}
    finally:
        restore(done)


def test_new_content_behind_the_same_custom_path_is_noticed(done: Clone, tmp_path: Path) -> None:
    annotations = tmp_path / "instances.json"
    raw = load(done, "data/raw/instances.json")
    annotations.write_text(json.dumps(raw))
    images = tmp_path / "images"
    subprocess.run(["cp", "-r", "--no-preserve=mode", done.folder / "data/images", images], check=True)
    own = clone(tmp_path / "own")
    own.set_params(dataset="custom", annotations=str(annotations), images=str(images), max_skipped=1.0, max_images=None)
    assert own.stages_run(own.dvc("repro", "split")) == DATA_STAGES
    assert load(own, "metrics/mask.json")["images"]["dropped"]["missing"] > 0
    assert own.stages_run(own.dvc("repro", "split")) == []
    raw["images"] = raw["images"][:-3]
    annotations.write_text(json.dumps(raw))
    assert own.stages_run(own.dvc("repro", "filter")) == ["download", "filter"]
    next(images.iterdir()).unlink()
    assert "download_images" in own.stages_run(own.dvc("repro", "split"))


@pytest.mark.skipif(not (ROOT / "../shared/data/coco-real").is_dir(), reason="no real COCO images beside the project")
def test_real_images_of_coco_go_all_the_way(tmp_path: Path) -> None:
    real = (ROOT / "../shared/data/coco-real").resolve()
    repository = clone(tmp_path)
    repository.set_params(
        dataset="custom",
        annotations=str(real / "instances.json"),
        images=str(real / "images"),
        split_rule="exact",
        max_images=40,
    )
    assert repository.stages_run(repository.dvc("repro")) == STAGES
    assert load(repository, "metrics/mask.json")["annotations"]["dropped"] == {}
    assert load(repository, "metrics/evaluate.json")["images"] == 8
