import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import pytest
import safetensors.torch
import torch
from clones import git_repository
from small_data import BINARY, MULTICLASS, write_pairs
from stage_runs import ROOT
from torch import nn
from torch.utils.data import DataLoader

from cocoseg.coco.categories import CategoryMapping
from cocoseg.core.errors import CocosegError
from cocoseg.core.params import load_params
from cocoseg.evaluate.cost import multiply_adds
from cocoseg.images.pairs import Pair
from cocoseg.model.architectures import encoder_of
from cocoseg.model.own_code import own_model
from cocoseg.model.preprocessing import Preprocessing
from cocoseg.model.weights import load_checkpoint
from cocoseg.train.dataset import SegmentationDataset, ValidationBatchSampler, loader
from cocoseg.train.loop import train
from cocoseg.train.losses import segmentation_loss
from cocoseg.train.own_parts import OwnAugmentation, check_own_model, own_loss
from cocoseg.train.params import TrainParams
from cocoseg.train.run_data import RunData

PAGE = (ROOT / "docs/your-own-code.md").read_text()
EXAMPLES = "\n\n".join(re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL))
OWN = {part: f"custom/mine.py:{name}" for part, name in
       (("arch", "small_net"), ("loss", "smooth_ce"), ("augment", "mirrored"))}  # fmt: skip
PARAMS = msgspec.structs.replace(
    load_params(TrainParams, ROOT / "params.yaml", ROOT / "dvc.yaml"), image_size_px=32, batch_size=4, epochs=2
)
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COCOSEG_CACHE", str(tmp_path / "cache"))
    git_repository(tmp_path)
    shutil.copytree(ROOT / "data/custom/weights", tmp_path / "data/custom/weights")  # of none
    write_own(EXAMPLES)
    return tmp_path


def write_own(text: str) -> None:
    Path("src/custom").mkdir(parents=True, exist_ok=True)
    Path("src/custom/mine.py").write_text("import numpy as np\nimport torch\nfrom torch import nn\n" + text)


def run(params: TrainParams, pairs: Sequence[Pair], mapping: CategoryMapping = MULTICLASS) -> bytes:
    data = RunData(mapping=mapping, train=pairs, val=pairs[:4], class_weights=None, fingerprint="fingerprint")
    train(params, data, Path("model"), Path("live"))
    return Path("model/model.safetensors").read_bytes()


@pytest.mark.parametrize(("mapping", "channels"), [(MULTICLASS, 3), (BINARY, 1)], ids=["multiclass", "binary"])
def test_the_examples_of_the_page_train_alike_twice_and_load(
    repository: Path, mapping: CategoryMapping, channels: int
) -> None:
    pairs = write_pairs(repository, 8, mapping)
    params = msgspec.structs.replace(PARAMS, task=mapping.task, resize="letterbox", ema_decay=0.5, **OWN)
    assert run(params, pairs, mapping) == run(params, pairs, mapping)
    model, info = load_checkpoint(Path("model"))
    assert model(torch.zeros(1, 3, 40, 24)).shape == (1, channels, 40, 24)
    assert list(info.own_code) == ["src/custom/mine.py"]


