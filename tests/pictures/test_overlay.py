import numpy as np

from cocoseg.pictures.overlay import palette

# Machado, Oliveira and Fernandes 2009, severity 1: what protan, deutan and tritan eyes see, in linear RGB.
BLINDNESS = {
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def lab(colors: np.ndarray, kind: str | None) -> np.ndarray:
    share = colors / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    if kind:
        linear = np.clip(linear @ np.array(BLINDNESS[kind]).T, 0, 1)
    xyz = linear @ TO_XYZ.T / np.array([0.9505, 1, 1.089])
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=-1)


def least_distance(colors: np.ndarray) -> float:
    worst = np.inf
    for kind in (None, *BLINDNESS):
        points = lab(colors, kind)
        apart = np.linalg.norm(points[:, None] - points, axis=-1)
        worst = min(worst, apart[~np.eye(len(points), dtype=bool)].min())
    return float(worst)


def test_five_classes_and_the_background_differ_for_every_kind_of_eye() -> None:
    # A difference of 2.3 is just noticeable.
    assert least_distance(palette()[:6].astype(float)) > 15


def test_ten_classes_differ_for_every_kind_of_eye() -> None:
    assert least_distance(palette()[:11].astype(float)) > 10


def test_eighty_classes_have_eighty_colors_and_background_and_ignored_their_own() -> None:
    colors = [tuple(color) for color in palette()[[*range(81), 255]].tolist()]
    assert len(set(colors)) == 82
