"""From filtered annotations to masks on disk, with every annotation accounted for."""

import hashlib
import json
import struct
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import pytest

from cocoseg.accounts import closing_line
from cocoseg.coco.categories import map_categories
from cocoseg.coco.format import Annotation, Category, Image, Instances
from cocoseg.core.errors import CocosegError
from cocoseg.mask.gather import Masks
from cocoseg.mask.masks import priority_ranks, write_masks
from cocoseg.mask.params import MaskParams
from cocoseg.tables import ImageRow

PARAMS = MaskParams(
    negatives="drop",
    lost="ignore",
    max_defects=1,
    task="multiclass",
    overlap="last",
    priority=(),
    crowd="ignore",
    out_of_bounds="clip",
    gallery_images=2,
    instance_masks=False,
    max_skipped=0.5,
    on_defect="count",
)
CATEGORIES = [Category(id=17, name="cat"), Category(id=18, name="dog")]
LEFT = [[0, 0, 2, 0, 2, 4, 0, 4]]  # the left half of an image of 4×4: 8 pixels
MIDDLE = [[1, 0, 3, 0, 3, 4, 1, 4]]  # 8 pixels, 4 of them in LEFT


def annotation(
    annotation_id: int, image_id: int, segmentation: Any, category_id: int = 17, iscrowd: int = 0, **fields: Any
) -> Any:
    return {
        "id": annotation_id,
        "image_id": image_id,
        "category_id": category_id,
        "iscrowd": iscrowd,
        "segmentation": segmentation,
        **fields,
    }


def write(
    folder: Path,
    annotations: list[Any],
    images: int = 1,
    status: dict[int, str] | None = None,
    lost_objects: tuple[Any, ...] = (),
    regions: tuple[Any, ...] = (),
    **changes: Any,
) -> Masks:
    params = msgspec.structs.replace(PARAMS, **changes)
    file = {
        "images": [{"id": n, "file_name": f"sub/{n}.jpg", "width": 4, "height": 4} for n in range(1, images + 1)],
        "annotations": annotations,
        "categories": [{"id": 17, "name": "cat"}, {"id": 18, "name": "dog"}],
        "cocoseg_ignored_regions": [{"image_id": 1, "segmentation": region} for region in regions],
        "lost": lost_objects,
    }
    instances = msgspec.json.decode(json.dumps(file).encode(), type=Instances)
    rows = [
        ImageRow(image_id=n, file_name=f"sub/{n}.jpg", status=(status or {}).get(n, "ok")) for n in range(1, images + 1)
    ]
    mapping = map_categories(instances.categories, params.task)
    masks = write_masks(instances, rows, mapping, params, folder / "masks", folder / "instance_masks")
    for noun, entries in (("images", images), ("annotations", len(annotations))):
        account = masks.metrics[noun]
        assert account["input"] == entries == account["kept"] + sum(account["dropped"].values())
    return masks


def read(path: Path) -> list[list[int]]:
    pixels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert pixels is not None
    rows: list[list[int]] = pixels.tolist()
    return rows


def test_a_mask_holds_class_indices_at_the_images_own_size_and_its_table_counts_them(tmp_path: Path) -> None:
    masks = write(tmp_path, [annotation(1, 1, LEFT), annotation(2, 1, MIDDLE, 18)])
    assert read(tmp_path / "masks/sub/1.png") == [[1, 2, 2, 0]] * 4
    assert [(row.class_name, row.instances, row.pixels) for row in masks.rows] == [
        ("background", 0, 4),
        ("cat", 1, 4),
        ("dog", 1, 8),
    ]
    assert masks.mask_of_image == {"sub/1.jpg": "sub/1.png"}
    assert masks.metrics["contested_share"] == 0.25
    assert masks.metrics["ignored_share"] == 0


def test_the_table_tells_masks_of_equal_counts_apart(tmp_path: Path) -> None:
    left = write(tmp_path, [annotation(1, 1, LEFT)])
    right = write(tmp_path, [annotation(1, 1, [[2, 0, 4, 0, 4, 4, 2, 4]])])
    assert [row.pixels for row in left.rows] == [row.pixels for row in right.rows] == [8, 8]
    assert left.rows[1].sha256 is None
    for masks, values in ((left, [1, 0] * 4), (right, [0, 1] * 4)):
        ends = [1, 3, 5, 7, 9, 11, 13, 15]  # of runs of two pixels
        assert masks.rows[0].sha256 == hashlib.sha256(struct.pack("<10I8B", 4, 4, *ends, *values)).hexdigest()


