import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler, OneCycleLR

from cocoseg.model.architectures import build_model
from cocoseg.train.optimizer import averaged, current_lr, lr_factor, make_optimizer, set_lr
from cocoseg.train.params import ScheduleName


def rates(scheduler: LRScheduler, steps: int) -> list[float]:
    """The learning rate at each step, as torch sets it."""
    seen: list[float] = []
    for _ in range(steps):
        seen.append(scheduler.optimizer.param_groups[0]["lr"])
        scheduler.optimizer.step()
        scheduler.step()
    return seen


def optimizer(lr: float) -> torch.optim.Optimizer:
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr)


def test_the_warm_up_rises_in_equal_steps_to_the_full_rate() -> None:
    assert [lr_factor(step, 10, 4, "constant") for step in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]


def test_poly_starts_full_after_the_warm_up_and_falls_as_the_power_of_what_is_left() -> None:
    assert lr_factor(4, 10, 4, "poly") == 1
    assert lr_factor(7, 10, 4, "poly") == pytest.approx(0.5**0.9)
    assert lr_factor(9, 10, 4, "poly") == pytest.approx((1 / 6) ** 0.9)


def test_cosine_starts_full_after_the_warm_up_and_falls_as_half_a_cosine() -> None:
    # cos 0, cos 60°, cos 90° and cos 120° of the six steps after four.
    factors = [lr_factor(step, 10, 4, "cosine") for step in (4, 6, 7, 8)]
    assert factors == pytest.approx([1, 3 / 4, 1 / 2, 1 / 4])


def test_cosine_is_torchs_own() -> None:
    expected = rates(CosineAnnealingLR(optimizer(0.1), T_max=20), 20)
    assert [0.1 * lr_factor(step, 20, 0, "cosine") for step in range(20)] == pytest.approx(expected)


def test_onecycle_rises_to_full_over_three_tenths_of_the_run_and_falls_to_almost_nothing() -> None:
    # 10 steps: the third is the top, the second half way up from 1/25.
    factors = [lr_factor(step, 10, 0, "onecycle") for step in range(10)]
    assert factors[:3] == pytest.approx([0.04, 0.52, 1])
    assert factors[9] == pytest.approx(0.04 / 10_000)
    assert factors == sorted(factors[:3]) + sorted(factors[3:], reverse=True)


@pytest.mark.parametrize("steps", [4, 10, 11, 17, 1000])
def test_onecycle_is_torchs_own(steps: int) -> None:
    expected = rates(OneCycleLR(optimizer(0.1), max_lr=0.1, total_steps=steps, cycle_momentum=False), steps)
    assert [0.1 * lr_factor(step, steps, 0, "onecycle") for step in range(steps)] == pytest.approx(expected)


@pytest.mark.parametrize("warmup_steps", [2, 5, 10])
def test_the_warm_up_of_onecycle_is_its_rise(warmup_steps: int) -> None:
    share = warmup_steps / 20
    torchs = OneCycleLR(optimizer(0.1), max_lr=0.1, total_steps=20, pct_start=share, cycle_momentum=False)
    factors = [lr_factor(step, 20, warmup_steps, "onecycle") for step in range(20)]
    assert [0.1 * factor for factor in factors] == pytest.approx(rates(torchs, 20))
    assert factors[warmup_steps - 1] == pytest.approx(1)


@pytest.mark.parametrize("schedule", ["poly", "constant", "cosine"])
def test_a_run_that_is_all_warm_up_works(schedule: ScheduleName) -> None:
    assert [lr_factor(step, 2, 2, schedule) for step in range(2)] == [0.5, 1.0]


def test_a_onecycle_that_is_all_warm_up_ends_at_the_top() -> None:
    assert [lr_factor(step, 3, 3, "onecycle") for step in range(3)] == pytest.approx([0.04, 0.52, 1])


def test_the_shortest_onecycles_start_at_the_top() -> None:
    assert lr_factor(0, 1, 0, "onecycle") == 1
    assert lr_factor(0, 1, 1, "onecycle") == 1
    assert [lr_factor(step, 2, 0, "onecycle") for step in range(2)] == pytest.approx([1, 0.04 / 10_000])


@pytest.mark.parametrize("warmup_steps", [0, 1, 7])
@pytest.mark.parametrize("schedule", ["poly", "constant", "cosine", "onecycle"])
def test_every_factor_lies_above_zero_and_at_most_at_one(schedule: ScheduleName, warmup_steps: int) -> None:
    factors = [lr_factor(step, steps, warmup_steps, schedule) for steps in range(7, 40) for step in range(steps)]
    assert 0 < min(factors) <= max(factors) <= 1


