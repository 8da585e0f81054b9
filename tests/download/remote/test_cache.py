"""The user's cache."""

from pathlib import Path

import pytest

from cocoseg.core.errors import CocosegError
from cocoseg.download.remote.cache import gigabytes, image_path, require_room
from cocoseg.user_cache import cache_folder


def test_the_cache_is_where_the_environment_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COCOSEG_CACHE", str(tmp_path / "deep" / "cache"))

    assert cache_folder() == tmp_path / "deep" / "cache"
    assert cache_folder().is_dir()


def test_without_the_variable_the_cache_is_the_users_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COCOSEG_CACHE", raising=False)
    for variable in ("XDG_CACHE_HOME", "LOCALAPPDATA", "HOME"):
        monkeypatch.setenv(variable, str(tmp_path))

    assert tmp_path in cache_folder().parents
    assert "cocoseg" in cache_folder().parts


def test_a_cache_that_cannot_be_a_folder_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("COCOSEG_CACHE", str(tmp_path / "file"))

    with pytest.raises(CocosegError, match="file: File exists; expected a folder for the cache; .* COCOSEG_CACHE"):
        cache_folder()


def test_an_image_lies_under_the_digest_of_its_url(tmp_path: Path) -> None:
    # printf abc | sha256sum
    digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"

    assert image_path(tmp_path, "abc") == tmp_path / "images" / "ba" / digest


def test_a_disk_without_room_is_refused_before_anything_starts(tmp_path: Path) -> None:
    require_room({tmp_path: 1, tmp_path / "not" / "there": 1})

    with pytest.raises(CocosegError, match=r"free on this disk, but about 1000000000\.0 GB are needed; make room"):
        require_room({tmp_path / "not" / "there": 10**18})


def test_what_two_folders_need_on_one_disk_is_added(tmp_path: Path) -> None:
    with pytest.raises(CocosegError, match=r"about 2000000\.0 GB are needed"):
        require_room({tmp_path: 10**15, tmp_path / "b": 10**15})


def test_sizes_are_told_in_megabytes_and_gigabytes() -> None:
    assert gigabytes(1_310_000_000) == "1.3 GB"
    assert gigabytes(16_300_000) == "16.3 MB"
