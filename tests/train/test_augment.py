import pytest
import torch

from cocoseg.model.preprocessing import BORDER_RGB
from cocoseg.train.augment import augmentation, augmented
from cocoseg.train.params import AugmentName

NAMES: tuple[AugmentName, ...] = ("none", "light", "strong")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("height", "width"), [(32, 32), (20, 60), (90, 45)])
def test_every_augmentation_ends_with_the_networks_square(name: AugmentName, height: int, width: int) -> None:
    image = torch.zeros(3, height, width, dtype=torch.uint8)
    mask = torch.zeros(height, width, dtype=torch.uint8)
    out_image, out_mask = augmented(augmentation(name, 32), image, mask)
    assert (out_image.shape, out_mask.shape) == ((3, 32, 32), (32, 32))
    assert (out_image.dtype, out_mask.dtype) == (torch.uint8, torch.uint8)


def test_image_and_mask_move_together_and_borders_are_ignored() -> None:
    # Where the image is white the mask is 1, where it is black 0: true before, so true after, but for edges.
    mask = torch.zeros(48, 48, dtype=torch.uint8)
    mask[8:40, 20:44] = 1
    image = (mask * 255).expand(3, -1, -1).contiguous()
    transforms = augmentation("light", 48)
    ignored = 0
    for seed in range(20):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            out_image, out_mask = augmented(transforms, image, mask)
        inside = out_mask != 255
        assert ((out_image[0] > 127) == (out_mask == 1))[inside].float().mean() > 0.97
        border = torch.tensor(BORDER_RGB, dtype=torch.uint8)[:, None]
        assert (out_image[:, ~inside] == border).all()
        ignored += int((~inside).sum())
    assert ignored > 0


def test_masks_keep_their_values() -> None:
    mask = torch.randint(0, 80, (64, 64), generator=torch.Generator().manual_seed(0)).to(torch.uint8) * 3
    image = torch.zeros(3, 64, 64, dtype=torch.uint8)
    _, out = augmented(augmentation("strong", 32), image, mask)
    assert set(out.flatten().tolist()) <= set(mask.flatten().tolist()) | {255}