@pytest.mark.parametrize(
    ("arch", "encoder", "spared"),
    [
        # smp takes Swin apart, and with it goes the list that timm has for it.
        ("fpn", "tu-swin_tiny_patch4_window7_224", {"relative_position_bias_table"}),
        ("fpn", "tu-hiera_tiny_224", {"pos_embed"}),
        ("dpt", "tu-vit_small_patch14_dinov2", {"pos_embed", "cls_token"}),
        ("unet", "tu-mobilenetv3_small_050", set()),
    ],
)
def test_positions_and_tokens_do_not_decay_and_matrices_do(arch: str, encoder: str, spared: set[str]) -> None:
    with torch.device("meta"):
        model = build_model(arch, encoder, "none", 3, 96)
        decayed, others = make_optimizer(model, "adamw", 0.1, 0.01).param_groups
    assert (decayed["weight_decay"], others["weight_decay"]) == (0.01, 0)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    tables = {names[id(one)].rpartition(".")[2] for one in others["params"] if one.ndim > 1}
    assert tables == spared
    assert all(one.ndim > 1 for one in decayed["params"])


def test_what_a_module_lists_does_not_decay_whatever_its_name() -> None:
    class Listing(torch.nn.Linear):
        def no_weight_decay(self) -> set[str]:
            return {"weight"}

    model = torch.nn.Sequential(Listing(2, 2), torch.nn.Linear(2, 2))
    decayed, _ = make_optimizer(model, "sgd", 0.1, 0.01).param_groups
    assert [id(one) for one in decayed["params"]] == [id(model[1].weight)]


def test_the_average_warms_up_and_forgets_the_first_weights_in_a_short_run() -> None:
    model = torch.nn.Linear(1, 1, bias=False)
    average = averaged(model, 0.999)
    averages = average.module.state_dict()
    for step, weight in enumerate([1.0, 0.0, 0.0]):
        torch.nn.init.constant_(model.weight, weight)
        average.update_parameters(model)
        # The first step is taken whole; the next two keep 1 - 2 ** -2/3 and 1 - 3 ** -2/3 of the average.
        share = [1, 1 - 2 ** (-2 / 3), (1 - 2 ** (-2 / 3)) * (1 - 3 ** (-2 / 3))][step]
        assert averages["weight"].item() == pytest.approx(share)
    for _ in range(371 - 3):  # the steps of the default run, after which 0.999 alone would hold 69 %
        average.update_parameters(model)
    assert averages["weight"].item() < 1e-6


def test_tables_of_integers_are_copied_into_the_average_since_6_9999_would_become_6() -> None:
    model = torch.nn.Linear(1, 1)
    model.register_buffer("position", torch.arange(100))
    average = averaged(model, 0.999)
    for _ in range(100):
        average.update_parameters(model)
    assert torch.equal(average.module.state_dict()["position"], torch.arange(100))


def test_complex_weights_are_averaged_as_real_ones_are() -> None:
    model = torch.nn.ParameterDict({"real": torch.zeros(2), "complex": torch.zeros(2, dtype=torch.complex64)})
    average = averaged(model, 0.999)
    for _ in range(5):
        with torch.no_grad():
            for weight in model.values():
                weight += 1
        average.update_parameters(model)
    averages = average.module.state_dict()
    assert torch.equal(averages["complex"].real, averages["real"])
    assert averages["real"].max() < 5


def test_after_its_warm_up_the_average_has_its_own_decay() -> None:
    model = torch.nn.Linear(1, 1, bias=False)
    average = averaged(model, 0.5)
    averages = average.module.state_dict()
    for weight in (0.0, 0.0, 0.0, 0.0, 1.0):
        torch.nn.init.constant_(model.weight, weight)
        average.update_parameters(model)
    assert averages["weight"].item() == pytest.approx(0.5)


def test_the_encoder_keeps_its_factor_of_every_rate_that_a_schedule_sets() -> None:
    model = torch.nn.ModuleDict({"encoder": torch.nn.Linear(2, 3), "head": torch.nn.Linear(3, 1)})
    optimizer = make_optimizer(model, "adamw", 0.1, 0.02, model["encoder"], 0.25)
    fresh = make_optimizer(model, "adamw", 0.1, 0.02, model["encoder"], 0.25)
    set_lr(optimizer, 0.4)
    fresh.load_state_dict(optimizer.state_dict())  # as a resumed run does
    for own in (optimizer, fresh):
        set_lr(own, 0.2)
        settings = {
            id(one): (group["lr"], group["weight_decay"]) for group in own.param_groups for one in group["params"]
        }
        assert [settings[id(one)] for one in model.parameters()] == [(0.05, 0.02), (0.05, 0), (0.2, 0.02), (0.2, 0)]
        assert current_lr(own) == 0.2
    plain = make_optimizer(model, "adamw", 0.1, 0.02, model["encoder"], 1)
    assert [len(group["params"]) for group in plain.param_groups] == [2, 2]
