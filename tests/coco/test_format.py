"""COCO's format, as it is written."""

import msgspec

from cocoseg.coco.format import Annotation, Category, Image, Instances, encoded


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
