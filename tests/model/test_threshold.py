import msgspec
import pytest
from model.test_weights import INFO

from cocoseg.core.errors import CocosegError
from cocoseg.model.threshold import chosen_threshold, threshold_logit
from cocoseg.model.weights import BestThreshold

BINARY = msgspec.structs.replace(
    INFO,
    task="binary",
    classes=("background", "foreground"),
    best_threshold=BestThreshold(threshold=0.25, val_score=0.5),
)


def test_a_threshold_is_a_logit_whose_sigmoid_it_is() -> None:
    assert threshold_logit(0.5) == 0
    assert threshold_logit(0.25) == pytest.approx(-1.0986123)


def test_auto_takes_the_stored_threshold_and_is_one_half_with_a_reason_where_there_is_none() -> None:
    assert chosen_threshold("auto", BINARY) == (0.25, None)
    assert chosen_threshold(0.4, BINARY) == (0.4, None)
    value, remark = chosen_threshold("auto", msgspec.structs.replace(BINARY, best_threshold=None))
    assert value == 0.5
    assert remark is not None
    assert remark.startswith("threshold auto is 0.5 here: the model stores no best threshold")


def test_a_multiclass_model_takes_no_threshold() -> None:
    assert chosen_threshold(0.5, INFO) == (0.5, None)
    assert (
        chosen_threshold("auto", INFO).remark
        == "threshold auto has no effect: this model is multiclass, the largest logit wins"
    )
    with pytest.raises(CocosegError, match="threshold is 0.3, but this model is multiclass, .*; expected 0.5"):
        chosen_threshold(0.3, INFO)
