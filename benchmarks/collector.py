"""What collecting call records costs: a backlog worked off, and a steady stream followed.

    python -m benchmarks.collector [--records 10000000] [--rate 20000 --seconds 30] [--folder /var/tmp] [--keep]
    python -m benchmarks.collector --state /var/tmp/collector-… --records 10000000

First segments of records are written as workers write them, with 1,000 routes, 10,000 consumers and sealed personal
data. Then a process that runs the collector alone works them off; then, with `--rate`, so many records a second are
written beside it. With `--state` it takes the segments that an earlier run left behind with `--keep`. It says records
per second, CPU microseconds per record, its largest resident memory, and bytes.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from gatewayd.audit.chain import Chain
from gatewayd.audit.keys import load_signer
from gatewayd.audit.record import Caller, Operation, Personal, Sealed, Tls, Trace
from gatewayd.audit.segments import segment_path
from gatewayd.audit.subjects import NONCE, SubjectKeys, subject_of
from gatewayd.collect.collector import Collector
from gatewayd.collect.store import FILE
from gatewayd.config.model import Audit, Document, Gateway

ROUTES, CONSUMERS, OWN = 1_000, 10_000, 8
"""How many there are, and how many routes each consumer calls."""
GROUP = 200
"""Records that one write holds."""
SEGMENT = 16 * 1024 * 1024
DENSITY = 20_000.0
"""Calls a second in the backlog."""
_encode = msgspec.msgpack.Encoder().encode
_STATUSES = (200,) * 180 + (201, 204, 301, 304, 400, 401, 404, 404, 404, 429, 429, 500, 502, 503, 504, 499)


class Calls:
    """Records that look like those of a large API: few consumers and routes have most calls."""

    def __init__(self, state: Path, seed: int = 7) -> None:
        self._random = random.Random(seed)
        self._keys = SubjectKeys(state)
        chosen = self._random
        self._operations = [_operation(number) for number in range(ROUTES)]
        self._callers = [_caller(number) for number in range(CONSUMERS)]
        self._slowness = [chosen.uniform(7, 10) for _ in range(ROUTES)]
        self._own = [[_few(chosen, ROUTES) for _ in range(OWN)] for _ in range(CONSUMERS)]
        self._subjects = [subject_of(f"consumer-{number:05d}", 0.0) for number in range(CONSUMERS)]

    def body(self, at: int) -> bytes:
        """The next record, of nanosecond `at` since the epoch."""
        chosen = self._random
        consumer = _few(chosen, CONSUMERS)
        route = chosen.choice(self._own[consumer])
        personal = Personal(
            f"10.{consumer % 200}.{chosen.randrange(8)}.{chosen.randrange(1, 255)}",
            "",
            [hashlib.blake2b(b"%d" % chosen.randrange(50_000), digest_size=8).digest()],
            f"partner/{consumer % 40} (Linux; x86_64) python-requests/2.{consumer % 9}",
        )
        nonce = os.urandom(NONCE)
        cipher = self._keys.cipher(self._subjects[consumer])
        status = chosen.choice(_STATUSES)
        total = int(chosen.lognormvariate(self._slowness[route], 0.5))
        return _encode(
            (
                at,
                os.urandom(16).hex().encode(),
                self._operations[route],
                self._callers[consumer],
                b"POST" if route % 5 == 0 else b"GET",
                status,
                "rate_limited" if status == 429 else "",
                "connect_failed" if status == 502 else "",
                [("api_key", "admitted"), ("fair", "refused" if status == 429 else "admitted")],
                f"10.1.0.{route % 12}:9000",
                1,
                total,
                int(total * 0.9),
                chosen.randrange(4096),
                chosen.randrange(40_000),
                "public",
                b"https",
                b"api.example",
                b"1.1",
                Tls("TLSv1.3", "TLS_AES_256_GCM_SHA384"),
                Trace(os.urandom(16).hex(), os.urandom(8).hex(), "", chosen.random() < 0.05),
                None,
                Sealed(self._subjects[consumer], nonce + cipher.encrypt(nonce, _encode(personal), None)),
            )
        )


def _few(chosen: random.Random, among: int) -> int:
    """A number below `among`, the small ones much more often: one hundredth of them gets about 40 percent."""
    return int(among * chosen.random() ** 5)


def _operation(number: int) -> msgspec.Raw:
    said = Operation(f"route-{number}", f"service-{number % 60}", f"/v1/service-{number % 60}/items/{{id}}", ["id"], 3)
    return msgspec.Raw(_encode(said))


def _caller(number: int) -> msgspec.Raw:
    said = Caller(
        f"consumer-{number:05d}", f"key-{number:05d}", "api_key", f"plan-{number % 4}", f"tenant-{number % 90}"
    )
    return msgspec.Raw(_encode(said))


class Segments:
    """Writes one chain."""

    def __init__(self, state: Path, name: str) -> None:
        self._folder = state / "audit" / name
        self._folder.mkdir(parents=True)
        self._chain = Chain(name, load_signer(state))
        self._file = -1
        self._size = SEGMENT

    def write(self, bodies: list[bytes], at: int) -> None:
        """Add records with one `write`, and begin another segment where the last is full."""
        data = self._chain.append(bodies) if self._size < SEGMENT else b""
        if not data:
            if self._file >= 0:
                os.write(self._file, self._chain.head(at, end=True))
                os.close(self._file)
            path = segment_path(self._folder, self._chain.segment + 1)
            self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            data = self._chain.open(at) + self._chain.append(bodies)
            self._size = 0
        os.write(self._file, data)
        self._size += len(data)


def groups(calls: Calls, count: int, begin: int, step: float) -> Iterator[tuple[list[bytes], int]]:
    """Groups of records, and when the last of each was called; `step`: nanoseconds between two."""
    for first in range(0, count, GROUP):
        size = min(GROUP, count - first)
        yield [calls.body(int(begin + (first + number) * step)) for number in range(size)], int(begin + first * step)


def collect(state: Path) -> None:
    """Run the collector alone, as the control process does, until standard input ends; print its figures per line."""
    import aiohttp.web  # noqa: F401  (the control process has it, too)

    async def run() -> None:
        collector = Collector()
        await collector.apply(Document(gateway=Gateway(state_dir=str(state)), audit=Audit(enabled=True)))
        asking = asyncio.to_thread(sys.stdin.readline)
        while await asking:
            found = {family.name: family.samples[0].value for family in collector.families()}
            print(json.dumps(found | {"peak": _peak()}), flush=True)
            asking = asyncio.to_thread(sys.stdin.readline)
        await collector.close()

    asyncio.run(run())


def _peak() -> int:
    """Bytes of memory that this process had at most."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


