"""File names that come from a stranger's annotations."""

import re

# Windows opens a device for these, whatever their extension.
_DEVICES = {"con", "prn", "aux", "nul"} | {f"{port}{number}" for port in ("com", "lpt") for number in range(1, 10)}
# What Windows forbids; control characters, lone surrogates and Unicode's own line ends: a list of names is one name a
# line.
_FORBIDDEN = re.compile('[\\\\:*?"<>|\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]')
# As most names are; no device's is as long.
_PLAIN = re.compile(r"[0-9A-Za-z_]{8,120}\.[0-9A-Za-z]{1,8}")
_LONGEST_BYTES = 1000  # a path may have 4,096 bytes, folders before and temporary names included
_LONGEST_PART_BYTES = 200  # file systems allow 255; the rest is for a temporary name beside it


def is_safe(file_name: str) -> bool:
    """Whether a `file_name` names a place below the image folder, on every system, in one line of text.

    Sub-folders, spaces and Unicode are fine; climbing, absolute paths, drives, device names and control characters
    are not.
    """
    if _PLAIN.fullmatch(file_name):
        return True
    parts = file_name.split("/")
    if len(file_name.encode("utf-8", "surrogatepass")) > _LONGEST_BYTES:
        return False
    return not _FORBIDDEN.search(file_name) and all(
        part not in ("", ".", "..")
        and part[-1] not in ". "
        and part.partition(".")[0].strip().casefold() not in _DEVICES
        and len(part.encode("utf-8", "surrogatepass")) <= _LONGEST_PART_BYTES
        for part in parts
    )


def mask_name(file_name: str) -> str:
    """The mask of an image, relative to the mask folder: the same name with the extension `.png`."""
    folder, slash, name = file_name.rpartition("/")
    return f"{folder}{slash}{name.rpartition('.')[0] or name}.png"
