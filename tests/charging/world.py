"""Random worlds, and streams of what may be asked and changed in them.

Everything has few values (eight calls, four numbers, a handful of accounts), so that
repeats, races for the last money and late messages are the rule and not the exception.
All row numbers are given, so two databases with one world have equal rows.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from hypothesis import strategies as st
from psycopg2 import sql
from psycopg2.extras import execute_values

from aaa_server.charging.ledger import Policy
from aaa_server.charging.requests import (
    Authenticate,
    Authorize,
    Chap,
    ChargingRequest,
    Expire,
    Origin,
    Pap,
    Reauthorize,
    Reboot,
    Start,
    Stop,
    Update,
)
from aaa_server.rating.lcr import STRATEGIES
from aaa_server.storage import payments, viewer
from aaa_server.storage.accounts import have_numbers_read_again

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hypothesis.vendor.pretty import RepresentationPrinter
    from psycopg2.extensions import cursor as Cursor

# Servers forget rate rows that ended weeks ago, so the streams begin at the next midnight.
BEGINNING = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)

ADMIN = 1
PROVIDERS = (2, 3)
RESELLERS = (11, 12, 13, 14, 15, 16, 17, 18, 19)
CUSTOMERS = (21, 22, 23)
PAYERS = RESELLERS + CUSTOMERS
CODES = {
    ADMIN: "admin",
    2: "carrier",
    3: "euro-carrier",
    11: "north",
    12: "south",
    13: "west",
    **{number: f"reseller{number}" for number in RESELLERS[3:]},
    21: "acme",
    22: "beta",
    23: "34911000001",  # a code that is a caller's number as well
}
ANIS = ("34911000001", "34911000002", "34911000003")
RATE_GROUPS = (1, 2, 3)
OUTBOUND = (1, 2, 3)  # RG_1 … RG_3
INBOUND = 4  # RG_4
GROUP_NAMES = {number: f"RG_{number}" for number in (*OUTBOUND, INBOUND)}
TARIFFS = (*RATE_GROUPS, 11, 12, 13)  # of rate groups, of outbound resource groups
PREFIXES = ("44", "4420", "449", "1")
EMERGENCY = "112"
DID = "442079460100"
NUMBERS = (
    *("442071838750", "4490123456", "12125551212", "99442071838750", "5511987654", ""),
    *(DID, DID),
)
TECH_PREFIX = "99"
PASSWORD = b"open sesame"
PIN = b"4711"
SESSIONS = ("a", "b", "c", "d", "it's {\\\"odd\\\"}, isn't it")
NAS_ADDRESSES = (None, "192.0.2.1", "2001:db8::1")
TABLES = (
    "event",
    "velocity_use",
    "velocity_limit",
    "package_holding",
    "package",
    "did_assignment",
    "did_price",
    "did",
    "emergency_number",
    "number_rule",
    "call",
    "cdr",
    "charge",
    "refund",
    "payment",
    "posting",
    "ledger_transaction",
    "ani_map",
    "extension_map",
    "rate",
    "rate_group_route",
    "resource_group_endpoint",
    "resource_group",
    "exchange_rate",
    "account",
    "rate_group",
    "tariff",
)


class Price(NamedTuple):
    """The columns of a rate row that are a price."""

    per_minute_nanos: int
    connect_fee_micros: int = 0
    included_seconds: int = 0
    initial_seconds: int = 60
    increment_seconds: int = 60
    minimum_charge_micros: int = 0


class Row(NamedTuple):
    """One rate row from long ago."""

    tariff_id: int
    account_id: int
    prefix: str
    price: Price
    blocked: bool


class AccountRow(NamedTuple):
    account_id: int
    kind: str
    parent_id: int
    prepaid: bool
    currency: str
    credit_limit_micros: int
    rate_group_id: int | None
    max_channels: int
    calls_per_second: int
    maximum_call_seconds: int | None
    password: bytes | None
    balance_micros: int
    pin: bytes | None = None


class Package(NamedTuple):
    """Seconds of an account for calls to one prefix ("": all); the first ones are used up."""

    account_id: int
    prefix: str
    seconds: int
    used: int


class Cap(NamedTuple):
    """A limit of calls, seconds or micros an hour."""

    account_id: int
    measure: str
    maximum: int
    action: str


class GroupRow(NamedTuple):
    """An outbound resource group; `attached` to these rate groups."""

    resource_group_id: int
    provider_id: int
    max_calls: int
    calls_per_second: int
    attached: tuple[int, ...]


class World(NamedTuple):
    currencies: dict[int, str]  # of tariffs
    exchanges: tuple[tuple[str, str, int], ...]
    markups: dict[int, int]
    strategies: dict[int, str]
    accounts: tuple[AccountRow, ...]
    groups: tuple[GroupRow, ...]
    inbound_id: int
    inbound_max_calls: int
    tech_prefix: str
    rows: tuple[Row, ...]
    policy: Policy
    packages: tuple[Package, ...] = ()
    caps: tuple[Cap, ...] = ()
    did_owner_id: int | None = None


class Change(NamedTuple):
    """What somebody else does to the database: one of `deeds`, with its arguments."""

    deed: str
    arguments: tuple[Any, ...]

    def apply(self, cursor: Cursor, at: datetime) -> None:
        globals()[f"_{self.deed}"](cursor, at, *self.arguments)


class Step(NamedTuple):
    """One thing that happens, `wait_ms` after the one before.

    For requests: it says its time `late_ms` too early, as a switch's clock may; `cut`
    begins a batch, which process `store` takes, and decides on what it had in memory
    before the step before happened when it is `racing`.
    """

    wait_ms: int
    late_ms: int
    cut: bool
    store: int
    racing: bool
    what: ChargingRequest | Change

    def __repr__(self) -> str:
        """What there is to know of it, on one line."""
        flags = "".join([" late" * bool(self.late_ms), " cut" * self.cut, " racing" * self.racing])
        if isinstance(self.what, Change):
            text = f"{self.what.deed} {self.what.arguments}"
        else:
            text = f"{type(self.what).__name__} {_said(self.what)}"
        return f"\n  <+{self.wait_ms}ms store {self.store}{flags}: {text}>"

    def _repr_pretty_(self, printer: RepresentationPrinter, _cycle: bool) -> None:
        """As hypothesis shows it when a test has failed."""
        printer.text(repr(self))


def _said(request: tuple[Any, ...]) -> str:
    """The fields of a request that are not what they are by default."""
    default = getattr(request, "_field_defaults", {})
    fields = zip(getattr(request, "_fields", ()), request, strict=True)
    said = [
        f"{name}=({_said(value)})" if isinstance(value, Origin) else f"{name}={value!r}"
        for name, value in fields
        if name != "at" and (name not in default or default[name] != value)
    ]
    return " ".join(said)


# ------------------------------------------------------------------ what may be drawn

CURRENCIES = st.sampled_from(["USD", "USD", "EUR"])
PRICES = st.sampled_from(
    [
        Price(600_000_000, initial_seconds=60, increment_seconds=6),
        Price(60_000_000, initial_seconds=1, increment_seconds=1),
        Price(600_000_000, initial_seconds=1, increment_seconds=1),
        Price(12_345, initial_seconds=30, increment_seconds=6),
        Price(0),
        Price(0, connect_fee_micros=50_000),
        Price(100_000_000, included_seconds=10, connect_fee_micros=10_000),
        Price(30_000_000, initial_seconds=0, increment_seconds=1, minimum_charge_micros=20_000),
    ]
)
SMALL_LIMITS = st.sampled_from([*[0] * 9, 1, 2, 3])


@st.composite
def accounts(draw: st.DrawFn) -> tuple[AccountRow, ...]:
    depth = draw(st.sampled_from([0, 1, 1, 2, 2, 3, len(RESELLERS)]))
    rows = []
    for number, account_id in enumerate(PAYERS):
        is_reseller = account_id in RESELLERS
        if is_reseller and number >= depth:
            continue
        above = [ADMIN, *RESELLERS[:depth]]
        parent = above[number] if is_reseller else draw(st.sampled_from(above[::-1]))
        prepaid = draw(st.booleans())
        rows.append(
            AccountRow(
                account_id,
                "reseller" if is_reseller else "customer",
                parent,
                prepaid,
                draw(CURRENCIES),
                0 if prepaid else draw(st.sampled_from([0, 100_000, 2_000_000])),
                draw(st.sampled_from([*[1] * 8, 2, 3, None])),
                draw(SMALL_LIMITS),
                draw(SMALL_LIMITS),
                draw(st.sampled_from([*[None] * 5, 90])),
                draw(st.sampled_from([*[None] * 5, PASSWORD])),
                draw(st.sampled_from([*[50_000_000] * 5, 1_000_000, 600_000, 10_000, 0])),
                draw(st.sampled_from([*[None] * 5, PIN])),
            )
        )
    return tuple(rows)


@st.composite
def groups(draw: st.DrawFn) -> tuple[GroupRow, ...]:
    count = draw(st.integers(0, len(OUTBOUND)))
    return tuple(
        GroupRow(
            number,
            draw(st.sampled_from(PROVIDERS)),
            draw(SMALL_LIMITS),
            draw(SMALL_LIMITS),
            tuple(sorted(draw(st.sets(st.sampled_from([1, 1, 1, 2, 3]))))),
        )
        for number in OUTBOUND[:count]
    )


@st.composite
def rate_rows(draw: st.DrawFn) -> tuple[Row, ...]:
    # Most numbers have a price: what is refused at once tries nothing further.
    rows = {
        (tariff_id, 0, "4"): Row(tariff_id, 0, "4", draw(PRICES), False) for tariff_id in TARIFFS
    }
    drawn = st.builds(
        Row,
        st.sampled_from(TARIFFS),
        st.sampled_from([0, 0, *CUSTOMERS, 11]),
        st.sampled_from(PREFIXES),
        PRICES,
        st.sampled_from([*[False] * 7, True]),
    )
    for row in draw(st.lists(drawn, max_size=6)):
        # A termination rate is nobody's own.
        owner = row.account_id if row.tariff_id in RATE_GROUPS else 0
        rows[row.tariff_id, owner, row.prefix] = row._replace(account_id=owner)
    return tuple(rows.values())


PACKAGES = st.builds(
    Package,
    st.sampled_from([*CUSTOMERS[:1] * 3, *PAYERS]),
    st.sampled_from(["", "44", "1"]),
    st.sampled_from([30, 90, 600]),
    st.sampled_from([0, 10]),
)
CAPS = st.builds(
    Cap,
    st.sampled_from([*CUSTOMERS[:1] * 3, *PAYERS]),
    st.sampled_from(["calls", "seconds", "money"]),
    st.sampled_from([1, 3, 90, 200, 600_000]),
    st.sampled_from(["block", "alert"]),
)


@st.composite
def worlds(draw: st.DrawFn) -> World:
    people = draw(accounts())
    return World(
        currencies={tariff_id: draw(CURRENCIES) for tariff_id in TARIFFS},
        exchanges=draw(
            st.sampled_from(
                [
                    (("USD", "EUR", 9_200_000_000),),
                    (("EUR", "USD", 10_869_565_217),),
                    (("USD", "EUR", 9_200_000_000), ("EUR", "USD", 11_000_000_000)),
                    (),
                ]
            )
        ),
        markups={number: draw(st.sampled_from([0, 0, 100_000])) for number in RATE_GROUPS},
        strategies={number: draw(st.sampled_from(sorted(STRATEGIES))) for number in RATE_GROUPS},
        accounts=people,
        groups=draw(groups()),
        inbound_id=draw(st.sampled_from([row.account_id for row in people])),
        inbound_max_calls=draw(SMALL_LIMITS),
        tech_prefix=draw(st.sampled_from(["", TECH_PREFIX])),
        rows=draw(rate_rows()),
        policy=Policy(
            grace_seconds=10,
            assume_lost=draw(st.sampled_from(["nothing", "slice"])),
            session_reuse_seconds=600,
            maximum_call_seconds=300,
            pin_failures_max=2,
            pin_lock_seconds=60,
        ),
        # In half of the worlds nobody is metered, so that memory is asked.
        packages=tuple(draw(st.lists(PACKAGES, max_size=3))) if draw(st.booleans()) else (),
        caps=tuple(draw(st.lists(CAPS, max_size=2))) if draw(st.booleans()) else (),
        did_owner_id=draw(st.sampled_from([None, *[row.account_id for row in people]])),
    )


ORIGINS = st.sampled_from(
    [
        *[Origin("acme")] * 30,
        *[Origin("beta")] * 8,
        *[Origin(CODES[account_id]) for account_id in PAYERS],
        Origin(),
        Origin("nobody"),
        Origin("admin"),
        Origin("carrier"),
        Origin(ANIS[0], ani=ANIS[0]),
        Origin(ANIS[1], ani=ANIS[1]),
        Origin(ani=ANIS[1]),
        Origin(ani=ANIS[2]),
        Origin(extension="100", domain="two.example"),
        Origin(extension="100"),
        Origin(extension="200"),
        Origin(resource_group="RG_4"),
        Origin(address="192.0.2.9", port=5060),
        Origin("acme", address="192.0.2.9"),
        *[Origin("acme", did=DID)] * 3,
        Origin(did="34932"),
    ]
)
CREDENTIALS = st.sampled_from(
    [
        *[None] * 12,
        Pap(PASSWORD),
        Pap(PIN),
        *[Pap(b"wrong")] * 2,
        Chap(7, hashlib.md5(b"\x07" + PASSWORD + b"challenge").digest(), b"challenge"),
    ]
)
CALLED = st.sampled_from([*NUMBERS[:1] * 16, *NUMBERS, EMERGENCY])
CLIENTS = st.sampled_from([*[1] * 7, 2])
KEYS = st.sampled_from(SESSIONS)
SECONDS = st.sampled_from([0, 1, 10, 30, 59, 60, 61, 90, 100, 310])
DURATIONS = st.sampled_from([0, 1, 999, 1000, 10_000, 60_000, 61_500, 63_001, 302_000, None])
TRUSTED = st.sampled_from([*[True] * 7, False])
ADDRESSES = st.sampled_from(NAS_ADDRESSES)
UNAUTHORIZED = st.sampled_from([True, True, False])
AT = st.just(BEGINNING)  # replaced when the stream is put together
# A clock of its own, ahead or behind; or none that it tells of.
SWITCH_AT = st.none() | st.integers(-600, 7200).map(
    lambda seconds: BEGINNING + timedelta(seconds=seconds)
)

AUTHORIZE = st.builds(
    Authorize,
    client_id=CLIENTS,
    session_key=KEYS,
    at=AT,
    origin=ORIGINS,
    called=CALLED,
    credential=CREDENTIALS,
    trusted=TRUSTED,
    wanted_route=st.sampled_from([*[""] * 12, "RG_1", "RG_2"]),
    slice_seconds=st.sampled_from([0, 30, 60]),
    maximum_seconds=st.sampled_from([300, 300, 100]),
    nas_address=ADDRESSES,
    sip_call_id=st.sampled_from(["", "call@host"]),
)
REAUTHORIZE = st.builds(
    Reauthorize,
    client_id=CLIENTS,
    session_key=KEYS,
    at=AT,
    elapsed_seconds=SECONDS,
    step=st.sampled_from([None, None, 1, 2, 3]),
    slice_seconds=st.sampled_from([0, 30, 60]),
    maximum_seconds=st.just(300),
)
START = st.builds(
    Start,
    client_id=CLIENTS,
    session_key=KEYS,
    at=AT,
    origin=ORIGINS,
    called=CALLED,
    unauthorized=UNAUTHORIZED,
    nas_address=ADDRESSES,
    sip_call_id=st.just("call@host"),
    switch_at=SWITCH_AT,
)
UPDATE = st.builds(
    Update,
    client_id=CLIENTS,
    session_key=KEYS,
    at=AT,
    seconds=SECONDS,
    origin=ORIGINS,
    called=CALLED,
    unauthorized=UNAUTHORIZED,
    nas_address=ADDRESSES,
)
STOP = st.builds(
    Stop,
    client_id=CLIENTS,
    session_key=KEYS,
    at=AT,
    duration_ms=DURATIONS,
    origin=ORIGINS,
    called=CALLED,
    unauthorized=UNAUTHORIZED,
    route=st.sampled_from(["", "", "RG_1", "RG_2", "RG_3", "RG_4", "RG_9", "gw/2/442071838750"]),
    cause=st.sampled_from(["", "NORMAL_CLEARING"]),
    ended_by=st.sampled_from(["stop", "stop", "end", "operator"]),
    nas_address=ADDRESSES,
    switch_at=SWITCH_AT,
)
REBOOT = st.builds(Reboot, client_id=CLIENTS, at=AT, nas_address=ADDRESSES)
EXPIRE = st.builds(Expire, client_id=CLIENTS, session_key=KEYS, at=AT)
AUTHENTICATE = st.builds(
    Authenticate, at=AT, origin=ORIGINS, credential=CREDENTIALS, trusted=TRUSTED
)

_PAYER = st.sampled_from(PAYERS)
_GROUP = st.sampled_from([*OUTBOUND, INBOUND])
CHANGES = st.one_of(
    st.builds(
        Change,
        st.just("top_up"),
        st.tuples(_PAYER, st.sampled_from([10_000, 600_000]), st.sampled_from("12345678")),
    ),
    st.builds(
        Change,
        st.just("set_account"),
        st.one_of(
            st.tuples(
                st.sampled_from([*PAYERS, *PROVIDERS]),
                st.just("status"),
                st.sampled_from([*["active"] * 4, "suspended", "closed"]),
            ),
            st.tuples(
                _PAYER, st.just("credit_limit_micros"), st.sampled_from([0, 600_000, 5_000_000])
            ),
            st.tuples(_PAYER, st.just("max_channels"), SMALL_LIMITS),
            st.tuples(_PAYER, st.just("rate_group_id"), st.sampled_from([*RATE_GROUPS, None])),
            st.tuples(
                _PAYER, st.just("password_sealed"), st.sampled_from([PASSWORD, b"new", None])
            ),
        ),
    ),
    st.builds(
        Change,
        st.just("new_rate"),
        st.tuples(
            st.sampled_from(TARIFFS),
            st.sampled_from([0, 0, 21]),
            st.sampled_from(["4", *PREFIXES]),
            PRICES,
            st.sampled_from([False, False, True]),
        ),
    ),
    st.builds(
        Change,
        st.just("set_group"),
        st.one_of(
            st.tuples(_GROUP, st.just("max_calls"), SMALL_LIMITS),
            st.tuples(_GROUP, st.just("status"), st.sampled_from(["active", "suspended"])),
        ),
    ),
    st.builds(
        Change,
        st.just("attach"),
        st.tuples(st.sampled_from(RATE_GROUPS), st.sampled_from(OUTBOUND)),
    ),
    st.builds(
        Change,
        st.just("detach"),
        st.tuples(st.sampled_from(RATE_GROUPS), st.sampled_from(OUTBOUND)),
    ),
    st.builds(Change, st.just("map_ani"), st.tuples(st.sampled_from(ANIS), _PAYER)),
    st.builds(
        Change,
        st.just("exchange"),
        st.just(("USD", "EUR", 12_000_000_000)) | st.just(("EUR", "USD", 8)),
    ),
)

# In these shares: `one_of` would draw each as often as every other.
_WHAT = st.sampled_from(
    [
        *[AUTHORIZE] * 10,
        *[STOP] * 6,
        *[REAUTHORIZE] * 5,
        *[UPDATE] * 3,
        *[START] * 3,
        *[EXPIRE] * 2,
        *[CHANGES] * 3,
        REBOOT,
        AUTHENTICATE,
    ]
).flatmap(lambda strategy: strategy)
_STEPS = st.builds(
    Step,
    wait_ms=st.sampled_from([*[0] * 8, 250, 1000, 1000, 10_000, 60_000, 60_000, 130_000, 700_000]),
    late_ms=st.sampled_from([*[0] * 10, 900, 1_500_000]),
    cut=st.sampled_from([False, False, True]),
    store=st.integers(0, 1),
    racing=st.sampled_from([False, False, False, True]),
    what=_WHAT,
)
# Lists of lists, since hypothesis draws few long lists.
STREAMS = st.lists(st.lists(_STEPS, min_size=1, max_size=8), min_size=1, max_size=10).map(
    lambda parts: [step for part in parts for step in part]
)


def timed(stream: Sequence[Step]) -> list[tuple[Step, datetime]]:
    """The steps with the time that each of them says, requests with it in them."""
    now = BEGINNING
    steps = []
    for step in stream:
        now += timedelta(milliseconds=step.wait_ms)
        at = now
        if not isinstance(step.what, Change):
            if not isinstance(step.what, Authorize | Reauthorize | Expire):
                at -= timedelta(milliseconds=step.late_ms)
            step = step._replace(what=step.what._replace(at=at))
            if step.late_ms and isinstance(step.what, Start | Update | Stop):
                step = step._replace(what=step.what._replace(switch_at=at))
        steps.append((step, at))
    return steps


# ------------------------------------------------------------------ into the database


def clear(cursor: Cursor) -> None:
    """Empty the database; triggers that forbid it, and foreign keys, do not count here."""
    cursor.execute("SET LOCAL session_replication_role = replica")
    for table in TABLES:
        cursor.execute(sql.SQL("DELETE FROM {}").format(sql.Identifier(table)))
    cursor.execute("UPDATE catalogue SET revision = 1")
    cursor.execute("SET LOCAL session_replication_role = origin")


def build(cursor: Cursor, world: World) -> None:
    """Fill the empty database with `world`."""
    _insert(
        cursor,
        "tariff",
        ("tariff_id", "currency", "revision"),
        [(tariff_id, world.currencies[tariff_id], 1) for tariff_id in TARIFFS],
    )
    parties = ("account_id", "code", "kind", "parent_id", "prepaid", "currency")
    _insert(cursor, "account", parties, [(ADMIN, "admin", "admin", None, False, "USD")])
    _insert(
        cursor,
        "account",
        parties,
        [
            (provider, CODES[provider], "provider", ADMIN, False, currency)
            for provider, currency in zip(PROVIDERS, ("USD", "EUR"), strict=True)
        ],
    )
    _insert(
        cursor,
        "rate_group",
        ("rate_group_id", "owner_id", "name", "tariff_id", "strategy", "markup_ppm",
         "on_net_per_minute_nanos"),
        [
            (
                number,
                ADMIN,
                f"group {number}",
                number,
                world.strategies[number],
                world.markups[number],
                300_000_000 if number == RATE_GROUPS[0] else None,
            )
            for number in RATE_GROUPS
        ],
    )  # fmt: skip
    _build_accounts(cursor, world)
    _build_groups(cursor, world)
    _insert(
        cursor,
        "exchange_rate",
        ("from_currency", "to_currency", "rate_e10", "effective_from"),
        [(*row, LONG_AGO) for row in world.exchanges],
    )
    _insert(
        cursor,
        "rate",
        ("rate_id", "tariff_id", "account_id", "prefix", *Price._fields, "blocked",
         "effective_from", "revision"),
        [
            (number, *row[:3], *row.price, row.blocked, LONG_AGO, 1)
            for number, row in enumerate(world.rows, start=1)
        ],
    )  # fmt: skip
    _build_services(cursor, world)


def _build_services(cursor: Cursor, world: World) -> None:
    people = {row.account_id for row in world.accounts}
    packages = [row for row in world.packages if row.account_id in people]
    _insert(
        cursor,
        "package",
        ("package_id", "owner_id", "name", "currency", "seconds"),
        [(number, ADMIN, f"package {number}", "USD", 1) for number, _ in enumerate(packages, 1)],
    )
    _insert(
        cursor,
        "package_holding",
        ("holding_id", "account_id", "package_id", "prefixes", "priority", "valid_from",
         "granted_seconds", "used_seconds"),
        [
            (number, row.account_id, number, [row.prefix] if row.prefix else [], number, LONG_AGO,
             row.seconds, row.used)
            for number, row in enumerate(packages, 1)
        ],
    )  # fmt: skip
    _insert(
        cursor,
        "velocity_limit",
        ("limit_id", "account_id", "name", "period", "measure", "maximum", "action"),
        [
            (number, row.account_id, f"cap {number}", "hour", row.measure, row.maximum, row.action)
            for number, row in enumerate(world.caps, 1)
            if row.account_id in people
        ],
    )
    _insert(cursor, "emergency_number", ("number",), [(EMERGENCY,)])
    if world.did_owner_id is not None:
        _insert(
            cursor,
            "did",
            ("did_id", "number", "provider_id", "per_minute_nanos"),
            [(1, DID, PROVIDERS[0], 60_000_000)],
        )
        _insert(
            cursor,
            "did_price",
            ("did_id", "account_id", "per_minute_nanos"),
            [(1, account_id, 600_000_000) for account_id in people],
        )
        _insert(
            cursor,
            "did_assignment",
            ("assignment_id", "did_id", "account_id", "valid_from", "destination_kind",
             "destination"),
            [(1, 1, world.did_owner_id, LONG_AGO, "extension", "1001@sip.example")],
        )  # fmt: skip


def _build_accounts(cursor: Cursor, world: World) -> None:
    # Row by row: the trigger that sets the chain looks at the parent's row.
    _insert(
        cursor,
        "account",
        ("account_id", "code", "kind", "parent_id", "prepaid", "currency", "credit_limit_micros",
         "rate_group_id", "max_channels", "calls_per_second", "maximum_call_seconds",
         "password_sealed", "balance_micros", "pin_sealed"),
        [(row.account_id, CODES[row.account_id], *row[1:]) for row in world.accounts],
    )  # fmt: skip
    paid = [row for row in world.accounts if row.balance_micros]
    _insert(
        cursor,
        "ledger_transaction",
        ("transaction_id", "kind", "reference", "at"),
        [(row.account_id, "payment", f"first {row.account_id}", LONG_AGO) for row in paid],
    )
    _insert(
        cursor,
        "posting",
        ("transaction_id", "position", "account_id", "amount_micros", "currency",
         "contra_account_id", "contra_book"),
        [
            (row.account_id, 0, row.account_id, row.balance_micros, row.currency, ADMIN, "cash")
            for row in paid
        ],
    )  # fmt: skip
    customers = [row.account_id for row in world.accounts if row.kind == "customer"]
    _insert(cursor, "ani_map", ("ani", "account_id"), [(ANIS[1], customers[0])])
    _insert(
        cursor,
        "extension_map",
        ("extension", "domain", "account_id"),
        [("100", "", customers[0]), ("100", "two.example", customers[-1])],
    )


def _build_groups(cursor: Cursor, world: World) -> None:
    columns = ("resource_group_id", "name", "direction", "account_id", "tariff_id", "gateway",
               "max_calls", "calls_per_second")  # fmt: skip
    inbound = (INBOUND, "RG_4", "in", world.inbound_id, None, "", world.inbound_max_calls, 0)
    _insert(
        cursor,
        "resource_group",
        columns,
        [
            inbound,
            *(
                (
                    row.resource_group_id,
                    GROUP_NAMES[row.resource_group_id],
                    "out",
                    row.provider_id,
                    10 + row.resource_group_id,
                    f"gw/{row.resource_group_id}",
                    row.max_calls,
                    row.calls_per_second,
                )
                for row in world.groups
            ),
        ],
    )
    _insert(
        cursor,
        "resource_group_endpoint",
        ("resource_group_id", "network", "tech_prefix"),
        [(INBOUND, "192.0.2.0/24", world.tech_prefix)],
    )
    _insert(
        cursor,
        "rate_group_route",
        ("rate_group_id", "resource_group_id"),
        [
            (rate_group_id, row.resource_group_id)
            for row in world.groups
            for rate_group_id in row.attached
        ],
    )


def _insert(
    cursor: Cursor, table: str, columns: Sequence[str], rows: Sequence[tuple[Any, ...]]
) -> None:
    statement = sql.SQL("INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE VALUES %s").format(
        sql.Identifier(table), sql.SQL(", ").join(map(sql.Identifier, columns))
    )
    if rows:
        execute_values(cursor, statement.as_string(cursor), rows, page_size=1000)


# ------------------------------------------------------------------ what somebody else does


def _top_up(cursor: Cursor, _at: datetime, account_id: int, micros: int, reference: str) -> None:
    cursor.execute("SELECT FROM account WHERE account_id = %s", (account_id,))
    if cursor.rowcount:
        payments.top_up(
            cursor,
            viewer.operator(cursor),
            CODES[account_id],
            micros,
            reference=f"{account_id} {micros} {reference}",
        )


def _set_account(
    cursor: Cursor, _at: datetime, account_id: int, column: str, value: object
) -> None:
    if column == "status":
        have_numbers_read_again(cursor, account_id)
    # A prepaid account has no credit limit.
    statement = sql.SQL("UPDATE account SET {} = %s WHERE account_id = %s{}").format(
        sql.Identifier(column),
        sql.SQL(" AND NOT prepaid" if column == "credit_limit_micros" else ""),
    )
    cursor.execute(statement, (value, account_id))


def _set_group(cursor: Cursor, _at: datetime, group_id: int, column: str, value: object) -> None:
    statement = sql.SQL("UPDATE resource_group SET {} = %s WHERE resource_group_id = %s")
    cursor.execute(statement.format(sql.Identifier(column)), (value, group_id))


def _new_rate(
    cursor: Cursor,
    at: datetime,
    tariff_id: int,
    account_id: int,
    prefix: str,
    price: Price,
    blocked: bool,
) -> None:
    if tariff_id not in RATE_GROUPS:
        account_id = 0
    cursor.execute("SELECT revision FROM tariff WHERE tariff_id = %s FOR UPDATE", (tariff_id,))
    [(revision,)] = cursor.fetchall()
    cursor.execute(
        "UPDATE rate SET effective_to = greatest(effective_from, %s), revision = %s"
        " WHERE tariff_id = %s AND account_id = %s AND prefix = %s AND effective_to IS NULL",
        (at, revision + 1, tariff_id, account_id, prefix),
    )
    cursor.execute("SELECT max(rate_id) + 1 FROM rate")
    [(rate_id,)] = cursor.fetchall()
    _insert(
        cursor,
        "rate",
        ("rate_id", "tariff_id", "account_id", "prefix", *Price._fields, "blocked",
         "effective_from", "revision"),
        [(rate_id, tariff_id, account_id, prefix, *price, blocked, at, revision + 1)],
    )  # fmt: skip
    cursor.execute(
        "UPDATE tariff SET revision = %s WHERE tariff_id = %s", (revision + 1, tariff_id)
    )


def _attach(cursor: Cursor, _at: datetime, rate_group_id: int, group_id: int) -> None:
    cursor.execute(
        "INSERT INTO rate_group_route (rate_group_id, resource_group_id)"
        " SELECT %s, resource_group_id FROM resource_group WHERE resource_group_id = %s"
        " ON CONFLICT DO NOTHING",
        (rate_group_id, group_id),
    )


def _detach(cursor: Cursor, _at: datetime, rate_group_id: int, group_id: int) -> None:
    cursor.execute(
        "DELETE FROM rate_group_route WHERE rate_group_id = %s AND resource_group_id = %s",
        (rate_group_id, group_id),
    )


def _map_ani(cursor: Cursor, _at: datetime, ani: str, account_id: int) -> None:
    cursor.execute(
        "INSERT INTO ani_map SELECT %s, account_id FROM account WHERE account_id = %s"
        " ON CONFLICT (ani) DO UPDATE SET account_id = EXCLUDED.account_id",
        (ani, account_id),
    )


def _exchange(cursor: Cursor, at: datetime, source: str, target: str, rate: int) -> None:
    cursor.execute(
        "INSERT INTO exchange_rate VALUES (%s, %s, %s, %s) ON CONFLICT DO NOTHING",
        (source, target, at, rate),
    )
