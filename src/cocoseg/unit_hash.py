"""An order of images that no run, machine or neighbour changes."""

import hashlib


def unit_hash(data_seed: int, purpose: str, image_id: int) -> float:
    """A number in [0, 1) that depends on nothing but its arguments, uniform over image ids.

    53 bits of SHA-256, as many as a float holds exactly. `purpose` keeps selection and split independent.
    """
    digest = hashlib.sha256(f"{data_seed}/{purpose}/{image_id}".encode()).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) / 2**53
