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


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("height", "width"), [(32, 32), (20, 60), (200, 300), (10, 10)])
def test_a_crop_shows_the_image_and_its_mask_at_one_place_and_border_beyond_them(
    name: AugmentName, height: int, width: int
) -> None:
    mask = torch.zeros(height, width, dtype=torch.uint8)
    mask[height // 4 : height // 2, width // 3 : width // 2] = 1
    image = (mask * 255).expand(3, -1, -1).contiguous()
    transforms = augmentation("none" if name == "strong" else name, 64, "crop")
    for seed in range(10):
        torch.manual_seed(seed)
        out_image, out_mask = augmented(transforms, image, mask)
        assert (out_image.shape, out_mask.shape, out_image.dtype) == ((3, 64, 64), (64, 64), torch.uint8)
        inside = out_mask != 255
        assert inside.any()
        assert ((out_image[0] > 127) == (out_mask == 1))[inside].float().mean() > 0.93


def test_half_of_the_crops_show_a_random_class_so_small_objects_are_seen() -> None:
    mask = torch.zeros(1000, 1000, dtype=torch.uint8)
    mask[500:508, 200:208] = 1  # 64 of a million pixels: a crop that lies anywhere shows one of them once in 180
    transforms = augmentation("none", 64, "crop")
    image = torch.zeros(3, 1000, 1000, dtype=torch.uint8)
    torch.manual_seed(0)
    shown = sum(bool((augmented(transforms, image, mask)[1] == 1).any()) for _ in range(200))
    assert 35 < shown < 65  # half of the crops choose a class, half of those choose this one: 50 are expected


def test_a_crop_of_a_mask_without_a_class_lies_anywhere() -> None:
    transforms = augmentation("none", 8, "crop")
    _, mask = augmented(transforms, torch.zeros(3, 9, 9, dtype=torch.uint8), torch.full((9, 9), 255, dtype=torch.uint8))
    assert (mask == 255).all()


def test_masks_keep_their_values() -> None:
    mask = torch.randint(0, 80, (64, 64), generator=torch.Generator().manual_seed(0)).to(torch.uint8) * 3
    image = torch.zeros(3, 64, 64, dtype=torch.uint8)
    _, out = augmented(augmentation("strong", 32), image, mask)
    assert set(out.flatten().tolist()) <= set(mask.flatten().tolist()) | {255}
