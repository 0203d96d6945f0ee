"""Stories of calls and money in the domain's own words, played on a real PostgreSQL.

    rate      retail 44  0.60 60/6              a row of a rate group (made when first named)
    cost      RG_21  44  0.30 60/60             a termination rate (RG and provider likewise)
    account   acme   1.00  retail north         code, balance, rate group, reseller
    authorize s1 acme 442071838750  -> granted 96s
    stop      s1 61s                -> cost 0.660000
    balance   acme                  -> 0.340000 reserved 0.000000

What follows `->` is expected. Words like `postpaid`, `limit=10.00` or `currency=EUR` come
after the positional ones. `at 2026-01-01T00:00:00Z` sets the clock, `after 5s` moves it.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from psycopg2 import sql

from aaa_server.charging.ledger import Policy
from aaa_server.charging.requests import (
    Authenticate,
    Authorize,
    ChargingAnswer,
    ChargingRequest,
    Expire,
    Granted,
    Known,
    Noted,
    Origin,
    Pap,
    Reauthorize,
    Reboot,
    Refused,
    Rerate,
    Rerated,
    Settled,
    Start,
    Stop,
    Update,
)
from aaa_server.online_charging import Line, charge
from aaa_server.rating.money import (
    format_micros,
    parse_exchange,
    parse_micros,
    parse_nanos,
    parse_percent_ppm,
)
from aaa_server.storage.accounts import have_numbers_read_again
from aaa_server.storage.catalogue import CatalogueHolder
from aaa_server.storage.charging import ChargingStore
from aaa_server.storage.plain import finished, in_transaction, prepare

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection

BEGINNING = datetime(2026, 1, 15, 12, 0, tzinfo=UTC)
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
CLIENT = 1


class Books:
    """The charging core on one connection: batches in, answers out."""

    def __init__(self, connection: Connection, policy: Policy | None = None) -> None:
        self.connection = connection
        self._in_transaction = in_transaction(connection)
        self._line = Line()
        self._store = ChargingStore(
            catalogue=CatalogueHolder(),
            policy=policy or Policy(),
            unseal=lambda sealed, _row, _column: sealed,
        )
        prepare(connection)
        connection.commit()

    def decide(self, batch: list[ChargingRequest]) -> list[ChargingAnswer]:
        """One committed batch."""
        return finished(charge(batch, self._store, self._in_transaction, self._line))


def seconds_of(word: str) -> int:
    return int(word.removesuffix("s"))


class Scenario:
    """Plays lines; `check` raises AssertionError naming the line whose outcome differs."""

    def __init__(
        self, connection: Connection, *, policy: Policy | None = None, slice_seconds: int = 0
    ) -> None:
        self.connection = connection
        self.books = Books(connection, policy)
        self.now = BEGINNING
        self.slice_seconds = slice_seconds
        self._ids: dict[tuple[str, str], int] = {}
        self._last_step: dict[str, int] = {}
        self.admin_id = self._admin()

    def check(self, text: str) -> None:
        for line in text.strip().splitlines():
            words, _, expected = line.partition("#")[0].partition("->")
            if not words.strip():
                continue
            verb, *arguments = words.split()
            outcome = getattr(self, f"do_{verb.replace('-', '_')}")(*_split_options(arguments))
            if expected.strip():
                assert outcome == " ".join(expected.split()), f"{line.strip()}\n  got: {outcome}"

    # ------------------------------------------------------------------ the world

    def query(self, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
        with self.connection.cursor() as cursor:
            cursor.execute(statement, parameters)
            rows = cursor.fetchall() if cursor.description is not None else []
        self.connection.commit()
        return rows

    def _admin(self) -> int:
        rows = self.query("SELECT account_id FROM account WHERE kind = 'admin'")
        if not rows:
            rows = self.query(
                "INSERT INTO account (code, kind, prepaid, currency)"
                " VALUES ('admin', 'admin', false, 'USD') RETURNING account_id"
            )
        return int(rows[0][0])

    def do_at(self, arguments: list[str], _options: dict[str, str]) -> str:
        self.now = datetime.fromisoformat(arguments[0])
        return ""

    def do_after(self, arguments: list[str], _options: dict[str, str]) -> str:
        self.now += timedelta(seconds=seconds_of(arguments[0]))
        return ""

    def account_id(self, code: str) -> int:
        return self._ids["account", code]

    def group_id(self, name: str, currency: str = "USD") -> int:
        key = ("group", name)
        if key not in self._ids:
            tariff = self._tariff(name, currency)
            self._ids[key] = self.query(
                "INSERT INTO rate_group (owner_id, name, tariff_id)"
                " VALUES (%s, %s, %s) RETURNING rate_group_id",
                *(self.admin_id, name, tariff),
            )[0][0]
        return self._ids[key]

    def _tariff(self, name: str, currency: str) -> int:
        tariff: int = self.query(
            "INSERT INTO tariff (currency) VALUES (%s) RETURNING tariff_id", currency
        )[0][0]
        self._ids["tariff", name] = tariff
        return tariff

    def do_group(self, arguments: list[str], options: dict[str, str]) -> str:
        group_id = self.group_id(arguments[0], options.get("currency", "USD"))
        if "markup" in options:
            markup = parse_percent_ppm(options["markup"])
            self.query(
                "UPDATE rate_group SET markup_ppm = %s WHERE rate_group_id = %s", markup, group_id
            )
        if "strategy" in options:
            self.query(
                "UPDATE rate_group SET strategy = %s WHERE rate_group_id = %s",
                *(options["strategy"], group_id),
            )
        return ""

    def do_rate(self, arguments: list[str], options: dict[str, str]) -> str:
        group, *row = arguments
        self.group_id(group)
        self._add_rate(self._ids["tariff", group], row, options)
        return ""

    def do_cost(self, arguments: list[str], options: dict[str, str]) -> str:
        name, *row = arguments
        self._resource_group(name, options)
        self._add_rate(self._ids["tariff", name], row, options)
        return ""

    def _add_rate(self, tariff_id: int, row: list[str], options: dict[str, str]) -> None:
        prefix, per_minute, blocks = (*row, "60/60")[:3]
        initial, increment = blocks.split("/")
        owner = self.account_id(options["own"]) if "own" in options else 0
        [(revision,)] = self.query(
            "UPDATE tariff SET revision = revision + 1 WHERE tariff_id = %s RETURNING revision",
            tariff_id,
        )
        self.query(
            "INSERT INTO rate (tariff_id, account_id, prefix, per_minute_nanos,"
            " connect_fee_micros, included_seconds, initial_seconds, increment_seconds,"
            " minimum_charge_micros, blocked, effective_from, effective_to, revision,"
            " resource_group_id) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
            *(tariff_id, owner, prefix, parse_nanos(per_minute)),
            parse_micros(options.get("connect", "0")),
            *(int(options.get("included", 0)), int(initial), int(increment)),
            parse_micros(options.get("minimum", "0")),
            "blocked" in options,
            options.get("from", LONG_AGO),
            options.get("to"),
            revision,
            self._ids.get(("resource", options.get("via", ""))),
        )

    def _resource_group(self, name: str, options: dict[str, str]) -> int:
        key = ("resource", name)
        if key not in self._ids:
            provider = options.get("provider", f"provider-{name}")
            if ("account", provider) not in self._ids:
                self._add_account(provider, "provider", self.admin_id, options)
            self._ids[key] = self.query(
                "INSERT INTO resource_group (name, direction, account_id, tariff_id, gateway)"
                " VALUES (%s, 'out', %s, %s, %s) RETURNING resource_group_id",
                *(name, self.account_id(provider)),
                *(self._tariff(name, options.get("currency", "USD")), f"gw/{provider}"),
            )[0][0]
        return self._ids[key]

    def do_attach(self, arguments: list[str], options: dict[str, str]) -> str:
        group, *names = arguments
        for name in names:
            self.query(
                "INSERT INTO rate_group_route (rate_group_id, resource_group_id, priority)"
                " VALUES (%s, %s, %s)",
                *(self.group_id(group), self._ids["resource", name]),
                int(options.get("priority", 0)),
            )
        return ""

    def do_limit(self, arguments: list[str], options: dict[str, str]) -> str:
        """Limit RG_21 calls=1 | limit acme channels=1 | limit acme cps=2."""
        name = arguments[0]
        if name.startswith("RG_"):
            self.query(
                "UPDATE resource_group SET max_calls = %s WHERE name = %s", options["calls"], name
            )
            return ""
        column = {"channels": "max_channels", "cps": "calls_per_second"}
        for word, value in options.items():
            self._set(name, column[word], value)
        return ""

    def do_inbound(self, arguments: list[str], options: dict[str, str]) -> str:
        """Inbound RG_11 acme network=192.0.2.0/24 port=5060 tech=99 status=suspended."""
        name, code = arguments
        [(group_id,)] = self.query(
            "INSERT INTO resource_group (name, direction, account_id, status)"
            " VALUES (%s, 'in', %s, %s) RETURNING resource_group_id",
            *(name, self.account_id(code), options.get("status", "active")),
        )
        if "network" in options:
            self.query(
                "INSERT INTO resource_group_endpoint VALUES (%s, %s, %s, %s)",
                *(group_id, options["network"], options.get("port", 0), options.get("tech", "")),
            )
        return ""

    def do_map(self, arguments: list[str], _options: dict[str, str]) -> str:
        kind, name, code = arguments
        if kind == "ani":
            self.query("INSERT INTO ani_map VALUES (%s, %s)", name, self.account_id(code))
        else:
            extension, _, domain = name.partition("@")
            self.query(
                "INSERT INTO extension_map VALUES (%s, %s, %s)",
                *(domain, extension, self.account_id(code)),
            )
        return ""

    def do_exchange(self, arguments: list[str], options: dict[str, str]) -> str:
        source, target, rate = arguments
        self.query(
            "INSERT INTO exchange_rate VALUES (%s, %s, %s, %s)",
            *(source, target, options.get("from", LONG_AGO), parse_exchange(rate)),
        )
        return ""

    def do_account(self, arguments: list[str], options: dict[str, str]) -> str:
        code, balance, group, parent = (*arguments, "")[:4]
        group = group.removeprefix("-")  # no rate group
        parent_id = self.account_id(parent) if parent else self.admin_id
        kind = options.get("kind", "customer")
        options["group"] = group
        self._add_account(code, kind, parent_id, options)
        self._pay(code, parse_micros(balance))
        return ""

    def _add_account(self, code: str, kind: str, parent_id: int, options: dict[str, str]) -> None:
        group = options.get("group", "")
        self._ids["account", code] = self.query(
            "INSERT INTO account (code, kind, parent_id, prepaid, currency, credit_limit_micros,"
            " rate_group_id, password_sealed, pin_sealed)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s) RETURNING account_id",
            *(code, kind, parent_id, "postpaid" not in options and kind != "provider"),
            options.get("currency", "USD"),
            parse_micros(options.get("limit", "0")),
            self.group_id(group) if group else None,
            options["password"].encode() if "password" in options else None,
            options["pin"].encode() if "pin" in options else None,
        )[0][0]

    def do_reseller(self, arguments: list[str], options: dict[str, str]) -> str:
        return self.do_account(arguments, {**options, "kind": "reseller"})

    def do_package(self, arguments: list[str], options: dict[str, str]) -> str:
        """Package acme minutes 600s prefixes=44,49 used=540s priority=1 to=…."""
        code, name, seconds = arguments
        [(package_id,)] = self.query(
            "INSERT INTO package (owner_id, name, currency, seconds)"
            " SELECT parent_id, %s, currency, %s FROM account WHERE account_id = %s"
            " RETURNING package_id",
            *(name, seconds_of(seconds), self.account_id(code)),
        )
        self.query(
            "INSERT INTO package_holding (account_id, package_id, prefixes, priority, valid_from,"
            " valid_to, granted_seconds, used_seconds) VALUES (%s, %s, %s, %s, %s, %s, %s, %s)",
            *(self.account_id(code), package_id, _list(options.get("prefixes", ""))),
            *(int(options.get("priority", 0)), LONG_AGO, options.get("to"), seconds_of(seconds)),
            seconds_of(options.get("used", "0s")),
        )
        return ""

    def do_used(self, arguments: list[str], _options: dict[str, str]) -> str:
        """Used acme minutes: seconds used and reserved of the package."""
        rows = self.query(
            "SELECT used_seconds, reserved_seconds FROM package_holding"
            " JOIN package USING (package_id) WHERE account_id = %s AND name = %s",
            *(self.account_id(arguments[0]), arguments[1]),
        )
        return " ".join(f"{used}s reserved {reserved}s" for used, reserved in rows)

    def do_cap(self, arguments: list[str], options: dict[str, str]) -> str:
        """Cap acme daily day calls=3 | seconds=600 | money=1.00, prefixes=44 alert."""
        code, name, period = arguments
        measure = next(word for word in ("calls", "seconds", "money") if word in options)
        value = options[measure]
        self.query(
            "INSERT INTO velocity_limit (account_id, name, period, measure, maximum, prefixes,"
            " action) VALUES (%s, %s, %s, %s, %s, %s, %s)",
            *(self.account_id(code), name, period, measure),
            parse_micros(value) if measure == "money" else int(value),
            _list(options.get("prefixes", "")),
            "alert" if "alert" in options else "block",
        )
        return ""

    def do_counted(self, arguments: list[str], _options: dict[str, str]) -> str:
        """What the newest period of a limit has counted."""
        rows = self.query(
            "SELECT amount FROM velocity_use JOIN velocity_limit USING (limit_id)"
            " WHERE name = %s ORDER BY period_from DESC LIMIT 1",
            arguments[0],
        )
        return str(rows[0][0]) if rows else "nothing"

    def do_events(self, arguments: list[str], _options: dict[str, str]) -> str:
        """How many events of each kind the account has."""
        rows = self.query(
            "SELECT kind, count(*) FROM event WHERE account_id = %s GROUP BY kind ORDER BY kind",
            self.account_id(arguments[0]),
        )
        return " ".join(f"{kind} {count}" for kind, count in rows) or "none"

    def do_did(self, arguments: list[str], options: dict[str, str]) -> str:
        """Did 34931 provider 0.004 1/1 [access]."""
        number, provider, per_minute, blocks = (*arguments, "60/60")[:4]
        if ("account", provider) not in self._ids:
            self._add_account(provider, "provider", self.admin_id, options)
        self.query(
            "INSERT INTO did (number, provider_id, per_minute_nanos, initial_seconds,"
            " increment_seconds, access) VALUES (%s, %s, %s, %s, %s, %s)",
            *(number, self.account_id(provider), parse_nanos(per_minute), *blocks.split("/")),
            "access" in options,
        )
        return ""

    def do_did_price(self, arguments: list[str], _options: dict[str, str]) -> str:
        number, code, per_minute, blocks = (*arguments, "60/60")[:4]
        self.query(
            "INSERT INTO did_price (did_id, account_id, per_minute_nanos, initial_seconds,"
            " increment_seconds) SELECT did_id, %s, %s, %s, %s FROM did WHERE number = %s",
            *(self.account_id(code), parse_nanos(per_minute), *blocks.split("/"), number),
        )
        return ""

    def do_assign(self, arguments: list[str], options: dict[str, str]) -> str:
        """Assign 34931 acme extension=1001@sip.example from=… to=…."""
        number, code = arguments
        kind = next(word for word in ("extension", "sip", "pstn") if word in options)
        self.query(
            "INSERT INTO did_assignment (did_id, account_id, valid_from, valid_to,"
            " destination_kind, destination)"
            " SELECT did_id, %s, %s, %s, %s, %s FROM did WHERE number = %s",
            *(self.account_id(code), options.get("from", LONG_AGO), options.get("to")),
            *(kind, options[kind], number),
        )
        return ""

    def do_rule(self, arguments: list[str], options: dict[str, str]) -> str:
        """Rule everybody | client | acme | RG_21, then prefix=0 strip=1 prepend=34 block caller."""
        owner = arguments[0]
        columns = {"client": CLIENT} if owner == "client" else {}
        account_id = self._ids.get(("account", owner))
        group_id = self._ids.get(("resource", owner))
        if owner == "client":
            self.query(
                "INSERT INTO client (client_id, name, network, type, secret_sealed,"
                " require_message_authenticator, limit_proxy_state, refuse_with)"
                " VALUES (%s, 'switch', '127.0.0.1', 'rfc', '', 'no', 'no', 'reject')"
                " ON CONFLICT DO NOTHING",
                CLIENT,
            )
        self.query(
            "INSERT INTO number_rule (client_id, account_id, resource_group_id, field, position,"
            " prefix, min_digits, max_digits, action, strip, prepend)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
            *(columns.get("client"), account_id, group_id),
            "caller" if "caller" in options else "called",
            *(int(options.get("position", 0)), options.get("prefix", "")),
            *(int(options.get("min", 1)), int(options.get("max", 32))),
            "block" if "block" in options else "translate",
            *(int(options.get("strip", 0)), options.get("prepend", "")),
        )
        return ""

    def do_suspend(self, arguments: list[str], _options: dict[str, str]) -> str:
        """Suspend a number that is called from outside."""
        self.query("UPDATE did SET status = 'suspended' WHERE number = %s", arguments[0])
        return ""

    def do_emergency(self, arguments: list[str], options: dict[str, str]) -> str:
        group_id = self._ids.get(("resource", options.get("route", "")))
        self.query(
            "INSERT INTO emergency_number (number, resource_group_id) VALUES (%s, %s)",
            *(arguments[0], group_id),
        )
        return ""

    def do_on_net(self, arguments: list[str], _options: dict[str, str]) -> str:
        """On-net retail 0.01: what calls to our own numbers cost."""
        self.query(
            "UPDATE rate_group SET on_net_per_minute_nanos = %s WHERE rate_group_id = %s",
            *(parse_nanos(arguments[1]), self.group_id(arguments[0])),
        )
        return ""

    def _pay(self, code: str, amount: int) -> None:
        if not amount:
            return
        [(transaction_id,)] = self.query("SELECT nextval('identifier_block')")
        account_id = self.account_id(code)
        self.query(
            "INSERT INTO ledger_transaction VALUES (%s, 'payment', %s, now())",
            *(transaction_id, f"{code}-{transaction_id}"),
        )
        self.query(
            "INSERT INTO posting SELECT %s, 0, account_id, %s, currency, %s, 'cash'"
            " FROM account WHERE account_id = %s",
            *(transaction_id, amount, self.admin_id, account_id),
        )
        self.query(
            "UPDATE account SET balance_micros = balance_micros + %s WHERE account_id = %s",
            *(amount, account_id),
        )

    def do_pay(self, arguments: list[str], _options: dict[str, str]) -> str:
        self._pay(arguments[0], parse_micros(arguments[1]))
        return ""

    def do_set(self, arguments: list[str], options: dict[str, str]) -> str:
        """Set acme status=suspended | expires_at=… | maximum_call_seconds=…."""
        for column, value in options.items():
            self._set(arguments[0], column, value)
        return ""

    def _set(self, code: str, column: str, value: str) -> None:
        statement = sql.SQL("UPDATE account SET {} = %s WHERE code = %s")
        with self.connection.cursor() as cursor:
            if column in ("status", "expires_at"):
                have_numbers_read_again(cursor, self.account_id(code))
            cursor.execute(statement.format(sql.Identifier(column)), (value, code))
        self.connection.commit()

    # ------------------------------------------------------------------ what is asked

    def ask(self, request: ChargingRequest) -> str:
        [answer] = self.books.decide([request])
        return said(answer)

    def authorization(self, arguments: list[str], options: dict[str, str]) -> Authorize:
        session, code, called = arguments
        return Authorize(
            client_id=int(options.get("client", CLIENT)),
            session_key=session,
            at=self.now,
            origin=_origin(code, options),
            called=called.removeprefix("-"),
            credential=_credential(options),
            wanted_route=options.get("route", ""),
            slice_seconds=int(options.get("slice", self.slice_seconds)),
            maximum_seconds=int(options.get("maximum", 7200)),
            access_number=options.get("access", ""),
        )

    def do_who(self, arguments: list[str], options: dict[str, str]) -> str:
        """Who 100200300 pin=1234 ani=… register."""
        return self.ask(
            Authenticate(
                self.now,
                _origin(arguments[0], options),
                _credential(options),
                trusted=True,
                register="register" in options,
                client_id=CLIENT,
            )
        )

    def do_authorize(self, arguments: list[str], options: dict[str, str]) -> str:
        return self.ask(self.authorization(arguments, options))

    def do_more(self, arguments: list[str], options: dict[str, str]) -> str:
        """More s1 60s step=2."""
        session, elapsed = arguments
        step = int(options["step"]) if "step" in options else None
        return self.ask(
            Reauthorize(
                CLIENT,
                session,
                self.now,
                seconds_of(elapsed),
                step,
                int(options.get("slice", self.slice_seconds)),
            )
        )

    def do_start(self, arguments: list[str], options: dict[str, str]) -> str:
        session, *rest = arguments
        origin, called = _accounting(rest, options)
        return self.ask(Start(CLIENT, session, self.now, origin, called, "forget" not in options))

    def do_update(self, arguments: list[str], options: dict[str, str]) -> str:
        session, seconds, *rest = arguments
        origin, called = _accounting(rest, options)
        return self.ask(Update(CLIENT, session, self.now, seconds_of(seconds), origin, called))

    def stop_request(self, arguments: list[str], options: dict[str, str]) -> Stop:
        session, duration, *rest = arguments
        origin, called = _accounting(rest, options)
        milliseconds = None if duration == "?" else _milliseconds(duration)
        return Stop(
            CLIENT,
            session,
            self.now,
            milliseconds,
            origin,
            called,
            "forget" not in options,
            route=options.get("route", ""),
            cause=options.get("cause", ""),
            ended_by=options.get("by", "stop"),
        )

    def do_stop(self, arguments: list[str], options: dict[str, str]) -> str:
        return self.ask(self.stop_request(arguments, options))

    def do_reboot(self, _arguments: list[str], options: dict[str, str]) -> str:
        return self.ask(Reboot(CLIENT, self.now, options.get("nas")))

    def do_expire(self, arguments: list[str], _options: dict[str, str]) -> str:
        return self.ask(Expire(CLIENT, arguments[0], self.now))

    def do_rerate(self, arguments: list[str], _options: dict[str, str]) -> str:
        """What each party was charged before, and is now."""
        [(client_id, call_id)] = self.query(
            "SELECT client_id, call_id FROM cdr WHERE session_key = %s", arguments[0]
        )
        [answer] = self.books.decide([Rerate(client_id, arguments[0], call_id, self.now)])
        assert isinstance(answer, Rerated)
        codes = {
            account_id: code for (kind, code), account_id in self._ids.items() if kind == "account"
        }
        return (
            answer.kept
            or " ".join(
                f"{codes[one.account_id]} {format_micros(one.before_micros)}"
                f" {format_micros(one.after_micros)}"
                for one in answer.changes
            )
            or "nothing"
        )

    # ------------------------------------------------------------------ what is seen

    def do_balance(self, arguments: list[str], _options: dict[str, str]) -> str:
        [(balance, reserved)] = self.query(
            "SELECT balance_micros, reserved_micros FROM account WHERE code = %s", arguments[0]
        )
        return f"{format_micros(balance)} reserved {format_micros(reserved)}"

    def do_charges(self, arguments: list[str], _options: dict[str, str]) -> str:
        rows = self.query(
            "SELECT account.code, sum(charge.amount_micros)::bigint FROM charge"
            " JOIN account USING (account_id) JOIN cdr USING (call_id)"
            " WHERE session_key = %s GROUP BY account.code, level"
            " HAVING count(*) = 1 OR sum(charge.amount_micros) <> 0 ORDER BY (level + 11) %% 11",
            arguments[0],
        )
        return " ".join(f"{code} {format_micros(amount)}" for code, amount in rows)

    def do_cdr(self, arguments: list[str], _options: dict[str, str]) -> str:
        """How many records, seconds charged, how it ended, flags."""
        rows = self.query(
            "SELECT seconds, ended_by, flags, refusal FROM cdr WHERE session_key = %s",
            arguments[0],
        )
        if len(rows) != 1:
            return f"{len(rows)} records"
        seconds, ended_by, flags, refusal = rows[0]
        return " ".join([f"{seconds}s", ended_by, *([refusal] if refusal else []), *flags])

    def do_call(self, arguments: list[str], _options: dict[str, str]) -> str:
        rows = self.query("SELECT status FROM call WHERE session_key = %s", arguments[0])
        return " ".join(status for (status,) in rows) or "none"


def said(answer: ChargingAnswer) -> str:
    """An answer in the words of scenarios."""
    if isinstance(answer, Granted):
        routes = "".join(f" {route.name}" for route in answer.routes)
        final = " final" if answer.final else ""
        return f"granted {answer.seconds}s{routes}{final}"
    if isinstance(answer, Known):
        return f"known {answer.account_code} {format_micros(answer.available_micros)}"
    if isinstance(answer, Refused):
        return f"refused {answer.reason.value}"
    if isinstance(answer, Settled):
        return f"cost {format_micros(answer.cost_micros)}"
    assert isinstance(answer, Noted)
    return f"closed {answer.closed}" if answer.closed else "noted"


def _milliseconds(word: str) -> int:
    if word.endswith("ms"):
        return int(word.removesuffix("ms"))
    return 1000 * seconds_of(word)


def _split_options(words: list[str]) -> tuple[list[str], dict[str, str]]:
    arguments, options = [], {}
    for word in words:
        name, is_option, value = word.partition("=")
        if is_option:
            options[name] = value
        elif re.fullmatch("postpaid|blocked|forget|alert|access|block|caller|register", word):
            options[word] = ""
        else:
            arguments.append(word)
    return arguments, options


def _origin(code: str, options: dict[str, str]) -> Origin:
    extension, _, domain = options.get("ext", "").partition("@")
    return Origin(
        account_code="" if code == "-" else code,
        extension=extension,
        domain=domain,
        ani=options.get("ani", ""),
        resource_group=options.get("rg", ""),
        address=options.get("address", ""),
        port=int(options.get("port", 0)),
        did=options.get("did", ""),
    )


def _credential(options: dict[str, str]) -> Pap | None:
    return Pap(options["pin"].encode()) if "pin" in options else None


def _list(words: str) -> list[str]:
    return [word for word in words.split(",") if word]


def _accounting(words: list[str], options: dict[str, str]) -> tuple[Origin, str]:
    code, called = (*words, "-", "")[:2]
    return _origin(code, options), called
