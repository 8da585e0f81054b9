import pytest
import torch

from cocoseg.model.fastscnn import FastSCNN


def test_it_has_the_papers_1_1_million_parameters() -> None:
    assert sum(parameter.numel() for parameter in FastSCNN(19).parameters()) == pytest.approx(1.11e6, rel=0.05)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (64, 128), (65, 97)])
def test_logits_have_the_size_of_the_input(height: int, width: int) -> None:
    with torch.inference_mode():
        assert FastSCNN(6).eval()(torch.zeros(1, 3, height, width)).shape == (1, 6, height, width)


def test_features_shrink_by_8_and_32_as_in_table_1() -> None:
    model = FastSCNN(6).eval()
    with torch.inference_mode():
        high = model.learning_to_downsample(torch.zeros(1, 3, 128, 256))
        assert high.shape == (1, 64, 16, 32)
        assert model.global_features(high).shape == (1, 128, 4, 8)
