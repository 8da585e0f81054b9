"""Time `dvc push` and `dvc pull` of many masks through S3: `uv run benchmarks/s3.py`.

The servers are the one of the tests, Swift, which takes milliseconds of CPU time for each object, and one that keeps
objects in memory, checks nothing and takes hardly any, as if it had machines of its own. A proxy adds the round trip of
a server that is far away. The peer is a bare client (s3fs) with 1 connection, so one file at a time; with more, it
shows what the server can do. The CPU time per file tells which of the two is busy.

- jobs: `dvc push --jobs` and `dvc pull --jobs`; "default" is 4 per core
- open: DVC's client has at most 10 connections, whatever the jobs; here `FSSPEC_S3` allows as many as jobs
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import s3fs
from aiohttp import web
from tabulate import tabulate

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "src")]
from clones import Clone
from counting_pipeline import counting_pipeline
from s3_remote import make_bucket, set_remote
from s3_server import S3Server, free_ports

from cocoseg.images.png import encode_png

HEADER = ["client", "push: files/s", "×", "CPU ms/file: client", "server", "pull: files/s", "×", "client", "server"]


def masks_on_disk(folder: Path, masks: int) -> Clone:
    """Return a pipeline with this many masks of 640×480 pixels in its workspace and cache."""
    clone = counting_pipeline(folder / "made")
    chance = np.random.default_rng(0)
    (clone.folder / "masks").mkdir()
    for number in range(masks):
        small = chance.integers(0, 6, (12, 16), dtype=np.uint8)
        (clone.folder / f"masks/{number:06}.png").write_bytes(encode_png(np.kron(small, np.ones((40, 40), np.uint8))))
    clone.dvc("add", "masks")
    clone.commit("masks")
    size = sum(path.stat().st_size for path in (clone.folder / "masks").iterdir())
    print(f"{masks} masks, {size / 1e6:.1f} MB, {os.cpu_count()} cores", flush=True)
    return clone


async def in_memory(port: int) -> None:
    """Serve what DVC needs of S3, without checking anything."""
    objects: dict[str, bytes] = {}

    async def answer(request: web.Request) -> web.Response:
        key = request.path
        if request.method == "PUT":
            objects[key] = await request.read()
            return web.Response(headers={"ETag": '"0"'})
        if "list-type" in request.query:
            start = f"{key.rstrip('/')}/"
            names = (one.removeprefix(start) for one in objects if one.startswith(start + request.query["prefix"]))
            entries = "".join(f"<Contents><Key>{name}</Key><Size>1</Size></Contents>" for name in names)
            return web.Response(text=f"<ListBucketResult>{entries}</ListBucketResult>", content_type="application/xml")
        return web.Response(body=objects[key]) if key in objects else web.Response(status=404)

    app = web.Application(client_max_size=2**30)
    app.router.add_route("*", "/{key:.*}", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await asyncio.Event().wait()  # until it is ended


async def far_away(port: int, server: int, delay_s: float) -> None:
    """Serve a proxy that passes bytes on `delay_s` after they arrive, in both directions."""
    loop = asyncio.get_running_loop()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(2**16):
            loop.call_later(delay_s, writer.write, data)
        loop.call_later(delay_s, writer.close)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", server)
        await asyncio.gather(pump(reader, back), pump(there, writer), return_exceptions=True)

    await (await asyncio.start_server(serve, "127.0.0.1", port, backlog=1024)).serve_forever()


def served(serve: Callable[..., Coroutine[Any, Any, None]], arguments: tuple[float, ...]) -> None:
    """Run a server until it is ended."""
    asyncio.run(serve(*arguments))


@contextmanager
def running(serve: Callable[..., Coroutine[Any, Any, None]], *arguments: float) -> Iterator[tuple[int, int]]:
    """Run a server in its own process; give its port and the process's id."""
    [port] = free_ports(1)
    process = multiprocessing.Process(target=served, args=(serve, (port, *arguments)), daemon=True)
    process.start()
    time.sleep(1)
    assert process.pid is not None
    yield port, process.pid
    process.terminate()


@contextmanager
def server_named(name: str, folder: Path, clone: Clone) -> Iterator[tuple[int, list[int]]]:
    """Run a server with a bucket "masks"; give its port and the ids of its processes."""
    if name == "memory":
        with running(in_memory) as (port, pid):
            yield port, [pid]
        return
    with S3Server(folder / "server") as server:
        make_bucket(clone, server, "masks")
        yield int(server.url.rpartition(":")[2]), server.pids


