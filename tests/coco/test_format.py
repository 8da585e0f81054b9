"""COCO's format, as it is written."""

import json

import msgspec

from cocoseg.coco.format import Annotation, Category, Image, Instances, encoded, without_non_finite


def test_the_pieces_of_an_annotations_file_make_the_whole() -> None:
    annotations = [
        Annotation(id=n, image_id=1, category_id=17, segmentation=msgspec.Raw(b"[[0, 0, 2, 0, 2, 2]]"))
        for n in range(1, 10_003)
    ]
    for count in (0, 1, 10_000, 10_002):
        instances = Instances(
            info=msgspec.Raw(b'{"year": 2017}'),
            images=[Image(id=1, file_name="é.jpg", width=4, height=3)],
            annotations=annotations[:count],
            categories=[Category(id=17, name="cat")],
        )
        assert b"".join(encoded(instances)) == msgspec.json.encode(instances)


def test_words_that_are_no_numbers_become_one_beyond_all_floats_and_strings_stay() -> None:
    text = b'{"NaN": NaN, "name": "photo NaN.jpg \\" Infinity", "b": [-Infinity, Infinity]}'
    assert without_non_finite(text) == b'{"NaN": 1e999, "name": "photo NaN.jpg \\" Infinity", "b": [-1e999, 1e999]}'


def test_a_file_that_breaks_off_is_read_once_however_long_it_is() -> None:
    # Twice as long took four times as long, and a megabyte a quarter of an hour.
    text = json.dumps([{"file_name": "a NaN.jpg", "x": number} for number in range(100_000)]).encode()
    for end in (len(text) - 1, len(text) - 20, len(text) - 9):
        assert without_non_finite(text[:end]) == text[:end]