def test_binary_is_the_union_of_all_classes(tmp_path: Path) -> None:
    masks = write(tmp_path, [annotation(1, 1, LEFT), annotation(2, 1, MIDDLE, 18)], task="binary")
    assert read(tmp_path / "masks/sub/1.png") == [[1, 1, 1, 0]] * 4
    assert [row.class_name for row in masks.rows] == ["background", "foreground"]
    assert masks.metrics["contested_share"] == 0


@pytest.mark.parametrize(("crowd", "expected"), [("ignore", [1, 1, 255, 0]), ("keep", [1, 2, 2, 0])])
def test_a_crowd_is_255_under_others_or_an_annotation_like_any_other(
    tmp_path: Path, crowd: str, expected: list[int]
) -> None:
    masks = write(tmp_path, [annotation(1, 1, LEFT), annotation(2, 1, MIDDLE, 18, iscrowd=1)], crowd=crowd)
    assert read(tmp_path / "masks/sub/1.png") == [expected] * 4
    assert masks.metrics["annotations"]["kept"] == 2


def test_instance_maps_are_16_bit_and_their_table_names_the_annotations(tmp_path: Path) -> None:
    masks = write(tmp_path, [annotation(70, 1, LEFT), annotation(80, 1, MIDDLE)], instance_masks=True)
    assert read(tmp_path / "masks/sub/1.png") == [[1, 1, 1, 0]] * 4
    instances = cv2.imread(str(tmp_path / "instance_masks/sub/1.png"), cv2.IMREAD_UNCHANGED)
    assert instances is not None
    assert instances.dtype == np.uint16
    assert instances.tolist() == [[1, 2, 2, 0]] * 4
    assert [(row.number, row.annotation_id) for row in masks.instance_rows] == [(1, 70), (2, 80)]


def test_without_instance_masks_no_instance_map_is_written(tmp_path: Path) -> None:
    masks = write(tmp_path, [annotation(1, 1, LEFT)])
    assert not (tmp_path / "instance_masks").exists()
    assert masks.instance_rows == []


def test_a_broken_annotation_is_counted_and_the_good_ones_stay_as_they_are(tmp_path: Path) -> None:
    masks = write(tmp_path, [annotation(1, 1, LEFT), annotation(2, 1, [[0, 0, 1]]), annotation(3, 1, "x")])
    assert read(tmp_path / "masks/sub/1.png") == [[1, 1, 0, 0]] * 4
    assert masks.metrics["annotations"]["dropped"] == {"odd_polygon": 1, "segmentation_of_wrong_type": 1}


def test_an_image_left_without_a_painted_class_goes_and_its_annotations_with_it(tmp_path: Path) -> None:
    masks = write(
        tmp_path,
        [annotation(1, 1, LEFT), annotation(2, 2, [[9, 9, 12, 9, 12, 12]]), annotation(3, 2, LEFT, iscrowd=1)],
        images=2,
    )
    assert masks.metrics["images"]["dropped"] == {"no_painted_class": 1}
    assert masks.metrics["annotations"]["dropped"] == {"image_no_painted_class": 1, "outside_image": 1}
    assert not (tmp_path / "masks/sub/2.png").exists()


def test_missing_and_broken_images_go_by_name_up_to_the_share_that_is_allowed(tmp_path: Path) -> None:
    annotations = [annotation(n, n, LEFT) for n in (1, 2, 3, 4)]
    status = {2: "missing", 3: "truncated"}
    masks = write(tmp_path, annotations, images=4, status=status)
    assert masks.metrics["images"]["dropped"] == {"missing": 1, "truncated": 1}
    assert masks.metrics["images"]["first"] == {"missing": "sub/2.jpg", "truncated": "sub/3.jpg"}
    assert "2 images broken, 1 as missing, first: sub/2.jpg" in closing_line(masks.metrics)
    assert masks.metrics["annotations"]["dropped"] == {"image_missing": 1, "image_truncated": 1}
    with pytest.raises(CocosegError, match=r"2 of 4 images are missing or broken, first sub/2.jpg \(missing\)"):
        write(tmp_path, annotations, images=4, status=status, max_skipped=0.4)


def test_nothing_painted_at_all_is_an_error_with_the_reasons(tmp_path: Path) -> None:
    with pytest.raises(CocosegError, match=r"no mask is left of 1 images \(1 no_painted_class, 1 odd_polygon\)"):
        write(tmp_path, [annotation(1, 1, [[0, 0, 1]])])


