"""Files that appear whole or not at all."""

from pathlib import Path

import msgspec
import pytest

from cocoseg.core.errors import CocosegError
from cocoseg.core.files import read_json, read_lines, read_table, write_bytes, write_json, write_lines, write_table


class Row(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    count: int
    note: str | None = None


def test_a_write_that_fails_leaves_the_old_content_and_no_temporary_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_bytes(path, b"old")
    with pytest.raises(TypeError):
        write_bytes(path, "not bytes")  # type: ignore[arg-type]  # the write fails half-way
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.txt"]


def test_a_read_only_link_is_replaced_and_not_written_through(tmp_path: Path) -> None:
    cached = tmp_path / "cached"
    cached.write_bytes(b"old")
    (tmp_path / "out").hardlink_to(cached)
    cached.chmod(0o444)
    write_bytes(tmp_path / "out", b"new")
    assert (cached.read_bytes(), (tmp_path / "out").read_bytes()) == (b"old", b"new")


def test_a_file_below_another_file_is_named_in_the_systems_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(NotADirectoryError) as caught:
        write_bytes(tmp_path / "file" / "a.txt", b"new")
    assert caught.value.filename == str(tmp_path / "file" / "a.txt")


def test_json_is_indented_keeps_the_order_of_keys_and_writes_nan_as_null(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"b": 1, "a": float("nan"), "ü": [0.1]})
    expected = '{\n  "b": 1,\n  "a": null,\n  "ü": [\n    0.1\n  ]\n}\n'
    assert (tmp_path / "a.json").read_text(encoding="utf-8") == expected


def test_a_table_comes_back_as_it_was_commas_quotes_and_empty_cells_too(tmp_path: Path) -> None:
    rows = [Row(name='a "b", c', count=1, note="x"), Row(name="été", count=-2), Row(name="", count=0)]
    write_table(tmp_path / "a.csv", rows, Row)
    assert read_table(tmp_path / "a.csv", Row) == rows
    assert (tmp_path / "a.csv").read_bytes().startswith(b'name,count,note\n"a ""b"", c",1,x\n')


def test_lines_come_back_as_they_were(tmp_path: Path) -> None:
    write_lines(tmp_path / "a.txt", ["b c.jpg", "é.jpg"])
    assert read_lines(tmp_path / "a.txt") == ["b c.jpg", "é.jpg"]
    write_lines(tmp_path / "none.txt", [])
    assert read_lines(tmp_path / "none.txt") == []


def test_what_is_missing_or_of_another_kind_says_which_command_makes_it(tmp_path: Path) -> None:
    with pytest.raises(CocosegError, match=r"a.csv: not found; make it with: dvc repro"):
        read_table(tmp_path / "a.csv", Row)
    with pytest.raises(CocosegError, match=r"a.json: not found"):
        read_json(tmp_path / "a.json", dict)
    with pytest.raises(CocosegError, match=r"a.txt: not found"):
        read_lines(tmp_path / "a.txt")
    (tmp_path / "a.csv").write_text("name,count\nx,many\n")
    with pytest.raises(CocosegError, match=r"a.csv: .*int.*make it again with: dvc repro -f"):
        read_table(tmp_path / "a.csv", Row)
    for cell in ("9" * 5000, "x" * 200_000):
        (tmp_path / "a.csv").write_text(f"name,count\nx,{cell}\n")
        with pytest.raises(
            CocosegError, match=r"a.csv: [^\n]*(out of range|limit)[^\n]*make it again with: dvc repro -f"
        ):
            read_table(tmp_path / "a.csv", Row)
    (tmp_path / "a.txt").write_bytes(b"\xff\xd8")
    with pytest.raises(CocosegError, match="a.txt: not UTF-8 text; give another"):
        read_lines(tmp_path / "a.txt", way_out="give another")
    (tmp_path / "a.json").write_text("[1")
    with pytest.raises(CocosegError, match=r"a.json: .*make it again"):
        read_json(tmp_path / "a.json", list)
