"""Measure what `cocoseg verify` finds and how long it takes: `uv run benchmarks/verify.py`.

First, for each fault in data: what `dvc status` and `dvc status --cloud` report, what `cocoseg verify` reports, and
what is left after `--repair`. Then, for 5,000 masks on the S3 server of the tests: `cocoseg verify`, compared with
getting every object and with hashing every copy one at a time.
"""

import argparse
import hashlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import s3fs
from tabulate import tabulate

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "src"), str(Path(__file__).parent)]
from clones import Clone
from counting_pipeline import counting_pipeline
from s3 import masks_on_disk
from s3_remote import set_remote
from s3_server import KEY, SECRET, S3Server
from silent_faults import FAULTS, dvc_says


def fault_table(folder: Path) -> str:
    """Return one row per fault, on a remote that is a folder."""
    made = counting_pipeline(folder / "made")
    rows = []
    for number, fault in enumerate(FAULTS):
        shutil.copytree(made.folder, folder / f"{number}/made", symlinks=True)
        shutil.copytree(folder / "store", folder / f"{number}/store")
        clone = Clone(folder / f"{number}/made")
        clone.dvc("status")
        fault.happens(clone)
        said = dvc_says(clone)
        found = faults_of(clone.run("cocoseg", "verify", check=False).stdout)
        clone.run("cocoseg", "verify", "--repair", check=False)
        after = faults_of(clone.run("cocoseg", "verify", check=False).stdout)
        rows.append([fault.name, "clean" if said == "clean" else "changed", found, after])
    return tabulate(rows, ["fault", "dvc", "cocoseg verify", "after --repair"], tablefmt="github")


def faults_of(text: str) -> str:
    """Return the lines below the table of a report, without the advice."""
    lines = text.partition("\n\n")[2].splitlines()
    return "; ".join(line.partition(" (")[0] for line in lines[:-1]) or lines[-1]


def through_s3(folder: Path, masks: int) -> None:
    """Print the times for this many masks."""
    with S3Server(folder / "server") as server:
        os.environ.update(server.credentials)
        files = s3fs.S3FileSystem(key=KEY, secret=SECRET, endpoint_url=server.url)
        files.mkdir("masks")
        clone = masks_on_disk(folder, masks)
        set_remote(clone, server.url, "s3://masks/dvc")
        clone.dvc("push")
        paths = sorted((clone.folder / "masks").iterdir())
        part = paths[: max(1, masks // 10)]
        for path in part:
            files.put_file(str(path), f"masks/plain/{path.name}")
        down = seconds(lambda: [files.cat_file(f"masks/plain/{path.name}") for path in part]) * masks / len(part)
        print(f"  (one at a time: of {len(part)}, times {masks / len(part):g})")
        line("verify, three places", seconds(lambda: clone.run("cocoseg", "verify")), down, "get one at a time")
        here = seconds(lambda: clone.run("cocoseg", "verify", "--no-remote"))
        copies = [*paths, *(path for path in (clone.folder / ".dvc/cache/files").rglob("*") if path.is_file())]
        line("verify, this machine", here, seconds(lambda: [md5(path) for path in copies]), "hashlib, one at a time")
        shutil.rmtree(clone.folder / "masks")
        shutil.rmtree(clone.folder / ".dvc/cache")
        line("verify --repair", seconds(lambda: clone.run("cocoseg", "verify", "--repair")), down, "get one at a time")


def line(what: str, taken: float, peer: float, peer_name: str) -> None:
    """Print a time and that of its peer."""
    print(f"{what + ':':<24}{taken:7.1f} s   {peer_name}: {peer:7.1f} s   {taken / peer:5.2f} ×")


def seconds(work: Callable[[], object]) -> float:
    """Return the seconds that it takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def md5(path: Path) -> str:
    """Return the MD5 of a file."""
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


def main() -> None:
    """Print the table, then the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--masks", type=int, default=5000, help="masks on the S3 server; 0 leaves it out")
    masks = parser.parse_args().masks
    with tempfile.TemporaryDirectory() as name:
        print(fault_table(Path(name) / "faults"))
        if masks:
            through_s3(Path(name) / "s3", masks)


if __name__ == "__main__":
    main()