def test_on_defect_fail_stops_at_the_first_and_names_it(tmp_path: Path) -> None:
    with pytest.raises(CocosegError, match=r"sub/1.jpg: annotation 2: odd_polygon; fix it, or set on_defect: count"):
        write(tmp_path, [annotation(1, 1, LEFT), annotation(2, 1, [[0, 0, 1]])], on_defect="fail")


def test_many_images_in_several_processes_give_what_one_gives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    annotations = [annotation(n, n, LEFT if n % 2 else MIDDLE, 17 + n % 2) for n in range(1, 151)]
    results = {}
    for workers in ("1", "2"):
        monkeypatch.setenv("COCOSEG_WORKERS", workers)
        masks = write(tmp_path / workers, annotations, images=150)
        files = {path.name: path.read_bytes() for path in (tmp_path / workers / "masks/sub").iterdir()}
        results[workers] = (msgspec.json.encode(masks), files)
    assert results["1"] == results["2"]
    assert len(results["1"][1]) == 150


def test_an_unknown_class_in_priority_is_an_error() -> None:
    mapping = map_categories(CATEGORIES, "multiclass")
    assert priority_ranks(mapping, ["dog"]) == {18: 0, 17: 1}
    with pytest.raises(CocosegError, match="priority names 'dgo', which is not among the classes; did you mean dog?"):
        priority_ranks(mapping, ["dgo"])


def test_only_an_instance_map_has_a_limit_of_annotations_and_it_costs_the_image_alone(tmp_path: Path) -> None:
    many = [annotation(n, 1, [[0, 0, 1, 0, 1, 1, 0, 1]]) for n in range(1, 65_537)]
    entries = [*many, annotation(70_000, 2, LEFT)]
    assert write(tmp_path / "a", entries, images=2).metrics["images"]["dropped"] == {}
    masks = write(tmp_path / "b", entries, images=2, instance_masks=True)
    assert masks.metrics["images"]["dropped"] == {"too_many_instances": 1}
    assert masks.metrics["annotations"]["dropped"] == {"image_too_many_instances": 65_536}


def test_what_was_clipped_is_counted_in_an_image_that_goes_too(tmp_path: Path) -> None:
    crowd = annotation(2, 2, [[2, 0, 9, 0, 9, 2, 2, 2], [0, 0, 1, 1]], iscrowd=1)
    masks = write(tmp_path, [annotation(1, 1, LEFT), crowd], images=2)
    assert masks.metrics["images"]["dropped"] == {"no_painted_class": 1}
    assert (masks.metrics["annotations"]["clipped"], masks.metrics["annotations"]["ignored_parts"]) == (1, 1)


@pytest.mark.parametrize("crowd", ["ignore", "drop", "keep"])
@pytest.mark.parametrize("lost", ["ignore", "background", "drop_image"])
def test_an_ignored_region_is_255_where_nothing_paints_whatever_the_parameters(
    tmp_path: Path, crowd: str, lost: str
) -> None:
    upper = {"size": [4, 4], "counts": [0, 2, 2, 2, 2, 2, 2, 2, 2]}  # down the columns: the two upper rows
    masks = write(tmp_path, [annotation(1, 1, LEFT)], regions=(upper,), crowd=crowd, lost=lost, instance_masks=True)
    assert read(tmp_path / "masks/sub/1.png") == [[1, 1, 255, 255]] * 2 + [[1, 1, 0, 0]] * 2
    assert read(tmp_path / "instance_masks/sub/1.png") == [[1, 1, 0, 0]] * 4
    assert masks.metrics["contested_share"] == 0
    assert masks.metrics["lost_objects"] == 0
    assert masks.metrics["annotations"]["kept"] == 1


def test_an_ignored_region_that_is_not_of_its_image_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(CocosegError, match=r"sub/1\.jpg: an ignored region: rle_of_wrong_size; run: dvc repro -f down"):
        write(tmp_path, [annotation(1, 1, LEFT)], regions=({"size": [4, 5], "counts": [0, 20]},))


BOX = [1, 1, 2, 2]  # pixels 1 and 2 of rows 1 and 2
BROKEN = [[0, 0, 1]]
LOST = ("lost_objects", "lost_ignored", "lost_without_box")


