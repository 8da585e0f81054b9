"""Which images are of one patient, video or site."""

from pathlib import Path

import msgspec
import pytest
from split.test_sides import PARAMS

from cocoseg.core.errors import CocosegError
from cocoseg.split.groups import PLACEHOLDER, Groups, find_groups, read_groups

NAMES = {1: "p01_a.jpg", 2: "p01_b.jpg", 3: "p02_a.jpg", 4: "other.jpg"}


def by_pattern(pattern: str, names: dict[int, str] = NAMES) -> Groups:
    return find_groups(names, msgspec.structs.replace(PARAMS, group_pattern=pattern))


def by_file(path: Path, content: str | bytes, names: dict[int, str] = NAMES) -> Groups:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return find_groups(names, msgspec.structs.replace(PARAMS, groups=str(path)))


@pytest.fixture(autouse=True)
def clone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(__file__).parents[2])


@pytest.mark.parametrize(
    ("pattern", "groups"),
    [
        (r"^p(\d+)_", ["01", "01", "02", None]),
        (r"^p\d+", ["p01", "p01", "p02", None]),
        (r"_(?P<view>[a-z])", ["a", "b", "a", None]),
        (r"^(?:p(\d+)|other)", ["01", "01", "02", None]),  # the group has no part in the match
        (r"^p?(\d*)", ["01", "01", "02", None]),  # an empty name is none
    ],
)
def test_a_pattern_names_a_group_by_its_first_group_or_by_all_that_it_matches(
    pattern: str, groups: list[str | None]
) -> None:
    found = by_pattern(pattern)
    assert [found.of_image.get(image_id) for image_id in NAMES] == groups
    assert found.alone == groups.count(None)


@pytest.mark.parametrize(
    ("names", "pattern", "groups"),
    [
        # time points of a patient; slides of a patient; CT slices
        ("genius_0800.png genius_0801.png genius_0900.png", r"^genius_(\d\d)", "08 08 09"),
        ("patient_004_node_4.png patient_004_node_0.png patient_012_node_0.png", r"^(patient_\d+)_", "004 004 012"),
        ("2020.03.01-p23-67_1.png 2020.03.01-p23-67_2.png 2020.03.02-p8-1.png", r"-p(\d+)-", "23 23 8"),
        # tiles of a picture; frames of a video; views of a scene; a folder for each site
        ("s.1_0_0_512_512.png s.1_512_0_1024_512.png s_2_0_0_512_512.png", r"^(.+)(?:_\d+){4}\.", "s.1 s.1 s_2"),
        ("MVI_20011_img00001.jpg MVI_20011_img00002.jpg MVI_20012_img00001.jpg", r"^(\w+)_img", "20011 20011 20012"),
        ("scene7_000000.jpg scene7_000001.jpg scene8_000000.jpg", "^scene[0-9]+", "7 7 8"),
        ("site_a/x.jpg site_a/y.jpg site_b/x.jpg", "^[^/]+", "a a b"),
    ],
)
def test_names_as_tools_and_data_sets_write_them_are_grouped(names: str, pattern: str, groups: str) -> None:
    found = by_pattern(pattern, dict(enumerate(names.split()))).of_image
    assert all(found[image].endswith(group) for image, group in enumerate(groups.split()))
    assert len(set(found.values())) == 2


def test_the_placeholder_of_the_repository_names_none() -> None:
    assert PARAMS.groups == PLACEHOLDER
    assert find_groups(NAMES, PARAMS) == Groups()


@pytest.mark.parametrize(
    "content",
    [
        "file_name,group\np01_a.jpg,1\np01_b.jpg,1\np02_a.jpg,2\n",
        "\ufefffile_name;group;age\r\np01_a.jpg;1;70\r\np01_b.jpg;1;70\r\np02_a.jpg;2;\r\n",  # Excel, in Europe
        'group\t"file_name"\n1\tp01_a.jpg\n1\t"p01_b.jpg"\n2\tp02_a.jpg\n2\tp02_a.jpg\n',
        " file_name , group \n./p01_a.jpg, 1 \nP01_B.JPG,1\np02_a.jpg,2\nother.jpg,\n\n",
    ],
)
def test_a_table_is_read_as_people_write_it(tmp_path: Path, content: str) -> None:
    assert by_file(tmp_path / "groups.csv", content) == Groups(of_image={1: "1", 2: "1", 3: "2"}, alone=1)


