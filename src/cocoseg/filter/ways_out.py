"""Why no image is left, and the way out of it."""

from pathlib import Path

from cocoseg.filter.entries import Ledger

_LEADING = 2  # reasons in a line
_WAYS_OUT = {
    "class_not_chosen": "choose other classes",
    "crowd": "set crowd: keep",
    "image_no_kept_annotation": "set crowd: keep",  # what such an image still has are crowds
    "below_min_area": "lower min_area_px",
    "license": "allow more licenses",
    "too_many_instances": "raise max_instances",
    "lost_object": "set lost: ignore",
    "unsafe_file_name": "write each file_name relative to images",
    "bad_size": "correct width and height, or leave them out: the image gives them",
    "unknown_category": "use ids of the file's categories",
    "no_annotation": "check that annotations name these images, or set negatives: keep",
}


def nothing_left(place: Path, images: Ledger, annotations: Ledger) -> str:
    """Return the line that says why no image is left: the leading reasons, and the way out of each."""
    said: list[str] = []
    ways_out: dict[str, None] = {}
    for ledger, noun in ((images, "images"), (annotations, "annotations")):
        reasons = [one for one in ledger.dropped.most_common() if one[0] in _WAYS_OUT or one[0] in ledger.first]
        for reason, count in reasons[:_LEADING]:
            example = f", first: {ledger.first[reason]}" if reason in ledger.first else ""
            said.append(f"{count} of {ledger.input} {noun}: {reason}{example}")
            ways_out[_WAYS_OUT.get(reason, "fix what is broken")] = None
    return f"{place}: no image is left; {'; '.join(said)}; {', or '.join(ways_out)}"