def test_a_lost_object_is_255_in_its_box_where_nothing_else_paints(tmp_path: Path) -> None:
    here = write(tmp_path / "a", [annotation(1, 1, LEFT), annotation(2, 1, BROKEN, bbox=BOX)])
    seen = {"image_id": 1, "reason": "null_segmentation", "bbox": BOX}
    before = write(tmp_path / "b", [annotation(1, 1, LEFT)], lost_objects=(seen,))
    for masks, folder, reason in ((here, "a", "odd_polygon"), (before, "b", "null_segmentation")):
        assert read(tmp_path / folder / "masks/sub/1.png") == [
            [1, 1, 0, 0],
            [1, 1, 255, 0],
            [1, 1, 255, 0],
            [1, 1, 0, 0],
        ]
        assert [masks.metrics[key] for key in LOST] == [1, 1, 0]
        assert masks.metrics["ignored_share"] == 2 / 16
        assert masks.defects == {"sub/1.jpg": {reason: 1}}
        assert masks.boxes == {"sub/1.jpg": [(reason, tuple(BOX))]}
        assert masks.metrics.get("lost_in_filter") == (1 if masks is before else None)


def test_lost_background_leaves_it_background_and_drop_image_drops_the_image(tmp_path: Path) -> None:
    entries = [annotation(1, 1, LEFT), annotation(2, 1, BROKEN, bbox=BOX), annotation(3, 2, LEFT)]
    masks = write(tmp_path / "a", entries, images=2, lost="background")
    assert read(tmp_path / "a/masks/sub/1.png") == [[1, 1, 0, 0]] * 4
    assert [masks.metrics[key] for key in LOST] == [1, 0, 0]
    masks = write(tmp_path / "b", entries, images=2, lost="drop_image")
    assert masks.metrics["images"]["dropped"] == {"lost_object": 1}
    assert masks.metrics["annotations"]["dropped"] == {"image_lost_object": 1, "odd_polygon": 1}
    assert masks.mask_of_image == {"sub/2.jpg": "sub/2.png"}


def test_a_lost_object_without_a_usable_box_is_counted(tmp_path: Path) -> None:
    masks = write(tmp_path, [annotation(1, 1, LEFT), annotation(2, 1, BROKEN), annotation(3, 1, BROKEN, bbox=[])])
    assert read(tmp_path / "masks/sub/1.png") == [[1, 1, 0, 0]] * 4
    assert [masks.metrics[key] for key in LOST] == [2, 0, 2]
    assert masks.defects == {"sub/1.jpg": {"lost_without_box": 2, "odd_polygon": 2}}


def test_what_lies_outside_of_an_image_is_lost_in_it_only_if_its_box_says_so(tmp_path: Path) -> None:
    outside = [[9, 9, 12, 9, 12, 12]]
    entries = [
        annotation(1, 1, LEFT),
        annotation(2, 1, outside, bbox=[9, 9, 3, 3]),
        annotation(3, 1, outside, bbox=BOX),
    ]
    masks = write(tmp_path, entries)
    assert masks.metrics["lost_objects"] == 1
    assert masks.metrics["annotations"]["dropped"] == {"outside_image": 2}


def test_what_out_of_bounds_drops_by_choice_is_no_lost_object(tmp_path: Path) -> None:
    entries = [annotation(1, 1, LEFT), annotation(2, 1, [[2, 0, 9, 0, 9, 2, 2, 2]], bbox=[2, 0, 7, 2])]
    masks = write(tmp_path, entries, out_of_bounds="drop", max_defects=0)
    assert read(tmp_path / "masks/sub/1.png") == [[1, 1, 0, 0]] * 4
    assert masks.metrics["lost_objects"] == 0


def test_too_large_a_share_of_broken_annotations_stops(tmp_path: Path) -> None:
    entries = [annotation(1, 1, LEFT), annotation(2, 1, MIDDLE), annotation(3, 1, BROKEN)]
    assert write(tmp_path / "a", entries, max_defects=0.34).metrics["annotations"]["kept"] == 2
    message = (
        r"^data/filtered/instances.json: 1 of 3 annotations of the chosen classes are broken: 1 odd_polygon, first: "
        r"annotation 3 of sub/1.jpg, segmentation is \[\[0, 0, 1\]\]; expected \[\[x, y, x, y, …\], …\], a list for "
        r"each polygon; max_defects allows 0.33; "
    )
    with pytest.raises(CocosegError, match=message):
        write(tmp_path / "b", entries, max_defects=0.33)


def test_the_example_of_run_lengths_of_a_wrong_size_names_both_sizes(tmp_path: Path) -> None:
    masks = write(tmp_path, [annotation(1, 1, LEFT), annotation(2, 1, {"counts": [20] * 99, "size": [4, 5]})])
    assert masks.metrics["annotations"]["first"] == {
        "rle_of_wrong_size": "annotation 2 of sub/1.jpg, size is [4, 5], the image's [4, 4]"
    }


