"""A number for each image, or group, that is the same on every machine and does not depend on others."""

import hashlib


def unit_hash(data_seed: int, purpose: str, unit: int | str) -> float:
    """Return a number in [0, 1) that depends only on the arguments and is uniform over units: image ids, or groups.

    It is 53 bits of SHA-256, as many as a float holds exactly. `purpose` makes selection and split independent.
    """
    digest = hashlib.sha256(f"{data_seed}/{purpose}/{unit}".encode()).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) / 2**53
