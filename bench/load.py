"""Runs of the load generator and what one of them measured."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from bench.process import Failed, busy_seconds

if TYPE_CHECKING:
    from pathlib import Path

SOURCE = "radload.c"
PACKETS = "packets.txt"
# Beyond its own -t: calls that are under way end, lost requests are sent three times.
OVERTIME_SECONDS_MAX = 60
# An idle machine shows 0.05: interrupts belong to nobody.
OTHERS_CORES_MAX = 0.15


class Flow(NamedTuple):
    """What the calls of one run do. `rate` > 0: an open loop of so many calls a second."""

    name: str
    title: str
    steps: tuple[str, ...]
    rate: int = 0
    hold_ms: int = 0  # between the steps of a call


FLOWS = {
    flow.name: flow
    for flow in (
        Flow("auth", "authorise with reservation", ("auth",)),
        Flow("acct", "Start + Stop", ("start", "stop")),
        Flow("call", "whole calls (4 requests)", ("auth", "start", "interim", "stop")),
        Flow(
            "open",
            "open loop, whole calls",
            ("auth", "start", "interim", "stop"),
            rate=1000,
            hold_ms=500,
        ),
    )
}


class Target(Protocol):
    """A server under test with its database."""

    name: str
    auth_port: int
    acct_port: int
    secret: str

    def cpu(self) -> tuple[float, float]:
        """CPU seconds used so far: by the server, by its PostgreSQL."""
        ...

    def batches(self) -> tuple[float, float]:
        """Transactions and requests in them so far; zeros where there are no batches."""
        ...


class Used(NamedTuple):
    """CPU seconds, batches and requests in them so far, and the time that it is."""

    server: float
    postgres: float
    batches: float
    batched: float
    machine: float
    seconds: float

    @classmethod
    def by(cls, target: Target) -> Used:
        return cls(*target.cpu(), *target.batches(), busy_seconds(), time.monotonic())


@dataclass(frozen=True)
class Measured:
    """One run against one target. Latencies are milliseconds, CPU microseconds a request."""

    target: str
    flow: str
    outstanding: int
    requests_per_second: float
    p50_ms: float
    p99_ms: float
    p999_ms: float
    server_us: float
    postgres_us: float
    generator_us: float
    batch_mean: float
    others_cores: float  # CPU that none of the three has used: somebody disturbs the run
    requests: int
    calls_done: int
    faults: tuple[str, ...]
    raw: dict[str, Any]


@dataclass(frozen=True)
class Generator:
    """radload, compiled, with the packets and numbers of this bench."""

    binary: Path
    packets: Path
    numbers: Path
    accounts: int

    def run(
        self,
        target: Target,
        flow: Flow,
        *,
        seconds: float,
        outstanding: int,
        calls: int = 0,
        seed: int = 1,
    ) -> Measured:
        """One bounded run; `calls` > 0 ends it after so many calls, however long they take."""
        arguments = self.arguments(
            target, flow, seconds=seconds, outstanding=outstanding, calls=calls, seed=seed
        )
        before = Used.by(target)
        done = subprocess.run(
            arguments,
            capture_output=True,
            text=True,
            timeout=seconds + OVERTIME_SECONDS_MAX,
            check=False,
        )
        if not done.stdout:
            raise Failed(f"radload: {done.stderr.strip()}")
        used = Used(*(b - a for a, b in zip(before, Used.by(target), strict=True)))
        return measured(target.name, flow, outstanding, json.loads(done.stdout), used)

    def arguments(
        self,
        target: Target,
        flow: Flow,
        *,
        seconds: float,
        outstanding: int,
        calls: int = 0,
        seed: int = 1,
    ) -> list[str]:
        """The command line of radload; the report goes to its standard output."""
        loop = ["-c", str(outstanding)]
        if flow.rate:
            loop = ["-r", str(flow.rate), "-H", str(flow.hold_ms)]
        if calls:
            loop += ["-n", str(calls)]
        return [
            str(self.binary), "-q", "-m", "--require-ma", "-j", "-",
            "-a", f"127.0.0.1:{target.auth_port}", "-A", f"127.0.0.1:{target.acct_port}",
            "-s", target.secret, "-T", str(self.packets), "-N", str(self.numbers),
            "-u", str(self.accounts), "-f", ",".join(flow.steps), "-t", f"{seconds:g}",
            "--seed", str(seed), *loop,
        ]  # fmt: skip


def measured(
    target: str, flow: Flow, outstanding: int, report: dict[str, Any], used: Used
) -> Measured:
    """What radload reports, with CPU spread over every request, the run-out's included."""
    requests = (report["calls_done"] or 1) * len(flow.steps)
    latency = report["latency_us"]
    generator = report["generator_cpu_seconds"]
    others = used.machine - used.server - used.postgres - generator
    return Measured(
        target=target,
        flow=flow.name,
        outstanding=0 if flow.rate else outstanding,
        requests_per_second=report["requests_per_second"],
        p50_ms=latency["p50"] / 1000,
        p99_ms=latency["p99"] / 1000,
        p999_ms=latency["p999"] / 1000,
        server_us=used.server / requests * 1e6,
        postgres_us=used.postgres / requests * 1e6,
        generator_us=generator / requests * 1e6,
        batch_mean=used.batched / (used.batches or 1),
        others_cores=max(others, 0) / used.seconds,
        requests=requests,
        calls_done=report["calls_done"],
        faults=faults(report),
        raw=report,
    )


FAULTS = (
    "rejects",
    "lost",
    "calls_failed",
    "retransmits",
    "bad_response_authenticator",
    "bad_message_authenticator",
    "missing_message_authenticator",
    "malformed",
    "send_errors",
)


def faults(report: dict[str, Any]) -> tuple[str, ...]:
    """What must not happen in a run whose figures are worth anything, "rejects 3"."""
    found = [f"{name} {report[name]}" for name in FAULTS if report[name]]
    if not report["calls_done"]:
        found.append("no call was answered")
    return (*found, *(f"{text}: {count}" for text, count in report["reject_reasons"].items()))


def compile_generator(source: Path, directory: Path) -> Path:
    """The path of radload; compiled when its source is newer."""
    binary = directory / "radload"
    if binary.exists() and binary.stat().st_mtime > source.stat().st_mtime:
        return binary
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise Failed("a C compiler is needed (Debian: apt-get install gcc libc6-dev)")
    subprocess.run([compiler, "-O2", "-o", str(binary), str(source)], check=True)
    return binary