def test_negatives_keep_writes_a_mask_of_background_and_counts_it(tmp_path: Path) -> None:
    entries = [annotation(1, 1, LEFT), annotation(2, 3, BROKEN, bbox=BOX)]
    masks = write(tmp_path, entries, images=3, negatives="keep")
    assert read(tmp_path / "masks/sub/2.png") == [[0] * 4] * 4
    assert masks.metrics["images"]["dropped"] == {"no_painted_class": 1}  # the third lost its object
    assert masks.metrics["images"]["negatives"] == 1
    assert [(row.image_id, row.class_name, row.pixels) for row in masks.rows if row.image_id == 2] == [
        (2, "background", 16)
    ]


def test_an_image_whose_lost_object_filter_saw_is_no_negative_either(tmp_path: Path) -> None:
    outside = annotation(2, 2, [[9, 9, 12, 9, 12, 12]])
    lost = ({"image_id": 2, "reason": "bad_iscrowd"},)
    for rule in ("ignore", "background"):
        masks = write(tmp_path / rule, [annotation(1, 1, LEFT), outside], 2, None, lost, negatives="keep", lost=rule)
        assert masks.metrics["images"]["dropped"] == {"no_painted_class": 1}


def test_normalized_coordinates_are_refused_whatever_max_defects_allows(tmp_path: Path) -> None:
    halves = [[0, 0, 0.5, 0, 0.5, 1, 0, 1]]
    message = (
        "2 of 3 annotations are normalized, all of their coordinates lie between 0 and 1, first: annotation 1 of "
        "sub/1.jpg, .*; multiply x by the width and y by the height"
    )
    with pytest.raises(CocosegError, match=message):
        write(tmp_path, [annotation(1, 1, halves), annotation(2, 1, halves), annotation(3, 1, LEFT)])


def test_priority_is_read_under_overlap_priority_only(tmp_path: Path) -> None:
    assert write(tmp_path / "a", [annotation(1, 1, LEFT)], priority=("dgo",)).mask_of_image
    with pytest.raises(CocosegError, match="priority names 'dgo'"):
        write(tmp_path / "b", [annotation(1, 1, LEFT)], priority=("dgo",), overlap="priority")


def test_hidden_objects_are_counted_by_class(tmp_path: Path) -> None:
    under = annotation(1, 1, [[1, 0, 2, 0, 2, 1, 1, 1]], 18)
    masks = write(tmp_path, [under, annotation(2, 1, LEFT)])
    assert (masks.metrics["hidden"], masks.metrics["mostly_hidden"]) == ({"dog": 1}, {"dog": 1})
    masks = write(tmp_path, [under, annotation(2, 1, LEFT)], overlap="smallest")
    assert (masks.metrics["hidden"], masks.metrics["mostly_hidden"]) == ({}, {})


def test_converted_forms_are_counted(tmp_path: Path) -> None:
    masks = write(tmp_path, [annotation(1, 1, LEFT[0]), annotation(2, 1, MIDDLE)])
    assert masks.metrics["annotations"]["converted"] == {"segmentation": 1}


def test_an_image_with_an_undecided_orientation_is_shown_among_the_defects(tmp_path: Path) -> None:
    instances = Instances(
        images=[Image(id=n, file_name=f"{n}.jpg", width=4, height=4) for n in (1, 2)],
        annotations=msgspec.json.decode(json.dumps([annotation(n, n, LEFT) for n in (1, 2)]), type=list[Annotation]),
        categories=CATEGORIES,
    )
    rows = [
        ImageRow(image_id=n, file_name=f"{n}.jpg", status="ok", converted=word)
        for n, word in ((1, "gray"), (2, "undecided"))
    ]
    mapping = map_categories(CATEGORIES, "multiclass")
    masks = write_masks(instances, rows, mapping, PARAMS, tmp_path, tmp_path / "instances")
    assert masks.defects == {"2.jpg": {"undecided": 1}}
    assert masks.metrics["images"]["converted"] == {"gray": 1, "undecided": 1}


def test_a_size_that_only_the_image_tells_is_taken_from_its_table(tmp_path: Path) -> None:
    instances = Instances(
        images=[Image(id=1, file_name="1.jpg")],
        annotations=msgspec.json.decode(json.dumps([annotation(1, 1, LEFT)]), type=list[Annotation]),
        categories=CATEGORIES,
    )
    rows = [ImageRow(image_id=1, file_name="1.jpg", status="ok", width=4, height=3)]
    write_masks(instances, rows, map_categories(CATEGORIES, "multiclass"), PARAMS, tmp_path, tmp_path / "instances")
    assert read(tmp_path / "1.png") == [[1, 1, 0, 0]] * 3
