import logging
from pathlib import Path
from typing import Any

import pytest
import segmentation_models_pytorch as smp
import timm
import torch
from torch import nn

from cocoseg.core.errors import CocosegError
from cocoseg.model.architectures import build_model, check_model, parameter_count, with_synchronized_norm
from cocoseg.model.params import SMP_ARCHITECTURES

ENCODER = "tu-mobilenetv3_small_050"
SWIN, HIERA = "tu-swin_tiny_patch4_window7_224", "tu-hiera_tiny_224"


@pytest.mark.parametrize("arch", ["unet", "fastscnn", "deeplabv3_mobilenet", "segformer", "unetplusplus"])
@pytest.mark.parametrize(("height", "width"), [(64, 64), (70, 97)])
def test_logits_have_the_size_of_the_input_whatever_it_is(arch: str, height: int, width: int) -> None:
    model = build_model(arch, ENCODER, "none", classes=81).eval()
    with torch.inference_mode():
        assert model(torch.zeros(1, 3, height, width)).shape == (1, 81, height, width)


def test_deeplabv3_gives_both_heads_in_training_and_one_in_evaluation() -> None:
    model = build_model("deeplabv3_mobilenet", ENCODER, "none", classes=3).train()
    output = model(torch.zeros(2, 3, 32, 32))
    assert [logits.shape for logits in output] == [(2, 3, 32, 32)] * 2
    assert model.eval()(torch.zeros(1, 3, 32, 32)).shape == (1, 3, 32, 32)


def test_batch_norm_follows_fast_enough_for_a_short_run_from_scratch() -> None:
    model = build_model("deeplabv3_mobilenet", ENCODER, "none", classes=3)
    assert {module.momentum for module in model.modules() if isinstance(module, nn.BatchNorm2d)} == {0.1}


def test_the_architectures_that_are_known_without_smp_are_those_of_smp() -> None:
    assert set(smp.MODEL_ARCHITECTURES_MAPPING) == set(SMP_ARCHITECTURES)


@pytest.mark.parametrize(
    ("arch", "encoder", "pretrained", "message"),
    [
        ("unett", ENCODER, "none", "arch is 'unett'; did you mean unet?"),
        ("unet", "resnet19", "none", "encoder is 'resnet19'; did you mean resnet18?"),
        ("unet", "tu-mobilenetv3_smal_050", "none", "did you mean tu-mobilenetv3_small_050?"),
        ("dpt", "resnet18", "none", "encoder resnet18 does not work with arch dpt"),
        ("fpn", "tu-vit_small_patch14_dinov2", "none", "pattern; expected one with features of several sizes, such"),
        ("pan", SWIN, "none", "'output_stride'; expected one that can be dilated, such as resnet34 or"),
        ("fpn", HIERA, "none", "and with resize: short_side each has its own; expected squash or letterbox, or"),
    ],
)
def test_a_combination_that_does_not_exist_is_one_line(arch: str, encoder: str, pretrained: str, message: str) -> None:
    with pytest.raises(CocosegError, match="^[^\n]+$") as caught:
        build_model(arch, encoder, pretrained, classes=3)  # type: ignore[arg-type]
    assert message in str(caught.value)


def test_weights_out_of_reach_say_what_is_missing_where_it_belongs_and_how_to_go_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nobody listens there
    with pytest.raises(CocosegError, match="^[^\n]+$") as caught:
        build_model("deeplabv3_mobilenet", ENCODER, "coco", classes=3)
    for part in ("deeplabv3_mobilenet_v3_large-", str(tmp_path / "hub" / "checkpoints"), "pretrained: none"):
        assert part in str(caught.value)


