"""What was measured, as a table, as Markdown and as JSON."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, NamedTuple

from rich.box import SIMPLE_HEAD
from rich.table import Table

from bench.load import FLOWS, OTHERS_CORES_MAX

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from rich.console import Console

    from bench.load import Measured
    from bench.run import Plan, Stage

OURS, PEER = "Sky AAA", "FreeRADIUS"
COLUMNS = (
    "flow", "server", "requests/s", "p50 ms", "p99 ms", "p99.9 ms", "CPU µs/request",
    "batch mean", "compared",
)  # fmt: skip


class Row(NamedTuple):
    """One line of the table, as text."""

    flow: str
    server: str
    rate: str
    p50: str
    p99: str
    p999: str
    cpu: str
    batch: str
    compared: str


def rows(stage: Stage) -> Iterator[Row]:
    """Flows in their own order, each with its servers as they were measured."""
    medians = stage.medians()
    order = list(FLOWS)
    for one in sorted(medians, key=lambda one: order.index(one.flow)):
        yield Row(
            flow=FLOWS[one.flow].title,
            server=one.target,
            rate=grouped(one.requests_per_second),
            p50=f"{one.p50_ms:.2f}",
            p99=f"{one.p99_ms:.2f}",
            p999=f"{one.p999_ms:.2f}",
            cpu=f"{one.server_us:.0f} + {one.postgres_us:.0f}",
            batch=f"{one.batch_mean:.0f}" if one.batch_mean else "",
            compared=compared(one, held_against(one, medians)),
        )


def held_against(one: Measured, medians: Sequence[Measured]) -> Measured | None:
    """The peer's figures for ours; the first variant's for the other variants."""
    same_flow = [other for other in medians if other.flow == one.flow]
    if one.target == PEER:
        return None
    if one.target == OURS:
        return next((other for other in same_flow if other.target == PEER), None)
    return same_flow[0] if same_flow[0] is not one else None


def compared(one: Measured, other: Measured | None) -> str:
    """Requests per second and p99 over the other's, "× 4.20, p99 × 0.31"."""
    if other is None or not other.requests_per_second or not other.p99_ms:
        return ""
    rate = one.requests_per_second / other.requests_per_second
    return f"× {rate:.2f}, p99 × {one.p99_ms / other.p99_ms:.2f}"


def grouped(number: float) -> str:
    """22 300: thousands apart."""
    return f"{number:,.0f}".replace(",", " ")


def show(console: Console, stage: Stage) -> None:
    """The table of one stage and all that spoils it."""
    table = Table(title=stage.title, title_justify="left", box=SIMPLE_HEAD)
    for number, column in enumerate(COLUMNS):
        table.add_column(column, justify="right" if number > 1 else "left", no_wrap=True)
    for row in rows(stage):
        table.add_row(*row)
    console.print(table)
    for name, octets in stage.memory_bytes.items():
        console.print(f"{name}: {octets / 1e6:.0f} MB in RAM at the end")
    for note in stage.notes:
        console.print(note, highlight=False)
    for one in disturbed(stage):
        console.print(one, style="yellow", highlight=False)
    for fault in every_fault(stage):
        console.print(f"NOT VALID: {fault}", style="bold red", highlight=False)


def every_fault(stage: Stage) -> list[str]:
    """Of all runs and of the proofs after them; empty when the figures may be believed."""
    return [
        *(f"{one.flow}, {one.target}: {fault}" for one in stage.measured for fault in one.faults),
        *stage.faults,
    ]


def disturbed(stage: Stage) -> list[str]:
    """Medians whose runs had to share the machine with others."""
    return [
        f"disturbed: others used up to {one.others_cores:.2f} cores in {one.flow}, {one.target}"
        for one in stage.medians()
        if one.others_cores > OTHERS_CORES_MAX
    ]


def markdown(stages: Sequence[Stage], surroundings: dict[str, str], command: str) -> str:
    """A block for docs/benchmarks.md."""
    lines = [", ".join(f"{name}: {value}" for name, value in surroundings.items()), ""]
    lines += [f"    {command}", ""]
    for stage in stages:
        lines += [f"**{stage.title}**", ""]
        lines.append("| " + " | ".join(COLUMNS) + " |")
        lines.append("|" + "---|" * 2 + "---:|" * (len(COLUMNS) - 2))
        lines += ["| " + " | ".join(row) + " |" for row in rows(stage)]
        lines.append("")
        memory = ", ".join(f"{name} {n / 1e6:.0f} MB" for name, n in stage.memory_bytes.items())
        lines += [f"Memory at the end: {memory}.", ""]
        lines += [*stage.notes, *disturbed(stage)]
        lines += [f"NOT VALID: {fault}" for fault in every_fault(stage)]
    return "\n".join(lines).rstrip() + "\n"


def write_json(
    path: Path, stages: Sequence[Stage], surroundings: dict[str, str], plan: Plan
) -> None:
    """Everything, radload's own reports included."""
    document = {
        "surroundings": surroundings,
        "plan": plan._asdict(),
        "stages": [
            {
                "title": stage.title,
                "faults": every_fault(stage),
                "notes": stage.notes,
                "memory_bytes": stage.memory_bytes,
                "medians": [dataclasses.asdict(one) for one in stage.medians()],
                "runs": [dataclasses.asdict(one) for one in stage.measured],
            }
            for stage in stages
        ],
    }
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
