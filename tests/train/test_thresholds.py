import msgspec
import numpy as np
import pytest
import torch

from cocoseg.model.preprocessing import predicted_labels
from cocoseg.model.threshold import threshold_logit
from cocoseg.scores.confusion import class_totals, confusion_matrix
from cocoseg.train.selection import EpochScore, epoch_score, warnings
from cocoseg.train.thresholds import BINS, THRESHOLDS, best_threshold, totals_at_thresholds
from cocoseg.train.validation import batch_histogram


def histogram(background: dict[int, int], foreground: dict[int, int]) -> np.ndarray:
    """Pixels by bin of each truth."""
    found = np.zeros((2, BINS), np.int64)
    for row, counts in enumerate((background, foreground)):
        for index, pixels in counts.items():
            found[row, index] = pixels
    return found


def test_the_histogram_counts_at_each_threshold_what_predictions_there_would_count() -> None:
    random = np.random.default_rng(0)
    logits = torch.from_numpy(random.normal(-1, 2, (3, 1, 20, 20)).astype(np.float32))
    logits[0, 0, 0, :3] = torch.tensor([0.0, threshold_logit(0.25), threshold_logit(0.999)])  # on an edge: not above it
    target = random.integers(0, 2, (3, 20, 20)).astype(np.uint8)
    target[:, 5] = 255
    totals = totals_at_thresholds(batch_histogram(torch.from_numpy(target), logits).numpy())
    assert totals.shape == (BINS - 1, 2, 3)
    for index in (0, 249, 250, 499, 731, 998):
        labels = predicted_labels(logits, threshold_logit(THRESHOLDS[index])).numpy()
        assert np.array_equal(totals[index], class_totals(confusion_matrix(target, labels, 2)))


def test_the_best_threshold_by_hand() -> None:
    # Above 0.2 lie 6 of 8 foreground pixels and 2 of background: Dice 12 / 16. Above 0.6 lie 3 and 0: Dice 6 / 11.
    counts = histogram({100: 90, 300: 2}, {100: 2, 300: 3, 700: 3})
    assert best_threshold(counts, "foreground_dice") == (0.3, 0.75)  # of 0.101 to 0.3, that nearest to 0.5
    assert best_threshold(counts, "pixel_accuracy") == (0.3, 0.96)
    assert best_threshold(histogram({400: 5}, {600: 5}), "miou") == (0.5, 1.0)


def test_a_side_without_foreground_has_no_best_threshold() -> None:
    assert best_threshold(histogram({100: 9}, {}), "miou") is None


def epoch(confusion: list[list[int]], counts: np.ndarray | None = None) -> EpochScore:
    return epoch_score(np.array(confusion), counts, "foreground_dice", ("background", "foreground"))


def test_of_two_epochs_that_find_nothing_the_one_that_would_at_a_lower_threshold_is_better() -> None:
    blind, seeing = (epoch([[8, 0], [2, 0]], histogram({50: 8}, {index: 2})) for index in (50, 80))
    assert blind.value == seeing.value == 0
    assert not seeing.finds_foreground
    assert blind.rank < seeing.rank < epoch([[8, 0], [1, 1]]).rank


@pytest.mark.parametrize(
    ("confusion", "said"),
    [
        (
            [[8, 0], [2, 0]],
            ["the best epoch predicts nothing but background on the validation side; try a tenth of the lr"],
        ),
        ([[8, 1], [0, 0]], ["the validation side shows no foreground, so it has no foreground Dice: mIoU chose the"]),
        ([[8, 0], [1, 1]], []),
    ],
)
def test_a_model_that_finds_nothing_or_that_background_alone_chose_is_warned_of(
    confusion: list[list[int]], said: list[str]
) -> None:
    found = list(warnings("foreground_dice", epoch(confusion)))
    assert [line.startswith(words) for line, words in zip(found, said, strict=True)] == [True] * len(said)


def test_a_score_keeps_its_bits_through_the_training_state() -> None:
    judged = epoch([[8, 0], [1, 1]], histogram({100: 8}, {100: 1, 700: 1}))
    assert msgspec.json.decode(msgspec.json.encode(judged), type=EpochScore) == judged