async def transferred(url: str, paths: list[Path], connections: int, up: bool) -> None:
    """Send or get each file as an object over this many connections."""
    waiting = iter(paths)
    settings = {"max_pool_connections": connections}
    client = s3fs.S3FileSystem(endpoint_url=url, config_kwargs=settings, asynchronous=True, skip_instance_cache=True)
    session = await client.set_session()

    async def work() -> None:
        for path in waiting:
            key = f"masks/bare-{connections}/{path.name}"
            await (client._put_file(str(path), key) if up else client._get_file(key, "/dev/null"))

    await asyncio.gather(*(work() for _ in range(connections)))
    await session.close()


class Meter:
    """Times transfers of files, and the CPU time of client and server in them."""

    def __init__(self, pids: list[int]) -> None:
        self._server = [psutil.Process(pid) for pid in pids]

    def _used(self) -> tuple[float, float, float]:
        usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        server = sum(sum(process.cpu_times()[:2]) for process in self._server)
        return time.perf_counter(), sum(one.ru_utime + one.ru_stime for one in usage), server

    def __call__(self, files: int, task: Callable[[], object]) -> list[float]:
        """Return files per second, and the CPU milliseconds of client and server for each."""
        before = self._used()
        task()
        seconds, client, server = (now - then for now, then in zip(self._used(), before, strict=True))
        return [files / seconds, 1000 * client / files, 1000 * server / files]


def bare(meter: Meter, url: str, paths: list[Path], connections: int) -> list[list[float]]:
    """Send and get files without DVC."""

    def task(up: bool) -> None:
        asyncio.run(transferred(url, paths, connections, up))

    return [meter(len(paths), partial(task, up)) for up in (True, False)]


def through_dvc(meter: Meter, url: str, clone: Clone, jobs: str, files: int) -> list[list[float]]:
    """Push and pull the masks, as a user does, from a folder of the remote that is new."""
    number, _, opened = jobs.partition("+")
    options = [] if number == "default" else ["--jobs", number]
    allowed = {"FSSPEC_S3": json.dumps({"config_kwargs": {"max_pool_connections": int(number)}})} if opened else {}
    set_remote(clone, url, f"s3://masks/dvc-{url.rpartition(':')[2]}-{jobs}")
    environment = {**os.environ, "DVC_NO_ANALYTICS": "1", **allowed}
    run = partial(subprocess.run, cwd=clone.folder, env=environment, check=True, capture_output=True)
    found = [meter(files, lambda: run([sys.executable, "-m", "dvc", "push", *options]))]
    for folder in ("masks", ".dvc/cache"):
        shutil.rmtree(clone.folder / folder)
    found.append(meter(files, lambda: run([sys.executable, "-m", "dvc", "pull", *options])))
    return found


def table(meter: Meter, url: str, clone: Clone, jobs: list[str], connections: list[int]) -> str:
    """Return the table of all clients of a server."""
    paths = sorted((clone.folder / "masks").iterdir())
    rows = {f"bare, {number}": bare(meter, url, paths[:: 10 if number == 1 else 1], number) for number in connections}
    rows |= {f"dvc, jobs {number}": through_dvc(meter, url, clone, number, len(paths)) for number in jobs}
    ones = [rate for rate, _, _ in rows[f"bare, {connections[0]}"]]
    cells = [
        [name, *(cell for (rate, *cpu), one in zip(both, ones, strict=True) for cell in (rate, rate / one, *cpu))]
        for name, both in rows.items()
    ]
    return tabulate(cells, HEADER, tablefmt="github", floatfmt=("", *(".0f", ".1f", ".1f", ".1f") * 2))


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--masks", type=int, default=5000, help="default: 5000; over 1 connection a tenth of them")
    parser.add_argument("--servers", nargs="+", choices=["swift", "memory"], default=["swift", "memory"])
    parser.add_argument("--round-trip-ms", type=float, nargs="+", default=[0, 20], help="default: 0 20")
    parser.add_argument("--jobs", nargs="+", default=["1", "default", "16", "64", "64+open"])
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 10, 64], help="of the bare client")
    options = parser.parse_args()
    os.environ.update(S3Server.credentials)
    with tempfile.TemporaryDirectory() as name:
        clone = masks_on_disk(Path(name), options.masks)
        for server in options.servers:
            with server_named(server, Path(name), clone) as (port, pids):
                for delay in options.round_trip_ms:
                    with running(far_away, port, delay / 2000) as (far, _):
                        url = f"http://127.0.0.1:{far if delay else port}"
                        print(f"\n{server}, round trip + {delay:g} ms\n", flush=True)
                        print(table(Meter(pids), url, clone, options.jobs, options.connections), flush=True)


if __name__ == "__main__":
    main()
