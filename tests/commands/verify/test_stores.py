"""An object is written whole and checked, or not at all."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dvc_data.hashfile.db.local import LocalHashFileDB
from dvc_objects.fs.local import LocalFileSystem

from cocoseg.commands.dvc_adapter import ObjectStore
from cocoseg.commands.verify.stores import Store
from cocoseg.core.errors import CocosegError

NAME = "900150983cd24fb0d6963f7d28e17f72"  # md5 of «abc», RFC 1321


@pytest.fixture
def store(tmp_path: Path) -> Store:
    files: Any = LocalFileSystem()  # type: ignore[no-untyped-call]
    odb: Any = LocalHashFileDB(files, str(tmp_path / "files/md5"))  # type: ignore[no-untyped-call]
    return Store("cache", ObjectStore(lambda: odb))


def files_in(store: Store) -> list[Path]:
    return [path for path in Path(store.objects.folder).rglob("*") if path.is_file()]


def test_an_object_is_read_only_and_what_its_name_says(store: Store) -> None:
    assert store.state_of(NAME) == "missing"
    store.write(NAME, [b"a", b"bc"])
    assert store.state_of(NAME) == "right"
    assert store.list_objects() == {NAME}
    assert Path(store.path(NAME)).stat().st_mode & 0o777 == 0o444


def test_content_that_is_not_what_its_name_says_is_not_written(store: Store) -> None:
    with pytest.raises(CocosegError, match="cache: what came for 900150983cd24fb0d6963f7d28e17f72 is not"):
        store.write(NAME, [b"abd"])
    assert files_in(store) == []


def test_what_breaks_off_leaves_the_object_that_was_there(store: Store) -> None:
    def breaks_off() -> Iterator[bytes]:
        yield b"a"
        raise ConnectionResetError

    store.write(NAME, [b"abc"])
    with pytest.raises(ConnectionResetError):
        store.write(NAME, breaks_off())
    assert files_in(store) == [Path(store.path(NAME))]
    assert store.state_of(NAME) == "right"


def test_what_is_no_object_is_not_listed(store: Store) -> None:
    store.write(NAME, [b"abc"])
    (Path(store.path(NAME)).parent / ".writing-00").write_bytes(b"ab")
    (Path(store.objects.folder) / "README").write_text("no object")
    assert store.list_objects() == {NAME}
