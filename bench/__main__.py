"""`python -m bench`: the load run beside FreeRADIUS, or parts of it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shlex
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console

from bench import report
from bench.dataset import Shape
from bench.load import FLOWS
from bench.ours import ROOT
from bench.process import Failed
from bench.run import STAGES, Bench, Plan, say, surroundings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

SIDES = {"both": ("ours", "freeradius"), "ours": ("ours",), "freeradius": ("freeradius",)}


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.argument("side", type=click.Choice(list(SIDES)), default="both")
@click.option("--quick", is_flag=True, help="Three seconds a run, sides only: two minutes.")
@click.option(
    "--flow", "flows", type=click.Choice(list(FLOWS)), multiple=True, help="Only this one."
)
@click.option("-t", "--seconds", type=click.FloatRange(0.1, 600), help="A run. [10; quick: 3]")
@click.option("-c", "--outstanding", type=click.IntRange(1, 4096), default=64, help="Closed loop.")
@click.option("-r", "--rate", type=click.IntRange(1, 20_000), default=1000, help="Open: calls/s.")
@click.option("--rounds", type=click.IntRange(1, 99), help="Runs of a median. [3; one side: 1]")
@click.option("--patience", type=click.FloatRange(0), default=0, help="Seconds for a quiet run.")
@click.option("--rates", type=click.IntRange(1), default=Shape().rates, help="Rate rows.")
@click.option("--accounts", type=click.IntRange(1), default=Shape().accounts, help="Customers.")
@click.option("--one-reseller", is_flag=True, help="One reseller above all customers.")
@click.option("--stage", "stages", type=click.Choice(STAGES), multiple=True, help="Only this one.")
@click.option("--processes", type=click.IntRange(1, 64), default=1, help="Of our server.")
@click.option(
    "--set", "settings", multiple=True, metavar="SECTION.KEY=VALUE", help="Of our server."
)
@click.option("--wrap", default="", metavar="COMMAND", help="Runs our server: python -m cProfile …")
@click.option("--hold", is_flag=True, help="Serve until Ctrl-C, measure nothing.")
@click.option("--directory", type=click.Path(path_type=Path), help="Data sets, logs, results.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Results go there too.")
def main(
    side: str,
    quick: bool,
    flows: tuple[str, ...],
    seconds: float | None,
    outstanding: int,
    rate: int,
    rounds: int | None,
    patience: float,
    rates: int,
    accounts: int,
    one_reseller: bool,
    stages: tuple[str, ...],
    processes: int,
    settings: tuple[str, ...],
    wrap: str,
    hold: bool,
    directory: Path | None,
    json_file: Path | None,
) -> None:
    """Load on our server and on FreeRADIUS with rlm_sql_postgresql, in turn.

    SIDE is both, ours or freeradius. The same packets go to both, over the loopback
    address, each on a PostgreSQL of its own with the same binaries and settings. Exit 1
    when a figure is not valid: a call was refused or lost, a reply was badly signed, or the
    books do not balance.
    """
    length = seconds or (3.0 if quick else 10.0)
    plan = Plan(
        sides=SIDES[side],
        flows=tuple(
            flow._replace(rate=rate) if flow.rate else flow
            for flow in FLOWS.values()
            if flow.name in flows or not flows
        ),
        outstanding=outstanding,
        seconds=length,
        warm_seconds=min(length / 2, 2.0),
        rounds=rounds or (3 if side == "both" else 1),
        patience_seconds=patience,
        shape=Shape(accounts, rates, one_reseller),
        stages=stages or (("sides",) if quick or flows or side != "both" else STAGES),
        processes=processes,
        wrap=tuple(shlex.split(wrap)),
        settings=dict(given(setting) for setting in settings),
    )
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, ended)
    try:
        with locked(directory or default_directory()) as place:
            valid = held(plan, place) if hold else measured(plan, place, json_file)
    except Failed as error:
        say(f"bench: {error}")
        sys.exit(2)
    except KeyboardInterrupt:
        say("bench: interrupted, all stopped")
        sys.exit(130)
    sys.exit(0 if valid else 1)


def measured(plan: Plan, directory: Path, json_file: Path | None) -> bool:
    """Runs everything and writes the results; whether they are valid."""
    # Wide enough for the table where there is no terminal.
    console = Console(width=None if sys.stdout.isatty() else 160)
    around = surroundings(plan)
    stages = []
    with contextlib.ExitStack() as stack:
        for stage in Bench(plan, directory, stack).stages():
            stages.append(stage)
            report.show(console, stage)
    results = directory / "results.json"
    for path in filter(None, (results, json_file)):
        report.write_json(path, stages, around, plan)
    command = " ".join(["python -m bench", *map(shlex.quote, sys.argv[1:])])
    text = directory / "results.md"
    text.write_text(report.markdown(stages, around, command))
    say(f"written: {results}, {text}")
    return not any(report.every_fault(stage) for stage in stages)


def held(plan: Plan, directory: Path) -> bool:
    """Serves until Ctrl-C, for profilers and for loads by hand."""
    with contextlib.ExitStack() as stack:
        bench = Bench(plan, directory, stack)
        generator = bench.generator(plan.shape)
        for server in bench.servers():
            arguments = generator.arguments(
                server, plan.flows[0], seconds=plan.seconds, outstanding=plan.outstanding
            )
            say(f"{server.name}: process {server.child.pid}, log {server.child.log}")
            say(f"  database: {server.cluster.url(server.database)}")
            say(f"  load:     {shlex.join(arguments)}")
        say("Ctrl-C stops everything")
        while True:
            time.sleep(3600)


def given(setting: str) -> tuple[str, str]:
    """Name and value of "charging.batch_max=256"."""
    name, equals, value = setting.partition("=")
    if not equals or "." not in name:
        raise click.BadParameter(f"{setting!r} is not SECTION.KEY=VALUE", param_hint="--set")
    return name, value


def default_directory() -> Path:
    """Where an unprivileged PostgreSQL may work: root's project may be closed to it."""
    return Path("/var/lib/sky-aaa/bench") if os.geteuid() == 0 else ROOT / "var" / "bench"


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[Path]:
    """The directory, made when it is missing, for one bench at a time."""
    directory = directory.absolute()
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Failed(f"another bench runs in {directory}; --directory names another") from error
        yield directory


def ended(_signal: int, _frame: FrameType | None) -> None:
    """Ctrl-C and SIGTERM stop what was started, last first; asking twice changes nothing."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
