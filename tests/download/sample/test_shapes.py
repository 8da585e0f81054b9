import math

from cocoseg.download.sample.shapes import ONE, STEPS, cosine, sine


def test_sine_and_cosine_are_the_true_ones_rounded_and_no_machine_could_round_them_otherwise() -> None:
    for angle in range(-STEPS, 2 * STEPS):
        turn = 2 * math.pi * angle / STEPS
        assert abs(sine(angle) - ONE * math.sin(turn)) < 0.48
        assert abs(cosine(angle) - ONE * math.cos(turn)) < 0.48
