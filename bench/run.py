"""What is measured in which order, and whether the figures may be believed."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, NamedTuple

from bench import dataset, freeradius
from bench.cluster import Cluster
from bench.freeradius import FreeRadius
from bench.load import (
    FLOWS,
    OTHERS_CORES_MAX,
    PACKETS,
    SOURCE,
    Generator,
    Measured,
    compile_generator,
)
from bench.ours import ROOT, Ours
from bench.process import busy_seconds

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from contextlib import ExitStack

    from bench.dataset import Shape
    from bench.load import Flow

# The sides in turn; worlds of other sizes, ours alone; two providers against fifty; a rate
# sheet imported meanwhile.
STAGES = ("sides", "worlds", "lcr", "import")
HERE = Path(__file__).parent
IN_PROGRESS = 100_000
IN_PROGRESS_SECONDS_MAX = 120
IMPORTED = 300_000
IMPORT_SECONDS = 60
PROVIDERS = (2, 50)
PROVIDER_RATES = 100_000  # each


Server = Ours | FreeRadius


class Plan(NamedTuple):
    """What to measure. `sides` holds "ours" and "freeradius" or one of them."""

    sides: tuple[str, ...]
    flows: tuple[Flow, ...]
    outstanding: int
    seconds: float
    warm_seconds: float
    rounds: int
    patience_seconds: float
    shape: Shape
    stages: tuple[str, ...]
    processes: int
    wrap: tuple[str, ...]
    settings: Mapping[str, str]


class Variant(NamedTuple):
    """A world that differs from the first one in one respect."""

    title: str
    shape: Shape
    calls_in_progress: int = 0


def variants(shape: Shape) -> list[Variant]:
    """The worlds that are compared; the first is what the others are held against."""
    return [
        Variant(f"{shape.rates} rates, {shape.accounts} accounts", shape),
        Variant("1000 rates", shape._replace(rates=1000)),
        Variant("1000000 rates", shape._replace(rates=1_000_000)),
        Variant("one reseller above all customers", shape._replace(one_reseller=True)),
        Variant("1000000 accounts", shape._replace(accounts=1_000_000)),
        Variant(f"{IN_PROGRESS} calls in progress", shape, IN_PROGRESS),
    ]


@dataclass
class Stage:
    """Runs that were interleaved with each other."""

    title: str
    measured: list[Measured] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    memory_bytes: dict[str, int] = field(default_factory=dict)

    def medians(self) -> list[Measured]:
        """One entry for each flow and target: the median of each figure by itself."""
        groups: dict[tuple[str, str], list[Measured]] = {}
        for one in self.measured:
            groups.setdefault((one.flow, one.target), []).append(one)
        return [median(group) for group in groups.values()]


def median(group: Sequence[Measured]) -> Measured:
    """The middle of every figure; sums of counts, faults of all runs."""

    def middle(name: str) -> float:
        return float(statistics.median(getattr(one, name) for one in group))

    first = group[0]
    return Measured(
        target=first.target,
        flow=first.flow,
        outstanding=first.outstanding,
        requests_per_second=middle("requests_per_second"),
        p50_ms=middle("p50_ms"),
        p99_ms=middle("p99_ms"),
        p999_ms=middle("p999_ms"),
        server_us=middle("server_us"),
        postgres_us=middle("postgres_us"),
        generator_us=middle("generator_us"),
        batch_mean=middle("batch_mean"),
        others_cores=max(one.others_cores for one in group),
        requests=sum(one.requests for one in group),
        calls_done=sum(one.calls_done for one in group),
        faults=tuple(fault for one in group for fault in one.faults),
        raw={},
    )


class Bench:
    """Clusters and servers of one invocation; `stack` stops them, the last one first."""

    def __init__(self, plan: Plan, directory: Path, stack: ExitStack) -> None:
        self.plan = plan
        self.directory = directory
        self.stack = stack
        self.clusters: dict[str, Cluster] = {}

    def stages(self) -> Iterable[Stage]:
        """Each as soon as it is done."""
        for name in self.plan.stages:
            match name:
                case "sides":
                    yield self.side_by_side()
                case "worlds":
                    yield self.compared()
                case "lcr":
                    yield self.routing()
                case "import":
                    yield self.importing()

    def cluster(self, name: str) -> Cluster:
        """The running cluster of that name."""
        if name not in self.clusters:
            cluster = Cluster(self.directory / name)
            self.stack.callback(cluster.stop)
            self.clusters[name] = cluster
        return self.clusters[name]

    def generator(self, shape: Shape) -> Generator:
        """The load generator for the numbers and accounts of a data set."""
        numbers = self.directory / f"numbers_{shape.name}.txt"
        numbers.write_text("\n".join(dataset.dialled(shape)) + "\n")
        return Generator(
            compile_generator(HERE / SOURCE, self.directory),
            HERE / PACKETS,
            numbers,
            shape.accounts,
        )

    def peer(self) -> FreeRadius:
        """FreeRADIUS, serving."""
        say("FreeRADIUS: filling its database")
        server = FreeRadius(
            self.cluster("freeradius"), self.directory / "freeradius", self.plan.shape
        )
        self.stack.callback(server.stop)
        server.wait()
        return server

    def ours(self, shape: Shape, name: str = "Sky AAA", label: str = "main") -> Ours:
        """Our server on a fresh copy of a data set, serving; `label` names its files."""
        say(f"{name}: {shape.rates} rates, {shape.accounts} accounts")
        server = Ours(
            self.cluster("ours"),
            self.directory / "sky-aaa",
            shape,
            name=name,
            label=label,
            processes=self.plan.processes,
            wrap=self.plan.wrap,
            settings=self.plan.settings,
        )
        self.stack.callback(server.stop)
        server.wait()
        return server

    def servers(self) -> list[Server]:
        """The sides of the plan, serving."""
        made: list[Server] = []
        if "ours" in self.plan.sides:
            made.append(self.ours(self.plan.shape))
        if "freeradius" in self.plan.sides:
            made.append(self.peer())
        return made

    def side_by_side(self) -> Stage:
        """Every flow against every side, the sides in turn."""
        servers = self.servers()
        generator = self.generator(self.plan.shape)
        return self.stage("side by side", [(one, generator) for one in servers], self.plan.flows)

    def compared(self) -> Stage:
        """Whole calls and authorisations in worlds that differ in one respect each."""
        pairs: list[tuple[Server, Generator]] = []
        for number, variant in enumerate(variants(self.plan.shape)):
            server = self.ours(variant.shape, variant.title, f"variant{number}")
            generator = self.generator(variant.shape)
            if variant.calls_in_progress:
                generator.run(
                    server,
                    FLOWS["auth"],
                    seconds=IN_PROGRESS_SECONDS_MAX,
                    outstanding=self.plan.outstanding,
                    calls=variant.calls_in_progress,
                )
            pairs.append((server, generator))
        return self.stage("variants", pairs, (FLOWS["call"], FLOWS["auth"]))

    def routing(self) -> Stage:
        """Authorisations and whole calls with few and with many providers to choose from."""
        pairs: list[tuple[Server, Generator]] = []
        notes = []
        for providers in PROVIDERS:
            shape = self.plan.shape._replace(carriers=providers, carrier_rates=PROVIDER_RATES)
            title = f"{providers} providers, {PROVIDER_RATES} rates each"
            began = time.monotonic()
            server = self.ours(shape, title, f"lcr{providers}")
            notes.append(f"{title}: ready after {time.monotonic() - began:.0f} s")
            pairs.append((server, self.generator(shape)))
        flows = [FLOWS["call"], FLOWS["auth"]]
        stage = self.stage("least-cost routing", pairs, flows)
        few, many = (
            next(one for one in stage.medians() if one.flow == "auth" and one.target == server.name)
            for server, _ in pairs
        )
        ratio = (many.server_us + many.postgres_us) / (few.server_us + few.postgres_us)
        notes.append(
            f"an authorisation with {PROVIDERS[1]} providers costs {ratio:.2f} times the CPU time "
            f"of one with {PROVIDERS[0]}"
        )
        stage.notes += notes
        return stage

    def importing(self) -> Stage:
        """A big rate sheet is imported while whole calls come in an open loop."""
        stage = Stage("import while serving")
        server = self.ours(self.plan.shape, f"{IMPORTED} rates imported", "importing")
        generator = self.generator(self.plan.shape)
        sheet = self.directory / "rates.csv"
        dataset.rate_sheet(sheet, IMPORTED)
        flow = next((one for one in self.plan.flows if one.rate), FLOWS["open"])
        began = time.monotonic()
        child = server.command("import-rates", str(sheet), "--resource-group", "RG_22")
        self.stack.callback(child.stop)
        ended: list[float] = []
        waiting = Thread(target=lambda: ended.append(child.ended_at()), daemon=True)
        waiting.start()
        one = generator.run(server, flow, seconds=IMPORT_SECONDS, outstanding=0)
        say(described(one, 0))
        stage.measured.append(one)
        waiting.join(IMPORT_SECONDS)
        if ended and child.process.returncode == 0:
            stage.notes.append(f"{IMPORTED} rates were imported in {ended[0] - began:.1f} s")
        else:
            stage.faults.append(f"import-rates did not end well: {child.tail()}")
        self.prove(stage, server, one.calls_done)
        return stage

    def stage(
        self, title: str, pairs: Sequence[tuple[Server, Generator]], flows: Sequence[Flow]
    ) -> Stage:
        """Measures, proves, and stops the servers."""
        stage = Stage(title)
        closed: Counter[str] = Counter()
        for flow in sorted(flows, key=leaves_calls_open):
            for number in range(self.plan.rounds):
                # Each begins a round in its turn.
                turn = number % len(pairs)
                for server, generator in (*pairs[turn:], *pairs[:turn]):
                    one = self.measure(server, generator, flow, number, closed)
                    stage.measured.append(one)
                    say(described(one, number))
        for server, _ in pairs:
            self.prove(stage, server, closed[server.name])
        return stage

    def prove(self, stage: Stage, server: Server, closed: int) -> None:
        """Every acknowledged Stop is stored and the books balance; then the server stops."""
        say(f"{server.name}: proving what it has stored")
        stage.memory_bytes[server.name] = server.memory_bytes()
        found = list(server.check())
        stored = server.stored()
        if stored < closed:
            found.append(f"{closed} calls were acknowledged, {stored} are stored")
        stage.faults += [f"{server.name}: {fault}" for fault in found]
        server.stop()
        if not found:  # else it stays for whoever looks into it
            server.cluster.drop(server.database)

    def measure(
        self, server: Server, generator: Generator, flow: Flow, number: int, closed: Counter[str]
    ) -> Measured:
        """A run on a quiet machine, if there is one before patience ends."""
        deadline = time.monotonic() + self.plan.patience_seconds
        while True:
            await_quiet(deadline)
            one = self.attempt(server, generator, flow, number, closed)
            if one.others_cores <= OTHERS_CORES_MAX or time.monotonic() > deadline:
                return one

    def attempt(
        self, server: Server, generator: Generator, flow: Flow, number: int, closed: Counter[str]
    ) -> Measured:
        """A warm-up that is not counted, then the run; adds the calls that were closed."""
        results = [
            generator.run(
                server, flow, seconds=seconds, outstanding=self.plan.outstanding, seed=seed
            )
            for seconds, seed in (
                (self.plan.warm_seconds, 2 * number),
                (self.plan.seconds, 2 * number + 1),
            )
            if seconds
        ]
        if "stop" in flow.steps:
            closed[server.name] += sum(one.calls_done for one in results)
        return results[-1]


def await_quiet(deadline: float) -> None:
    """Returns when nobody has used the machine for a second, or at `deadline`."""
    while time.monotonic() < deadline:
        before = busy_seconds()
        time.sleep(1)
        if busy_seconds() - before <= OTHERS_CORES_MAX:
            return


def leaves_calls_open(flow: Flow) -> bool:
    """Such flows are measured last: the others would find their calls in the way."""
    return "stop" not in flow.steps


def described(one: Measured, number: int) -> str:
    """One line of progress."""
    return (
        f"{one.flow:5} {one.target:34} round {number + 1}: {one.requests_per_second:8.0f}/s"
        f"  p50 {one.p50_ms:6.2f}  p99 {one.p99_ms:6.2f} ms"
        f"  CPU {one.server_us:4.0f} + {one.postgres_us:4.0f} µs"
        f"  batch {one.batch_mean:5.1f}  others {one.others_cores:.2f}  {'; '.join(one.faults)}"
    )


def say(text: str) -> None:
    """Progress, on stderr."""
    print(text, file=sys.stderr, flush=True)


def surroundings(plan: Plan) -> dict[str, str]:
    """The machine and the versions, for whoever compares figures later."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    commit = subprocess.run(
        ["git", "-C", ROOT, "describe", "--always", "--dirty"],
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    found = {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "cpu": f"{os.cpu_count()} × {model}",
        "kernel": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "commit": commit or "unknown",
        "load before": f"{os.getloadavg()[0]:.2f}",
    }
    if "freeradius" in plan.sides:
        found["peer"] = freeradius.version()
    return found
