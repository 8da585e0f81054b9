"""Annotations read piece by piece: the same as of the whole file, or the whole file is read."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from odd_entries import ANNOTATION, IMAGE, PARAMS

from cocoseg.coco.format import encoded
from cocoseg.core.errors import CocosegError
from cocoseg.filter import choose, entries, pieces

CATEGORIES = [{"id": 18, "name": "dog"}, {"id": 17, "name": "cat"}, {"id": 90, "name": "toothbrush"}]


def image(number: int, **fields: Any) -> dict[str, Any]:
    return IMAGE | {"id": number, "file_name": f"{number}.jpg", "license": 4} | fields


def annotation(number: int, image_id: int = 1, category_id: int = 17, **fields: Any) -> dict[str, Any]:
    return ANNOTATION | {"id": number, "image_id": image_id, "category_id": category_id, "area": 4.0} | fields


IMAGES = [image(number) for number in range(1, 5)]
ENTRIES = [annotation(number, number % 4 + 1, (17, 18, 90)[number % 3]) for number in range(10)]
CHOOSING = msgspec.structs.replace(PARAMS, classes=("cat", "dog"), max_defects=1, max_skipped=1)
SPREAD: dict[str, Any] = {"segmentation": [[0, 0, 2, 0, 2, 2]], "attributes": [{"a": 1}, {"b": 2}]}


def file(annotations: list[Any] = ENTRIES, images: list[Any] = IMAGES, **fields: Any) -> dict[str, Any]:
    return {"images": images, "annotations": annotations, "categories": CATEGORIES} | fields


def odd(number: int, **fields: Any) -> list[Any]:
    return [*ENTRIES[:5], annotation(number, **fields), *ENTRIES[5:]]


PLAIN = json.dumps(file())
IN_PIECES = {
    "plain": PLAIN,
    "no space": json.dumps(file(), separators=(",", ":")),
    "indented": json.dumps(file(), indent=2),
    "annotations first": json.dumps({"annotations": ENTRIES} | file()),
    "annotations last": json.dumps({"categories": CATEGORIES, "images": IMAGES, "annotations": ENTRIES}),
    "no annotation": json.dumps(file([])),
    "one annotation": json.dumps(file(ENTRIES[:1])),
    "an image listed twice": json.dumps(file(images=[*IMAGES, IMAGES[0]])),
    "a file name to tidy": json.dumps(file(images=[*IMAGES, image(5, file_name=".\\5.jpg")])),
    "an image without size": json.dumps(file(images=[*IMAGES, image(5, width=None)])),
    "an id of an image in quotes": json.dumps(file(odd(20, image_id="1"))),
    "an unknown image": json.dumps(file(odd(20, image_id=99))),
    "an unknown category": json.dumps(file(odd(20, category_id=99))),
    "a crowd as a truth value": json.dumps(file(odd(20, iscrowd=True))),
    "a bad crowd": json.dumps(file(odd(20, iscrowd=7))),
    "ignore": json.dumps(file(odd(20, ignore=1))),
    "a null segmentation": json.dumps(file(odd(20, segmentation=None))),
    "an empty segmentation": json.dumps(file(odd(20, segmentation=[]))),
    "the key in a text": json.dumps({"info": {"note": '"annotations": [ {'}} | file()),
    "objects in an entry": json.dumps(file([*ENTRIES, annotation(20, **SPREAD)])).replace("}, {", "} ,{", 3),
}
AS_A_WHOLE = {
    "NaN": json.dumps(file(odd(20, area=float("nan")))),
    "a shared id": json.dumps(file(odd(3))),
    "an identical entry": json.dumps(file([*ENTRIES, ENTRIES[0]])),
    "a text as id": json.dumps(file(odd(20, id="a"))),
    "a truth value as id": json.dumps(file(odd(20, id=False))),
    "a list as id": json.dumps(file(odd(20, id=[1]))),
    "no object": json.dumps(file([*ENTRIES, 7])),
    "many objects in entries": json.dumps(file([entry | SPREAD for entry in ENTRIES])),
    "a border in a text": PLAIN.replace('"iscrowd": 0', '"iscrowd": 0, "note": "}, {"'),
    "the key in info": json.dumps({"info": {"annotations": [{"a": 1}, {"a": 2}]}} | file()),
    "the key twice": f'{PLAIN[:-1]}, "annotations": {json.dumps(ENTRIES[:2])}}}',
    "two categories of one name": json.dumps(file(categories=[*CATEGORIES, {"id": 5, "name": "cat"}])),
    "cut off": PLAIN[:-20],
    "more after its end": PLAIN + "}",
    "an odd border": PLAIN.replace("}, {", "}, , {", 9),
    "no images": json.dumps(file()).replace('"images"', '"pictures"'),
    "two files of one id": json.dumps(file(images=[*IMAGES, image(1, file_name="other.jpg")])),
}


@pytest.mark.parametrize(
    ("text", "in_pieces"),
    [(text, True) for text in IN_PIECES.values()] + [(text, False) for text in AS_A_WHOLE.values()],
    ids=[*IN_PIECES, *AS_A_WHOLE],
)
def test_pieces_say_what_the_whole_file_says(
    text: str, in_pieces: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = tmp_path / "source.json", tmp_path / "target.json"
    source.write_text(text)
    try:
        instances, expected = choose.filter_instances(text.encode(), CHOOSING, source)
    except CocosegError as error:
        message: str | None = str(error)
    else:
        message = None
    monkeypatch.setattr(pieces, "PIECE_BYTES", 1)
    wholes: list[Path] = []
    monkeypatch.setattr(entries, "release", lambda _: wholes.append(source))
    if message is None:
        assert choose.filter_file(source, target, CHOOSING) == expected
        assert target.read_bytes() == b"".join(encoded(instances))
    else:
        with pytest.raises(CocosegError) as caught:
            choose.filter_file(source, target, CHOOSING)
        assert str(caught.value).startswith(message)
    assert bool(wholes) is not in_pieces
    assert source.read_text() == text
