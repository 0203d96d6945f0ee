"""What must not be lost: records that no server has acknowledged, and the channels that run.

All of it is in memory too, and the journal is the same on disk. What a later record says as
well is not kept: an Interim-Update that waits goes when a newer one or the Stop of its call
comes. So there are about two records for a call, however long the servers are silent.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from twisted.logger import Logger

from aaa_server.switch_agent.leg import Leg, leg_of
from aaa_server.switch_agent.records import INTERIM, ON, START, STOP, Record, record_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from aaa_server.switch_agent.journal import Entry, Journal
    from aaa_server.switch_agent.records import Attributes

log = Logger()

# What a record takes in the journal, at most; the journal may be twice as long as what matters.
RECORD_OCTETS = 2_500
# Of the room for records so much is for ends of calls alone.
FOR_STOPS = 4


class Spool:
    """Records by number, in the order in which things happened, and legs by uuid.

    `ready` is called when a record may be sent. `core` is the switch's run that the legs belong
    to, `alive_us` the last moment at which the switch was known to run.
    """

    def __init__(self, journal: Callable[[Callable[[], Iterator[Entry]]], Journal]) -> None:
        self.records: dict[int, Record] = {}
        self.legs: dict[str, Leg] = {}
        self.core = ""
        self.alive_us = 0
        self.counts: Counter[str] = Counter()
        self.ready: Callable[[], None] = _nothing
        self.journal = journal(self._snapshot)
        self._latest: dict[str, int] = {}  # the waiting Interim-Update of a call
        self._number = 0
        self._records_max = 0

    def open(self, octets_max: int) -> None:
        """Read what an earlier run has left. Raises `SpoolInUse` or `OSError`."""
        self._records_max = max(1, octets_max // RECORD_OCTETS)
        for entry in self.journal.read():
            for what, value in entry.items():
                self._replay(what, value)

    def _replay(self, what: str, value: Any) -> None:
        if what == "record":
            record = record_of(value)
            self._keep(record)
            self._number = max(self._number, record.number)
        elif what == "done":
            self._forget_record(value)
        elif what == "number":
            self._number = max(self._number, value)
        elif what == "leg":
            self.legs[value["uuid"]] = leg_of(value)
        elif what == "gone":
            self.legs.pop(value, None)
        elif what == "core":
            self.core = value
        elif what == "alive":
            self.alive_us = max(self.alive_us, value)

    def _snapshot(self) -> Iterator[Entry]:
        yield {"number": self._number, "core": self.core, "alive": self.alive_us}
        for leg in self.legs.values():
            yield {"leg": leg.entry()}
        for record in self.records.values():
            yield {"record": record.entry()}

    # ------------------------------------------------------------------ records

    @property
    def full(self) -> bool:
        """Whether there is only room for ends of calls."""
        return len(self.records) >= self._records_max - self._records_max // FOR_STOPS

    def add(self, status: int, key: str, at: int, attributes: Attributes) -> None:
        """Have a record sent, as soon as it is on disk.

        When there is no room it is dropped: the beginning and the middle of calls first.
        """
        if len(self.records) >= self._records_max or (self.full and status in (START, INTERIM)):
            self.counts["dropped"] += 1
            if status in (STOP, ON):
                log.critical("The spool is full: a record of an end of a call is lost")
            return
        self._number += 1
        record = Record(self._number, status, key, at, attributes)
        self._keep(record)
        self.counts["records"] += 1

        def on_disk(_: None) -> None:
            record.durable = True
            self.ready()

        self.journal.append({"record": record.entry()}).addCallback(on_disk)

    def acknowledged(self, number: int) -> None:
        """A server has it."""
        if number in self.records:
            self._forget_record(number)
            self.journal.note({"done": number})

    def _keep(self, record: Record) -> None:
        if record.status in (INTERIM, STOP):
            before = self._latest.pop(record.key, None)
            if before is not None:
                self._forget_record(before)
        self.records[record.number] = record
        if record.status == INTERIM:
            self._latest[record.key] = record.number

    def _forget_record(self, number: int) -> None:
        record = self.records.pop(number, None)
        if record is not None and self._latest.get(record.key) == number:
            del self._latest[record.key]

    # ------------------------------------------------------------------ the switch

    def keep_leg(self, leg: Leg) -> None:
        """The channel runs, and this is known of it."""
        self.legs[leg.uuid] = leg
        self.journal.append({"leg": leg.entry()})

    def forget_leg(self, uuid: str) -> None:
        """The channel has ended; its record, where there is one, was added before."""
        if self.legs.pop(uuid, None) is not None:
            self.journal.append({"gone": uuid})

    def runs(self, core: str) -> None:
        """Another run of the switch."""
        self.core = core
        self.journal.append({"core": core})

    def alive(self, at_us: int) -> None:
        """The switch runs, and so do its channels that are known."""
        self.alive_us = max(self.alive_us, at_us)
        if self.legs:
            self.journal.append({"alive": self.alive_us})


def _nothing() -> None:
    """Nobody waits for records yet."""