def test_offline_the_hub_is_one_line_without_its_warnings_of_each_try(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")  # nobody listens there
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    tries: list[float] = []
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", tries.append)
    hub = logging.getLogger("huggingface_hub")
    hub.addHandler(caplog.handler)
    level = hub.level
    with pytest.raises(
        CocosegError, match="^pretrained weights cannot be loaded [^\n]+; or train without: pretrained: none$"
    ):
        build_model("unet", ENCODER, "imagenet", classes=3)
    hub.removeHandler(caplog.handler)
    assert len(tries) >= 5
    assert caplog.records == []
    assert hub.level == level


def test_a_size_or_batch_that_the_architecture_cannot_take_is_one_line() -> None:
    with pytest.raises(
        CocosegError, match=r"^image_size_px 16 does not work .* small; it works at image_size_px: 128$"
    ):
        check_model(build_model("pan", ENCODER, "none", classes=3), 16, smallest_batch=2)
    with pytest.raises(CocosegError, match="batch_size leaves one image per device"):
        check_model(build_model("deeplabv3_mobilenet", ENCODER, "none", classes=3), 32, smallest_batch=1)


@pytest.mark.parametrize(
    ("arch", "encoder"),
    [
        ("upernet", SWIN),
        ("upernet", HIERA),
        ("dpt", "tu-vit_small_patch14_dinov2"),
        ("dpt", "tu-deit_tiny_distilled_patch16_224"),
    ],
)
def test_an_encoder_that_was_trained_at_one_size_takes_a_step_at_another(arch: str, encoder: str) -> None:
    # benchmarks/encoders.py tries all architectures.
    for size in (96, 320):
        with torch.device("meta"):
            model = build_model(arch, encoder, "none", 3, size)
            check_model(model, size, smallest_batch=2)
            assert model(torch.zeros(2, 3, size, size)).shape == (2, 3, size, size)


def test_an_encoder_that_cuts_patches_sees_an_image_of_any_size() -> None:
    model = build_model("unet", SWIN, "none", 3, None).eval()
    with torch.inference_mode():
        assert model(torch.zeros(1, 3, 96, 129)).shape == (1, 3, 96, 129)


def test_dinov2_sees_an_image_of_any_size() -> None:
    model = build_model("dpt", "tu-vit_small_patch14_dinov2", "none", 3).eval()
    with torch.inference_mode():
        assert model(torch.zeros(1, 3, 70, 97)).shape == (1, 3, 70, 97)


def test_weights_for_one_size_only_say_which(monkeypatch: pytest.MonkeyPatch) -> None:
    create = timm.create_model

    def without_weights(name: str, **options: Any) -> nn.Module:
        if options.get("pretrained"):
            raise RuntimeError("size mismatch for pos_embed")
        model: nn.Module = create(name, **options)
        return model

    monkeypatch.setattr(timm, "create_model", without_weights)
    with pytest.raises(CocosegError, match=r"^pretrained [^\n]*size mismatch[^\n]* as theirs: image_size_px: 224$"):
        build_model("fpn", HIERA, "imagenet", 3, 96)


def test_the_trial_run_leaves_no_trace() -> None:
    model = build_model("unet", ENCODER, "none", classes=3).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    check_model(model, 64, smallest_batch=1)
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_parameter_that_no_gradient_reaches_is_frozen_and_no_other() -> None:
    model = build_model("pspnet", "resnet18", "none", classes=3)
    check_model(model, 64, smallest_batch=2)
    frozen = {name.split(".")[2] for name, value in model.named_parameters() if not value.requires_grad}
    assert frozen == {"layer3", "layer4"}  # PSPNet's decoder takes the features of an eighth of the size
    model = build_model("unet", ENCODER, "none", classes=3)
    check_model(model, 64, smallest_batch=2)
    assert all(value.requires_grad for value in model.parameters())


def test_parameters_are_counted() -> None:
    assert parameter_count(nn.Linear(3, 2)) == 8


def test_coco_weights_are_kept_but_for_the_last_layers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The file that torchvision would download, with its 21 classes, made here.
    import torchvision

    torch.manual_seed(0)
    published = torchvision.models.segmentation.deeplabv3_mobilenet_v3_large(
        weights=None, weights_backbone=None, num_classes=21, aux_loss=True
    )
    name = Path(torchvision.models.segmentation.DeepLabV3_MobileNet_V3_Large_Weights.DEFAULT.url).name
    checkpoints = tmp_path / "hub" / "checkpoints"
    checkpoints.mkdir(parents=True)
    torch.save(published.state_dict(), checkpoints / name)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))

    model = build_model("deeplabv3_mobilenet", ENCODER, "coco", classes=6)
    kept = {key.removeprefix("network."): value for key, value in model.state_dict().items()}
    fresh = {key for key, value in published.state_dict().items() if not torch.equal(kept[key], value)}
    assert fresh == {f"{head}.4.{part}" for head in ("classifier", "aux_classifier") for part in ("weight", "bias")}
    assert kept["classifier.4.weight"].shape == (6, 256, 1, 1)
    assert kept["aux_classifier.4.weight"].shape == (6, 10, 1, 1)


@pytest.mark.parametrize("arch", ["unet", "deeplabv3_mobilenet", "fastscnn"])
def test_synchronized_norm_changes_no_logit(arch: str) -> None:
    torch.manual_seed(0)
    model = build_model(arch, "tu-mobilenetv3_small_050", "none", 3).eval()
    images = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        before = model(images)
        torch.testing.assert_close(with_synchronized_norm(model)(images), before)
    assert any(isinstance(module, torch.nn.SyncBatchNorm) for module in with_synchronized_norm(model).modules())
