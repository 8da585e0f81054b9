"""What is kept between epochs, and that none of it stays behind."""

import gc
import os
import pickle
import resource
import signal
import subprocess
import sys
from multiprocessing import resource_sharer
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import pytest
import torch
from torch import Tensor

from cocoseg.train.sample_cache import SampleCache


def sample(value: int) -> tuple[Tensor, Tensor]:
    """An image (3, 2, 4) and its mask (2, 4): 24 and 8 bytes, no two of a sample alike."""
    image = torch.arange(value, value + 24, dtype=torch.uint8).view(3, 2, 4)
    return image, torch.arange(value + 24, value + 32, dtype=torch.uint8).view(2, 4)


def assert_kept(cache: SampleCache, index: int, value: int) -> None:
    kept = cache.get(index)
    assert kept is not None
    assert all(torch.equal(part, expected) for part, expected in zip(kept, sample(value), strict=True))


def test_what_memory_has_no_room_for_lies_on_the_disk(tmp_path: Path) -> None:
    cache = SampleCache(4, memory_bytes=70, disk=tmp_path)
    for index in (3, 0, 2):
        assert cache.put(index, *sample(10 * index))

    # 70 bytes hold two samples of 32. File, first byte, height, width:
    assert cache.places.tolist() == [[1, 32, 2, 4], [0, 0, 0, 0], [2, 0, 2, 4], [1, 0, 2, 4]]
    for index in (3, 0, 2):
        assert_kept(cache, index, 10 * index)
    assert cache.get(1) is None


def test_samples_of_any_size_follow_each_other(tmp_path: Path) -> None:
    cache = SampleCache(2, memory_bytes=0, disk=tmp_path)
    wide = torch.full((3, 1, 5), 7, dtype=torch.uint8), torch.full((1, 5), 8, dtype=torch.uint8)
    assert cache.put(0, *wide)
    assert cache.get(0) is not None  # read in between
    assert cache.put(1, *sample(1))
    assert cache.places[:, 1].tolist() == [0, 20]
    assert_kept(cache, 1, 1)


def test_a_view_is_kept_as_it_reads(tmp_path: Path) -> None:
    cache = SampleCache(1, memory_bytes=100, disk=None)
    image, mask = sample(5)
    assert cache.put(0, image.permute(1, 2, 0).contiguous().permute(2, 0, 1), mask)
    assert_kept(cache, 0, 5)


def test_the_disk_keeps_its_reserve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cocoseg.train.sample_cache.DISK_RESERVE", 1.0)
    cache = SampleCache(2, memory_bytes=40, disk=tmp_path)
    assert cache.put(0, *sample(0))
    assert not cache.put(1, *sample(1))
    assert cache.get(1) is None


def test_a_disk_that_fills_up_takes_no_more_and_loses_nothing(tmp_path: Path) -> None:
    cache = SampleCache(3, memory_bytes=0, disk=tmp_path)
    assert cache.put(0, *sample(3))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50, hard))  # bytes, as if there were no more: 32 fit, 64 do not
    try:
        assert not cache.put(1, *sample(1))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not cache.put(2, *sample(2))
    assert_kept(cache, 0, 3)


def test_a_folder_that_takes_no_file_is_done_without(tmp_path: Path) -> None:
    cache = SampleCache(2, memory_bytes=40, disk=tmp_path / "not there")
    assert cache.put(0, *sample(0))
    assert not cache.put(1, *sample(1))


def test_closing_frees_both_and_so_does_forgetting(tmp_path: Path) -> None:
    closed, forgotten = (SampleCache(1, memory_bytes=0, disk=tmp_path) for _ in range(2))
    descriptors = [file.descriptor for cache in (closed, forgotten) for file in cache.files]
    assert closed.put(0, *sample(0))
    closed.close()
    assert closed.get(0) is None
    del forgotten
    gc.collect()
    for descriptor in descriptors:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(descriptor)


def test_a_killed_process_leaves_nothing_behind(tmp_path: Path) -> None:
    program = (
        "import sys, time, torch; from pathlib import Path; from cocoseg.train import sample_cache\n"
        "sample_cache.DISK_RESERVE = 0.0; cache = sample_cache.SampleCache(1, 0, Path(sys.argv[1]))\n"
        "kept = cache.put(0, torch.zeros(3, 9, 9, dtype=torch.uint8), torch.zeros(9, 9, dtype=torch.uint8))\n"
        "print(kept, cache.get(0) is not None, flush=True); time.sleep(60)"
    )
    path = os.pathsep.join(sys.path)
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True, env={"PYTHONPATH": path}
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "True True\n"
        process.send_signal(signal.SIGKILL)
    assert list(tmp_path.iterdir()) == []


def test_another_process_is_handed_the_files_and_not_their_bytes(tmp_path: Path) -> None:
    cache = SampleCache(2, memory_bytes=300_000, disk=tmp_path)
    image, mask = torch.full((3, 256, 256), 9, dtype=torch.uint8), torch.zeros(256, 256, dtype=torch.uint8)
    assert cache.put(0, image, mask)
    assert cache.put(1, image, mask)
    assert cache.places[:, 0].tolist() == [1, 2]

    handed = bytes(ForkingPickler.dumps(cache))
    received: SampleCache = pickle.loads(handed)
    resource_sharer.stop()

    assert len(handed) < 2_000  # of 2 · 262,144
    for index in range(2):
        kept, own = received.get(index), cache.get(index)
        assert kept is not None
        assert own is not None
        assert torch.equal(kept[0], image)
        own[1][0, 0] = 1 + index  # the same bytes, seen through both
        assert kept[1][0, 0] == 1 + index
