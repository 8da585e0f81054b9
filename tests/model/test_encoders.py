import json
from pathlib import Path
from typing import Any

import pytest
import timm
from torchvision.models import ResNet50_Weights
from torchvision.models.segmentation import DeepLabV3_ResNet50_Weights

from cocoseg.core.errors import CocosegError
from cocoseg.model.encoders import check_encoder, normalization
from cocoseg.model.preprocessing import MEAN, STD


def test_each_of_timms_weights_gets_the_normalization_it_was_trained_with() -> None:
    # With the tag of its weights, and without: then timm's default.
    names = {name for tagged in timm.list_pretrained() for name in (tagged, tagged.split(".")[0])}
    found = {name: normalization("unet", f"tu-{name}", "imagenet") for name in names}
    expected = {name: (cfg.mean, cfg.std) for name in names if (cfg := timm.get_pretrained_cfg(name))}
    assert found == expected
    # A third of them were not trained with ImageNet's.
    assert sum(pair != (MEAN, STD) for pair in found.values()) > len(found) / 4


@pytest.mark.parametrize(
    ("config", "mean", "std"),
    [
        ({"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.5, 0.5]}, (0.5, 0.5, 0.5), (0.25, 0.5, 0.5)),
        (
            {"mean": [51, 102, 127.5], "std": [255, 51, 51], "input_range": [0, 255], "input_space": "RGB"},
            (0.2, 0.4, 0.5),
            (1, 0.2, 0.2),
        ),
        ({"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "input_space": "BGR"}, None, None),
    ],
)
def test_smps_own_weights_get_what_lies_beside_them_on_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: dict[str, Any], mean: Any, std: Any
) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config))
    monkeypatch.setattr("segmentation_models_pytorch.encoders.hf_hub_download", lambda *_, **__: str(path))
    if mean is None:
        with pytest.raises(CocosegError, match=r"^encoder xception has weights for BGR images, and [^\n]+; expected"):
            normalization("unet", "xception", "imagenet")
    else:
        found = normalization("unet", "xception", "imagenet")
        assert [*found[0], *found[1]] == pytest.approx([*mean, *std])


@pytest.mark.parametrize(
    ("arch", "encoder", "pretrained"),
    [
        ("unet", "tu-mobilenetv4_conv_small_050", "none"),
        ("unet", "xception", "none"),
        ("fastscnn", "none", "none"),
        ("deeplabv3_resnet50", "tu-mobilenetv4_conv_small_050", "imagenet"),
        ("deeplabv3_resnet50", "none", "coco"),
    ],
)
def test_without_an_encoders_weights_and_for_torchvisions_it_is_imagenets(
    arch: str, encoder: str, pretrained: Any
) -> None:
    assert normalization(arch, encoder, pretrained) == (MEAN, STD)
    for weights in (ResNet50_Weights.IMAGENET1K_V1, DeepLabV3_ResNet50_Weights.DEFAULT):
        assert (tuple(weights.transforms().mean), tuple(weights.transforms().std)) == (MEAN, STD)


@pytest.mark.parametrize("tag", ["a1_in1K", "foo"])
def test_a_misspelled_tag_of_weights_is_one_line(tag: str) -> None:
    check_encoder("tu-resnet18.a1_in1k")
    with pytest.raises(
        CocosegError, match=rf"^encoder is 'tu-resnet18\.{tag}'; did you mean tu-resnet18\.\w+_in1k\?$"
    ) as caught:
        check_encoder(f"tu-resnet18.{tag}")
    assert "\n" not in str(caught.value)