class Child:
    """The process that collects."""

    def __init__(self, state: Path) -> None:
        self.began = time.monotonic()
        command = [sys.executable, "-m", "benchmarks.collector", "--collect", str(state)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def figures(self) -> dict[str, float]:
        """What the collector says at present."""
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("\n")
        process.stdin.flush()
        found: dict[str, float] = json.loads(process.stdout.readline())
        return {name.removeprefix("gatewayd_collector_"): value for name, value in found.items()}

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def write(state: Path, count: int) -> None:
    """Write a backlog."""
    began = time.monotonic()
    chain = Segments(state, "calls-0")
    start = time.time_ns() - int(count / DENSITY * 1e9)
    for bodies, at in groups(Calls(state), count, start, 1e9 / DENSITY):
        chain.write(bodies, at)
    _say(f"{count:,} records written in {time.monotonic() - began:.0f} s")


def backlog(state: Path, count: int) -> None:
    """Have it worked off into a new store, and say how fast that was."""
    for path in state.glob(f"{FILE}*"):
        path.unlink()
    child = Child(state)
    try:
        while (now := child.figures())["records"] < count:
            time.sleep(0.5)
        took = time.monotonic() - child.began
        _report("backlog", count, took, now)
    finally:
        child.close()


def stream(state: Path, rate: int, seconds: int) -> None:
    """Write `rate` records a second beside a collector that runs, and say what that costs it."""
    made = list(groups(Calls(state, 8), rate * seconds, time.time_ns(), 1e9 / rate))
    chain = Segments(state, "calls-1")
    child = Child(state)
    try:
        before = child.figures()
        began = time.monotonic()
        lags = []
        for number, (bodies, _) in enumerate(made):
            ahead = number * GROUP / rate - (time.monotonic() - began)
            if ahead > 0:
                time.sleep(ahead)
            chain.write(bodies, time.time_ns())
            if number % (rate // GROUP) == 0:
                lags.append(child.figures()["lag_bytes"])
        written = time.monotonic() - began
        while (now := child.figures())["records"] - before["records"] < rate * seconds:
            time.sleep(0.05)
        behind = time.monotonic() - began - written
        now["cpu_seconds"] -= before["cpu_seconds"]
        _report("stream", rate * seconds, written, now)
        _say(f"all was in the store {behind:.2f} s behind the last write; bytes behind at most {max(lags):,.0f}")
    finally:
        child.close()


def _report(what: str, count: int, seconds: float, now: dict[str, float]) -> None:
    _say(
        f"{what}: {count / seconds:,.0f} records/s, {now['cpu_seconds'] / count * 1e6:.1f} µs CPU per record, "
        f"{now['peak'] / 1024**2:.0f} MiB of memory at most, store {now['store_bytes'] / 1024**2:,.0f} MiB"
    )


def _say(text: str) -> None:
    print(text, flush=True)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Measure the collector.")
    parser.add_argument("--records", type=int, default=1_000_000, help="records of the backlog; 0: none")
    parser.add_argument("--rate", type=int, default=0, help="records a second of the stream; 0: no stream")
    parser.add_argument("--seconds", type=int, default=20, help="how long the stream is")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="where files go")
    parser.add_argument("--keep", action="store_true", help="leave them there")
    parser.add_argument("--state", type=Path, help="a folder of --records that was left, and stays")
    parser.add_argument("--collect", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.collect:
        collect(options.collect)
        return
    state = options.state or Path(tempfile.mkdtemp(prefix="collector-", dir=options.folder))
    try:
        if options.records:
            if not options.state:
                write(state, options.records)
            backlog(state, options.records)
        if options.rate:
            stream(state, options.rate, options.seconds)
    finally:
        if options.keep or options.state:
            _say(f"all of it is in {state}")
        else:
            shutil.rmtree(state)


if __name__ == "__main__":
    main()
