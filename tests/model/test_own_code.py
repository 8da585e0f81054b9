from pathlib import Path

import pytest
import torch

from cocoseg.core.errors import CocosegError
from cocoseg.model.own_code import MadeWith, own_function, own_hashes, own_model

NET = "from torch import nn\ndef net(classes, image_size_px):\n    return nn.Conv2d(3, classes, 1)\n"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's folder, empty."""
    monkeypatch.chdir(tmp_path)
    own = tmp_path / "src/custom"
    own.mkdir(parents=True)
    return own


def test_the_files_that_ran_are_named_with_their_hashes_however_they_were_imported(folder: Path) -> None:
    (folder / "parts").mkdir()
    (folder / "parts/blocks.py").write_text("WIDTH = 4\n")
    (folder / "late.py").write_text("WIDTH = 8\n")
    (folder / "unused.py").write_text("raise RuntimeError\n")
    (folder / "mine.py").write_text(
        "from torch import nn\nfrom .parts.blocks import WIDTH\ndef net(classes, image_size_px):\n"
        "    from custom.late import WIDTH as late\n    return nn.Conv2d(WIDTH + late, classes, 1)\n"
    )
    model = own_model("custom/mine.py:net", 3, 32)
    assert [tuple(parameter.shape) for parameter in model.parameters()] == [(3, 12, 1, 1), (3,)]
    hashes = own_hashes()
    assert list(hashes) == [f"src/custom/{name}.py" for name in ("late", "mine", "parts/blocks")]
    assert hashes["src/custom/late.py"] == "6ab5daed1c4e66769440dd80c381e297a69a4a7d25441bdd642c3a50c148e2ae"


def test_a_file_named_like_a_library_hides_none(folder: Path) -> None:
    for name in ("torch", "json"):
        (folder / f"{name}.py").write_text("import json, torch\n" + NET)
        assert own_model(f"custom/{name}.py:net", 3, 32)(torch.zeros(1, 3, 2, 2)).shape == (1, 3, 2, 2)


def test_a_file_that_was_edited_is_imported_again(folder: Path) -> None:
    for width in (3, 4):
        (folder / "mine.py").write_text(NET.replace("classes, 1", f"{width}, 1"))
        assert own_model("custom/mine.py:net", 5, 32)(torch.zeros(1, 3, 2, 2)).shape[1] == width


@pytest.mark.parametrize(
    "name",
    ["custom/../x.py:f", "custom/mine.py", "custom/mine.py:Net.build", "mine.py:f", "src/custom/mine.py:f", "custom/a",
     "custom/mine.py:", "custom//mine.py:f", "custom/.x.py:f", "/custom/x.py:f", "custom/x.py:f\n"],
)  # fmt: skip
def test_a_name_of_another_form_is_refused_before_a_file_is_looked_for(name: str) -> None:
    with pytest.raises(
        CocosegError, match=r"^arch is '.*'; expected custom/FILE\.py:NAME: a Python file below src/cus"
    ):
        own_model(name, 3, 32)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (None, "not found, but params.yaml has arch: custom/mine.py:net; expected it in the folder that you run from; "
               "for a queued run git must know it: git add src/custom/mine.py"),
        ("def nett(): pass", "has no net, but arch is custom/mine.py:net; did you mean nett?"),
        ("import os\n", "has no net, but arch is custom/mine.py:net; it defines nothing"),
        ("\n1 / 0", ":2: ZeroDivisionError: division by zero"),
        ("\n\ndef net(:", ":3: SyntaxError: invalid syntax (mine.py, line 3)"),
        ("import nonsense_x", ":1: ModuleNotFoundError: No module named 'nonsense_x'"),
        ("from custom import blocks", ":1: ImportError: cannot import name 'blocks' from 'custom' (unknown location)"),
        ("import sys\nsys.exit()", ":2: SystemExit: SystemExit"),
        ("net = 5", "net is of type int; expected a function of (classes, image_size_px)"),
        ("def net(classes): pass", "net(classes): too many positional arguments; expected a function of (classes, "
                                   "image_size_px), by position"),
        ("def net(*, classes): pass", "net(*, classes): too many positional arguments"),
        ("def net(classes, size): pass", "net returns None; expected a torch.nn.Module"),
        ("from torch import nn\ndef net(classes, size): return nn.Identity", "net returns of type type; expected a "),
        ("def net(classes, size):\n    return [][size]", ":2: IndexError: list index out of range"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_file_is_one_line_with_its_place(folder: Path, text: str | None, line: str) -> None:
    if text is not None:
        (folder / "mine.py").write_text(text)
    with pytest.raises(CocosegError) as caught:
        own_model("custom/mine.py:net", 3, 32)
    said = str(caught.value)
    assert said.startswith("src/custom/mine.py:")
    assert line in said
    assert "\n" not in said


def test_a_model_runs_only_the_files_that_it_was_made_with(folder: Path) -> None:
    (folder / "blocks.py").write_text("")
    (folder / "mine.py").write_text("import custom.blocks\n" + NET)
    (folder / "loss.py").write_text("def loss(logits, target): return logits.sum()\n")
    own_model("custom/mine.py:net", 3, 32)
    own_function("loss", "custom/loss.py:loss", ("logits", "target"))
    made_with = MadeWith(own_hashes(), "data/model", "abc")
    (folder / "loss.py").write_text("what training needed can change")
    own_model("custom/mine.py:net", 3, 32, made_with)
    trap = "open('ran', 'w')\n"
    for name in ("blocks.py", "mine.py"):
        text = (folder / name).read_text()
        (folder / name).write_text(trap + text)
        line = (
            rf"^data/model: made with another src/custom/{name} \(SHA-256 \w{{12}}, here \w{{12}}\), and only .*, as "
        )
        with pytest.raises(CocosegError, match=rf"{line}with: git checkout abc -- src/custom/{name}$"):
            own_model("custom/mine.py:net", 3, 32, made_with)
        (folder / name).write_text(text)
    (folder / "evil.py").write_text(trap + NET)
    with pytest.raises(CocosegError, match=r"^data/model: made with other code than src/custom/evil\.py, and only"):
        own_model("custom/evil.py:net", 3, 32, made_with)
    assert not Path("ran").exists()
    (folder / "mine.py").unlink()
    with pytest.raises(
        CocosegError, match=r"mine\.py: not found, but data/model has .*; git checkout abc -- src/custom"
    ):
        own_model("custom/mine.py:net", 3, 32, made_with)