def test_names_without_an_image_and_images_without_a_name_are_counted(tmp_path: Path) -> None:
    found = by_file(tmp_path / "groups.csv", "file_name,group\np01_a.jpg,1\ngone.jpg,1\n")
    assert (found.alone, found.unknown) == (3, 1)


def test_names_that_two_systems_write_otherwise_are_one(tmp_path: Path) -> None:
    names = {1: "caf\u00e9.jpg", 2: "b/c.jpg"}
    found = by_file(tmp_path / "groups.csv", "file_name,group\ncafe\u0301.jpg,1\nb\\c.jpg,2\n", names)
    assert found.of_image == {1: "1", 2: "2"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("file_name,group\na.jpg,1\nb.jpg,1\na.jpg,2\n", ":4: a.jpg is in the group 2, and before in 1; expected one"),
        ("file_name,group\na.jpg,1\nA.jpg,2\n", "A.jpg and a.jpg are one file in two groups"),
        (
            "filename,patientid\na.jpg,1\n",
            "has the columns filename, patientid; expected a CSV file with the columns f",
        ),
        ("a.jpg,1\nb.jpg,2\n", "has the columns a.jpg, 1; expected"),
        ("file_name,group,group\na.jpg,1,2\n", "has the columns file_name, group, group; expected"),
        ("", "has the columns of an empty file; expected"),
        ("file_name,group\n", "names no group; expected .*, or groups: "),
        ("file_name,group\nx.jpg,1\ny.jpg,2\n", "none of its 2 names, such as 'x.jpg', is an image; .* as 'other.jpg'"),
        ('file_name,group\n"a.jpg,1\nb.jpg,2\n', "unexpected end of data; expected a CSV file"),
        ("file_name,group\n\u00e9.jpg,1\n".encode("utf-16"), "not UTF-8 text; save it as CSV UTF-8"),
    ],
)
def test_a_table_that_says_two_things_or_nothing_is_refused(tmp_path: Path, content: str | bytes, message: str) -> None:
    with pytest.raises(CocosegError, match=message):
        by_file(tmp_path / "groups.csv", content)


def test_what_is_not_there_or_no_file_is_refused(tmp_path: Path) -> None:
    wrong = {tmp_path / "none.csv": "No such file", tmp_path: "Is a directory", Path("/dev/zero"): "is a pipe"}
    for place, why in wrong.items():
        with pytest.raises(CocosegError, match=f"^{place}: {why}.*; expected a CSV file"):
            read_groups(str(place))


def test_a_pattern_beside_a_table_is_refused(tmp_path: Path) -> None:
    (tmp_path / "groups.csv").write_text("file_name,group\np01_a.jpg,1\n")
    params = msgspec.structs.replace(PARAMS, group_pattern="^p", groups=str(tmp_path / "groups.csv"))
    with pytest.raises(
        CocosegError, match=r"group_pattern is set, and .*groups\.csv names groups; expected one of them"
    ):
        find_groups(NAMES, params)


def test_a_pattern_that_finds_nothing_or_takes_forever_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        CocosegError, match=r"'patient\(\.\+\)', which finds a group in none of 4 file names, such as 'o"
    ):
        by_pattern("patient(.+)")
    monkeypatch.setattr("cocoseg.split.groups._PATIENCE_S", 0.1)
    with pytest.raises(
        CocosegError, match="takes more than 0.1 s on 'aaaa.*; expected an expression without a repetition"
    ):
        by_pattern("^(a+)+$", {1: "a" * 40 + ".jpg"})