def net(forward: str = "return self.layer(x)", layer: str = "nn.Conv2d(3, classes, 1)") -> str:
    return (
        "class Net(nn.Module):\n    def __init__(self, classes):\n        super().__init__()\n"
        f"        self.layer = {layer}\n    def forward(self, x):\n        {forward}\n"
        "def net(classes, size):\n    return Net(classes)\n"
    )


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (net("return self.layer(x)[:, :, ::2, ::2]"),
         "src/custom/mine.py: net: its logits are (2, 3, 16, 16), torch.float32; expected (2, 3, 32, 32)"),
        (net("return self.layer(x).argmax(1)"), "its logits are (2, 32, 32), torch.int64; expec"),
        (net("return {'out': self.layer(x)}"), "its logits are of type dict; expected (2, 3, 32, 32)"),
        (net("y = self.layer(x)\n        return y if self.training else [y]"), "its logits are of type list"),
        (net("return self.layer(x.half())"), "src/custom/mine.py:9: RuntimeError: "),
        (net(layer="nn.Conv2d(4, classes, 1)"), "src/custom/mine.py:9: RuntimeError: Given gr"),
        (net("return self.layer(x).detach()"), "its logits depend on no parameter, so it has nothing to learn"),
        (net(layer="nn.LazyConv2d(classes, 1)"), "its state has layer.weight, which is no"),
        (net(layer="nn.Conv2d(3, classes, 1)\n        self.lock = __import__('threading').Lock()"),
         "src/custom/mine.py: net: the network cannot be copied: cannot pickle"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_network_is_one_line(text: str, line: str) -> None:
    write_own(text)
    with pytest.raises(CocosegError) as caught:
        check_own_model(own_model("custom/mine.py:net", 3, 32), "custom/mine.py:net", 3, 32, 4, CPU)
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_network_for_squares_alone_is_refused_where_images_have_any_size() -> None:
    write_own(net("return nn.functional.interpolate(self.layer(x), scale_factor=8)", "nn.Conv2d(3, classes, 8, 8)"))
    model = own_model("custom/mine.py:net", 3, 32)
    check_own_model(model, "custom/mine.py:net", 3, 32, 4, CPU)
    with pytest.raises(
        CocosegError, match=r"its logits are \(2, 3, 32, 40\), torch.float32; expected \(2, 3, 32, 43\)"
    ):
        check_own_model(model, "custom/mine.py:net", 3, 32, 4, CPU, any_size=True)


def test_a_network_with_values_shared_weights_and_two_heads_trains_saves_and_is_counted(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Nothing of this works on the meta device, and safetensors refuses weights of two names.
    write_own(net(
        "y = self.layer(x) if x.max().item() > -9 else x\n"
        "        return (y, self.twin(x)) if self.training else y",
        "nn.Conv2d(3, classes, 1)\n        self.twin = self.layer\n        self.unused = nn.Linear(2, 2)",
    ))  # fmt: skip
    run(msgspec.structs.replace(PARAMS, arch="custom/mine.py:net"), write_pairs(repository, 4))
    model, _ = load_checkpoint(Path("model"))
    assert torch.equal(model.state_dict()["twin.weight"], model.state_dict()["layer.weight"])
    assert multiply_adds(model, 32) == 32 * 32 * 9
    check_own_model(model, "custom/mine.py:net", 3, 32, 4, CPU)
    assert all(own.requires_grad for own in model.parameters())
    check_own_model(model, "custom/mine.py:net", 3, 32, 4, CPU, shared=True)
    assert [name for name, own in model.named_parameters() if not own.requires_grad] == ["unused.weight", "unused.bias"]
    assert "net: 2 of its parameters get no gradient, such as unused.weight, and several" in capsys.readouterr().err


@pytest.mark.parametrize(("last", "classes", "warned"), [
    ("y.sigmoid()", 1, True), ("y.softmax(1)", 3, True), ("y", 3, False), ("y * 0", 3, False)
])  # fmt: skip
def test_logits_that_look_like_probabilities_are_reported(
    last: str, classes: int, warned: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    write_own(net(f"y = self.layer(x)\n        return {last}"))
    torch.manual_seed(0)
    check_own_model(own_model("custom/mine.py:net", classes, 32), "custom/mine.py:net", classes, 32, 4, CPU)
    assert ("leave out the last sigmoid or softmax" in capsys.readouterr().err) == warned


def test_a_part_that_only_some_steps_use_is_trained_by_them(repository: Path) -> None:
    write_own("seen = []\n" + net(
        "seen.append(x)\n        return self.layer(x) + (self.twin(x) if len(seen) > 3 else 0)",
        "nn.Conv2d(3, classes, 1)\n        self.twin = nn.Conv2d(3, classes, 1)\n"
        "        nn.init.zeros_(self.twin.weight)",
    ))  # fmt: skip
    run(msgspec.structs.replace(PARAMS, arch="custom/mine.py:net"), write_pairs(repository, 8))
    assert load_checkpoint(Path("model"))[0].state_dict()["twin.weight"].any()


def test_an_error_in_the_middle_of_a_run_is_one_line_with_its_place(repository: Path) -> None:
    write_own("seen = []\n" + net("seen.append(x)\n        return self.layer(x if len(seen) < 4 else None)"))
    with pytest.raises(CocosegError, match=r"^src/custom/mine\.py:11: TypeError: conv2d\(\)"):
        run(msgspec.structs.replace(PARAMS, arch="custom/mine.py:net"), write_pairs(repository, 8))


@pytest.mark.parametrize(
    ("expression", "line"),
    [
        ("logits.mean().item()", "loss returns float; expected a scalar tensor"),
        ("logits.mean((2, 3))", "loss returns a tensor of shape (2, 3); expected a scalar tensor"),
        ("logits.mean() / 0 * 0", "loss is nan for random logits; leave out pixels whose target is 255"),
        ("nn.functional.nll_loss(logits, target)", "src/custom/mine.py:5: IndexError: Target 255 is out of bounds"),
        ("logits.detach().mean()", "returns a tensor without a gradient"),
        ("torch.ones((), requires_grad=True) * 1", "its gradient by the logits is missing"),
        ("(logits * 0).sum().sqrt()", "its gradient by the logits is not finite"),
    ],
)
def test_what_is_wrong_with_a_loss_is_one_line(expression: str, line: str) -> None:
    write_own(f"def loss(logits, target):\n    return {expression}\n")
    with pytest.raises(CocosegError) as caught:
        own_loss("custom/mine.py:loss", 3, 32, CPU)
    assert str(caught.value).startswith("src/custom/mine.py:")
    assert line in str(caught.value)


def test_a_loss_that_learns_from_ignored_pixels_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    own_loss(OWN["loss"], 3, 32, CPU)
    assert capsys.readouterr().err == ""
    write_own("def loss(logits, target):\n    return nn.functional.cross_entropy(logits, target.clamp_max(2))\n")
    own_loss("custom/mine.py:loss", 3, 32, CPU)
    assert capsys.readouterr().err == (
        "train: src/custom/mine.py: loss learns from pixels whose target is 255; leave them out, as ignore_index=255 "
        "does\n"
    )


def test_a_batch_without_a_pixel_that_counts_has_no_loss_and_changes_nothing() -> None:
    logits, target = torch.randn(2, 3, 4, 4, requires_grad=True), torch.full((2, 4, 4), 255, dtype=torch.uint8)
    loss = segmentation_loss(logits, target, own_loss(OWN["loss"], 3, 32, CPU))
    torch.autograd.backward(loss)
    assert loss == 0
    assert logits.grad is not None
    assert not logits.grad.any()


IMAGE, MASK = torch.arange(3 * 8 * 8, dtype=torch.uint8).view(3, 8, 8), torch.eye(8, dtype=torch.uint8)


@pytest.mark.parametrize(
    ("body", "line"),
    [
        ("return image", "returns ndarray; expected (image, mask)"),
        ("return image / 255, mask", "its image is float64 (8, 8, 3); expected a NumPy array, uint8 (8, 8, 3)"),
        ("return image[:4], mask", "its image is uint8 (4, 8, 3); expected a NumPy array, uint8 (8, 8, 3)"),
        ("return image, torch.from_numpy(mask)", "its mask is Tensor; expected a NumPy array, uint8 (8, 8)"),
        ("return image, mask * 7", "its mask has the value 7; expected 0 to 2, or 255; resize a mask by nearest"),
        ("return image, mask[9]", "src/custom/mine.py:5: IndexError: index 9 is out of bounds"),
        ("image[:] = np.random.randint(256)\n    return image, mask", "augment differs when called again with the"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_an_augmentation_is_one_line(body: str, line: str) -> None:
    write_own(f"def augment(image, mask, rng):\n    {body}\n")
    with pytest.raises(CocosegError) as caught:
        OwnAugmentation("custom/mine.py:augment", 3).check([(IMAGE, MASK)])
    assert str(caught.value).startswith("src/custom/mine.py:")
    assert line in str(caught.value)


def test_a_mask_that_gets_a_class_it_had_not_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    write_own("augment = lambda image, mask, rng: (image, mask * 2)")
    OwnAugmentation("custom/mine.py:augment", 3).check([(IMAGE, MASK)] * 2)
    assert capsys.readouterr().err == (
        "train: src/custom/mine.py: augment: a mask gets class 2, which it had not; resize it by nearest\n"
    )


def test_an_augmentation_may_draw_from_torchs_generator_too() -> None:
    write_own("augment = lambda image, mask, rng: (image + torch.randint(256, ()).byte().numpy(), mask)")
    OwnAugmentation("custom/mine.py:augment", 3).check([(IMAGE, MASK)])


def test_an_augmentation_may_write_into_what_it_gets_and_keep_what_it_returns() -> None:
    write_own(
        "kept = np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8), np.uint8)\n"
        "def augment(image, mask, rng):\n    image[:] = mask[:] = 1\n"
        "    kept[0][:], kept[1][:] = rng.integers(256), 2\n    return kept[0][:, ::-1], kept[1][::-1]\n"
    )
    own, before = OwnAugmentation("custom/mine.py:augment", 3), (IMAGE.clone(), MASK.clone())
    (first, _), (second, mask) = own(IMAGE, MASK, 0), own(IMAGE, MASK, 1)
    assert torch.equal(IMAGE, before[0])
    assert torch.equal(MASK, before[1])
    assert [len(set(part.flatten().tolist())) for part in (first, second, mask)] == [1, 1, 1]
    assert not torch.equal(first, second)


@pytest.mark.parametrize("start", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_workers_augment_as_one_process_does_however_they_start(repository: Path, start: str) -> None:
    # A lambda cannot be pickled, which a worker that is spawned would need.
    write_own("augment = lambda image, mask, rng: (image + rng.integers(256, dtype=np.uint8), mask)")
    dataset = SegmentationDataset(
        write_pairs(repository, 3), 3, Preprocessing(image_size_px=32, resize="squash"), "none", 0
    )
    dataset.own = OwnAugmentation("custom/mine.py:augment", 3)
    keys = [(epoch, index) for epoch in range(2) for index in range(3)]
    expected = [dataset[key][0] for key in keys]
    batches = DataLoader(dataset, sampler=keys, batch_size=None, num_workers=2, multiprocessing_context=start)
    assert all(torch.equal(image, own) for (image, _), own in zip(batches, expected, strict=True))
    assert len({int(image[0, 0, 0]) - int(expected[0][0, 0, 0]) for image in expected}) > 3


def test_what_an_augmentation_raises_in_a_worker_is_one_line(repository: Path) -> None:
    write_own("def augment(image, mask, rng):\n    raise ValueError('too\\ndark')\n")
    dataset = SegmentationDataset(
        write_pairs(repository, 2), 3, Preprocessing(image_size_px=32, resize="squash"), "none", 0
    )
    dataset.own = OwnAugmentation("custom/mine.py:augment", 3)
    with pytest.raises(CocosegError, match=r"^src/custom/mine\.py:5: ValueError: too$"):
        list(loader(dataset, ValidationBatchSampler(2, 1), 1, pin_memory=False))


@pytest.mark.parametrize(
    ("key", "given", "line"),
    [
        ("loss", "lovas", "expected one of auto, ce, .*, custom/FILE.py:NAME; did you mean lovasz?"),
        ("augment", "mine", "expected one of none, light, strong, custom/FILE.py:NAME"),
        ("loss", "custom/../mine.py:f", "expected custom/FILE.py:NAME: a Python file below src/custom and the name of"),
        ("augment", "custom/mine.py:A.f", "expected custom/FILE.py:NAME: a Python file below src/custom"),
        ("arch", "src/custom/mine.py:f", "expected custom/FILE.py:NAME: a Python file below src/custom"),
    ],
)
def test_a_name_of_another_form_is_refused_by_every_stage(repository: Path, key: str, given: str, line: str) -> None:
    text = re.sub(rf"^{key}: \S+", f"{key}: {given}", (ROOT / "params.yaml").read_text(), flags=re.MULTILINE)
    Path("params.yaml").write_text(text)
    line = re.escape(line).replace(r"\.\*", ".*")
    with pytest.raises(CocosegError, match=rf"^params\.yaml: {key} is '{re.escape(given)}'; {line}"):
        load_params(TrainParams, Path("params.yaml"), ROOT / "dvc.yaml")


def test_first_weights_of_a_users_network_are_its_own() -> None:
    with pytest.raises(msgspec.ValidationError, match="pretrained is imagenet, but custom/mine.py:small_net loads wei"):
        msgspec.convert(msgspec.to_builtins(PARAMS) | OWN | {"pretrained": "imagenet"}, TrainParams)


def test_a_users_network_starts_from_its_own_weights_and_its_encoder_may_be_frozen(repository: Path) -> None:
    write_own(
        "class Net(nn.Module):\n    def __init__(self, classes):\n        super().__init__()\n"
        "        self.encoder = nn.Conv2d(3, 4, 3, padding=1)\n"
        "        self.head = nn.ModuleDict({f'of_{classes}': nn.Conv2d(4, classes, 1)})\n"
        "    def forward(self, x):\n        return next(iter(self.head.values()))(self.encoder(x))\n"
        "def net(classes, size):\n    return Net(classes)\n"
    )
    params = msgspec.structs.replace(PARAMS, arch="custom/mine.py:net", epochs=1)
    pairs = write_pairs(repository, 4)
    run(params, pairs)
    Path("model").rename("start")
    frozen = msgspec.structs.replace(params, initial_weights="start", freeze_encoder_epochs=1)
    run(frozen, pairs)
    first, second = (safetensors.torch.load_file(f"{name}/model.safetensors") for name in ("start", "model"))
    assert torch.equal(first["encoder.weight"], second["encoder.weight"])
    assert not torch.equal(first["head.of_3.weight"], second["head.of_3.weight"])
    binary = msgspec.structs.replace(frozen, task="binary")
    run(binary, write_pairs(repository / "binary", 4, BINARY), BINARY)
    assert "head.of_1.weight" in safetensors.torch.load_file("model/model.safetensors")


def test_a_network_whose_encoder_is_a_name_has_none() -> None:
    named: Any = nn.Conv2d(3, 3, 1)
    named.encoder = "resnet18"
    assert encoder_of(named) is None


def test_a_network_may_keep_for_training_what_it_made_in_validation(repository: Path) -> None:
    # Such as positional encodings, which grow with the widest image so far.
    write_own(net(
        "x = self.layer(x)\n"
        "        if self.scale.shape[-1] < x.shape[-1]:\n"
        "            self.scale = torch.ones(x.shape[-1])\n"
        "        return x * self.scale[:x.shape[-1]]",
        "nn.Conv2d(3, classes, 1)\n        self.scale = torch.ones(1)",
    ))  # fmt: skip
    params = msgspec.structs.replace(PARAMS, arch="custom/mine.py:net", resize="short_side", ema_decay=None)
    pairs = write_pairs(repository, 8)
    for pair in pairs[:4]:
        for path in pair.image, pair.mask:
            cv2.imwrite(str(path), cv2.resize(np.asarray(cv2.imread(str(path), -1)), (64, 32)))
    run(params, pairs)
