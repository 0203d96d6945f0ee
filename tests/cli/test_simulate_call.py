"""What simulate-call and route tell is what the server then does, and telling changes nothing."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from aaa_server.charging.ledger import Policy
from aaa_server.charging.requests import Authorize, Granted, Origin, Reauthorize, Refused, Stop
from aaa_server.online_charging import Line, charge
from aaa_server.radius.dialects.reply import RETURN_CODES, SIP_STATUSES
from aaa_server.storage.catalogue import CatalogueHolder
from aaa_server.storage.charging import ChargingStore
from aaa_server.storage.plain import finished, in_transaction, prepare

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection

    from aaa_server.charging.requests import ChargingAnswer, ChargingRequest
    from tests.cli.conftest import Sky

LONDON = "442071838750"
OUR_OWN = "442079460100"  # a number of the demo, that nora has
FREESWITCH = 1  # the demo's first client row


def all_rows(connection: Connection) -> dict[str, Any]:
    """Everything in the database, and where its sequences stand."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        names = [name for (name,) in cursor.fetchall()]
        found: dict[str, Any] = {}
        for name in names:
            cursor.execute(f"SELECT one::text FROM {name} AS one ORDER BY 1")  # noqa: S608
            found[name] = cursor.fetchall()
        cursor.execute("SELECT sequencename, last_value FROM pg_sequences ORDER BY 1")
        found["sequences"] = cursor.fetchall()
    connection.rollback()
    return found


class Server:
    """The charging core on a plain connection: what a server would answer and record."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        prepare(connection)
        self._in_transaction = in_transaction(connection)
        self._line = Line()
        self._store = ChargingStore(
            catalogue=CatalogueHolder(),
            policy=Policy(),
            unseal=lambda sealed, _row, _column: sealed,
        )

    def decide(self, *batch: ChargingRequest) -> list[ChargingAnswer]:
        return finished(charge(list(batch), self._store, self._in_transaction, self._line))

    def charges(self, session: str) -> dict[str, tuple[str, int]]:
        """Account and micros by level of the one call of this session."""
        with self._connection.cursor() as cursor:
            cursor.execute(
                "SELECT level, code, amount_micros FROM charge JOIN cdr USING (call_id)"
                " JOIN account ON account.account_id = charge.account_id WHERE session_key = %s",
                (session,),
            )
            rows = cursor.fetchall()
        return {
            "provider" if level < 0 else str(level): (code, micros) for level, code, micros in rows
        }


def authorize(code: str, called: str, *, slice_seconds: int = 0) -> Authorize:
    return Authorize(
        FREESWITCH,
        "real",
        datetime.now(UTC),
        Origin(account_code=code),
        called,
        slice_seconds=slice_seconds,
    )


def stop(seconds: int, route: str) -> Stop:
    return Stop(FREESWITCH, "real", datetime.now(UTC), 1000 * seconds, Origin(), "", route=route)


@pytest.mark.parametrize("code", ["alice", "bob", "nora", "cora", "carl", "7700123456", "single"])
@pytest.mark.parametrize("called", [LONDON, "5491155551234", "9018"])
def test_what_is_told_is_what_the_server_does(
    sky: Sky, demo_connection: Connection, code: str, called: str
) -> None:
    told = sky("-o", "json", "simulate-call", "--account", code, "--called", called,
               "--seconds", "61").json  # fmt: skip
    server = Server(demo_connection)
    [answer] = server.decide(authorize(code, called))
    assert isinstance(answer, Granted)
    assert told["seconds"] == answer.seconds
    assert told["credit_seconds"] == answer.credit_seconds
    assert told["final"] == answer.final
    offered = [(one["resource_group"], one["dial"]) for one in told["routes"] if one["place"]]
    assert offered == [(route.name, route.dial) for route in answer.routes]
    with demo_connection.cursor() as cursor:
        cursor.execute("SELECT reserved_micros FROM call WHERE session_key = 'real'")
        [(reserved,)] = cursor.fetchall()
    assert [micros(level["reserves"]) for level in told["levels"]] == reserved
    server.decide(stop(61, answer.routes[0].name))
    charged = {
        str(one["level"]): (one["account"], micros(one["amount"])) for one in told["charges"]
    }
    assert charged == server.charges("real")


def micros(text: str) -> int:
    return int(text.replace(".", ""))


@pytest.mark.parametrize(
    ("code", "called"),
    [
        ("empty", LONDON),
        ("suspended", LONDON),
        ("expired", LONDON),
        ("acme", LONDON),
        ("admin", LONDON),
        ("nobody", LONDON),
        ("alice", "9006"),
        ("alice", "0000"),
    ],
)
def test_a_refusal_is_told_with_its_reason_and_codes(
    sky: Sky, demo_connection: Connection, code: str, called: str
) -> None:
    words = ("simulate-call", "--account", code, "--called", called)
    ran = sky("-o", "json", *words, "--seconds", "9")
    assert ran.status == 0
    [answer] = Server(demo_connection).decide(authorize(code, called))
    assert isinstance(answer, Refused)
    told = ran.json
    assert told["answer"] == "refused"
    assert (told["reason"], told["text"]) == (answer.reason.value, answer.text)
    assert told["h323_return_code"] == RETURN_CODES[answer.reason]
    assert told["sip_status"] == SIP_STATUSES[answer.reason]
    assert told["charges"] == []
    text = sky(*words).out
    assert f"refused, {answer.reason.value}: {answer.text}; h323-return-code" in text


def test_nothing_is_touched(sky: Sky, demo_connection: Connection) -> None:
    before = all_rows(demo_connection)
    assert {"account", "rate", "call", "cdr", "sequences"} <= before.keys()
    for output in ("table", "json", "csv"):
        sky("-o", output, "simulate-call", "--account", "cora", "--called", LONDON,
            "--seconds", "61", "--client", "freeswitch")  # fmt: skip
        sky("--as", "north", "simulate-call", "--account", "nora", "--called", LONDON)
        sky("-o", output, "route", LONDON, "--account", "cora")
    assert all_rows(demo_connection) == before


def test_every_step_of_every_level_is_told(unchanged: Sky) -> None:
    ran = unchanged("simulate-call", "--ani", "999", "--extension", "2001@north.example",
                    "--called", "+44 20 7183-8750", "--seconds", "61")  # fmt: skip
    lines = [" ".join(line.split()) for line in ran.out.splitlines()]
    for line in (
        "account nora, found by the extension map",
        "level 0 nora customer, active",
        "20.000000 USD available: balance 20.000000 - reserved 0.000000 + credit limit 0.000000",
        "level 1 north reseller, active",
        "routes of rate group wholesale of north, strategy least-cost",
        "reserves 1.380000 USD of nora, the price of 7200 s",
        "answer granted 7200 s: the longest call allowed",
        "talk 61000 ms",
        "rounded once, half up: 0.007625 USD",
        "admin 0.002125 USD",
    ):
        assert line in lines, f"{line!r} is missing in\n{ran.out}"


def test_a_rule_that_finds_nobody_gives_way_to_the_next(unchanged: Sky) -> None:
    out = unchanged("simulate-call", "--ani", "999", "--extension", "7777", "--resource-group",
                    "11", "--called", LONDON).out  # fmt: skip
    assert "by extension: 7777 is nobody's" in out
    assert "by ani: 999 is nobody's" in out
    assert "noel, found by the inbound resource group" in out
    assert "RG_11, 0 channels in use, no limit" in out


def test_the_poorest_level_is_named(sky: Sky) -> None:
    sky("account", "set", "north", "--credit-limit", "0.01")
    words = ("simulate-call", "--account", "cora", "--called", LONDON)
    assert "granted 80 s: as long as the money of north lasts\n" in sky(*words).out
    # Whose it is, is nobody's business below.
    assert "granted 80 s\n" in sky("--as", "coast", *words).out


def test_a_client_s_slice_and_reply_are_told(sky: Sky) -> None:
    sky("client", "set", "freeswitch", "--slice-seconds", "60", "--maximum-call-seconds", "240")
    words = ("simulate-call", "--account", "alice", "--called", LONDON, "--client", "freeswitch")
    told = sky("-o", "json", *words, "--seconds", "300").json
    assert (told["seconds"], told["credit_seconds"], told["final"]) == (60, 240, False)
    assert told["more_seconds"] == 180
    assert told["flags"] == ["longer-than-granted"]
    reply = {one["attribute"]: one["value"] for one in told["reply"]}
    assert reply["Packet-Type"] == "Access-Accept"
    assert reply["Session-Timeout"] == "60"
    assert reply["Cisco-AVPair"].startswith("h323-ivr-in=ROUTES:RG_22=")
    out = sky(*words, "--seconds", "100").out
    assert "granted 60 s, a slice of 240 s: the longest call allowed" in out
    assert "asked again when the slice is over: granted 40 s" in out


def test_slices_are_charged_as_the_server_charges_them(
    sky: Sky, demo_connection: Connection
) -> None:
    sky("client", "set", "freeswitch", "--slice-seconds", "60")
    told = sky("-o", "json", "simulate-call", "--account", "cora", "--called", LONDON,
               "--client", "freeswitch", "--seconds", "130").json  # fmt: skip
    server = Server(demo_connection)
    now = datetime.now(UTC)
    [first] = server.decide(authorize("cora", LONDON, slice_seconds=60))
    assert isinstance(first, Granted)
    for step in (1, 2):
        server.decide(Reauthorize(FREESWITCH, "real", now, 60 * step, step, 60))
    server.decide(stop(130, first.routes[0].name))
    charged = {
        str(one["level"]): (one["account"], micros(one["amount"])) for one in told["charges"]
    }
    assert charged == server.charges("real")


def test_a_reseller_is_told_of_its_own_tree_alone(unchanged: Sky) -> None:
    words = ("simulate-call", "--account", "cora", "--called", LONDON, "--seconds", "61")
    told = unchanged("--as", "coast", "-o", "json", *words).json
    assert [level["account"] for level in told["levels"]] == ["cora", "coast"]
    assert [charge["account"] for charge in told["charges"]] == ["cora", "coast"]
    assert "routes" not in told
    everything = unchanged("--as", "coast", "-o", "json", *words).out
    everything += unchanged("--as", "coast", *words).out
    for secret in ("north ", '"north"', "wholesale of", "acme", "globex", "RG_2", "admin"):
        assert secret not in everything, secret
    told = unchanged("--as", "cora", "-o", "json", *words).json
    assert [level["account"] for level in told["levels"]] == ["cora"]


def test_who_is_outside_the_tree_is_as_unknown_as_nobody(unchanged: Sky) -> None:
    def told(*origin: str) -> tuple[int, str]:
        ran = unchanged("--as", "coast", "simulate-call", *origin, "--called", LONDON)
        assert ran.out == ""
        return ran.status, ran.err

    status, text = told("--account", "alice")
    assert status == 1
    assert told("--account", "nobody") == (1, text.replace("alice", "nobody"))
    assert told("--ani", "15551230001") == told("--ani", "999")
    assert told("--extension", "1001") == told("--extension", "999")
    assert told("--resource-group", "11") == told("--resource-group", "12")


def test_routes_and_clients_are_the_operator_s(unchanged: Sky) -> None:
    ran = unchanged("--as", "north", "route", LONDON, "--account", "nora")
    assert (ran.status, ran.out) == (1, "")
    assert "operator" in ran.err
    ran = unchanged("--as", "north", "simulate-call", "--account", "nora", "--called", LONDON,
                    "--client", "freeswitch")  # fmt: skip
    assert (ran.status, ran.out) == (1, "")


def test_rows_that_ended_long_ago_price_a_call_of_their_time(sky: Sky) -> None:
    sky("rate-group", "add", "old")
    sky("account", "set", "alice", "--rate-group", "old")
    sky("rate", "add", "44", "--rate-group", "old", "--per-minute", "0.60", "--initial-seconds",
        "1", "--increment-seconds", "1", "--from", "2021-01-01", "--to", "2022-01-01")  # fmt: skip
    sky("rate", "add", "44", "--rate-group", "old", "--per-minute", "0.90", "--from", "2022-01-01")

    def charged(at: str) -> Any:
        told = sky("-o", "json", "simulate-call", "--account", "alice", "--called", LONDON,
                   "--seconds", "60", "--at", at).json  # fmt: skip
        return [one["amount"] for one in told["charges"]] or told["reason"]

    assert charged("2021-06-01") == ["0.600000"]
    assert charged("2021-12-31T23:59:59Z") == ["0.600000"]
    assert charged("2022-01-01") == ["0.900000"]
    assert charged("2020-12-31") == "no-rate"


def test_an_account_s_own_row_is_told_as_its_own(sky: Sky) -> None:
    sky("rate", "add", "4420", "--rate-group", "retail", "--account", "alice",
        "--per-minute", "0.001")  # fmt: skip
    own = sky("-o", "json", "simulate-call", "--account", "alice", "--called", LONDON).json
    other = sky("-o", "json", "simulate-call", "--account", "bob", "--called", LONDON).json
    assert [one["levels"][0]["own_row"] for one in (own, other)] == [True, False]
    assert own["levels"][0]["price"]["per_minute"] == "0.0010"
    assert "alice's own row" in sky("simulate-call", "--account", "alice", "--called", LONDON).out


def test_route_names_the_order_and_why_each_other_is_out(sky: Sky) -> None:
    rows = sky("-o", "json", "route", LONDON, "--account", "cora").json
    assert [(row["place"], row["resource_group"], row["why"]) for row in rows] == [
        (1, "RG_22", "offered"),
        (2, "RG_21", "offered"),
    ]
    assert rows[0]["dial"] == f"sofia/gateway/globex/{LONDON}"
    assert [row["reference_cost"] for row in rows] == ["0.015000", "0.018000"]
    sky("resource-group", "set", "22", "--suspended")
    sky("resource-group", "add", "23", "--direction", "out", "--account", "acme")
    sky("rate-group", "attach", "wholesale", "23")
    rows = sky("-o", "json", "route", LONDON, "--account", "cora").json
    assert [(row["place"], row["resource_group"], row["why"]) for row in rows] == [
        (1, "RG_21", "offered"),
        (None, "RG_22", "suspended"),
        (None, "RG_23", "no termination rate for this number"),
    ]
    text = sky("simulate-call", "--account", "cora", "--called", LONDON).out
    assert "RG_22 of globex: suspended" in text


def test_without_routes_the_switch_routes_by_itself(sky: Sky) -> None:
    for name in ("21", "22"):
        sky("rate-group", "detach", "wholesale", name)
    ran = sky("route", LONDON, "--account", "cora")
    assert (ran.status, ran.out) == (0, "")
    assert "nothing is attached to rate group wholesale of north" in ran.err
    told = sky("-o", "json", "simulate-call", "--account", "cora", "--called", LONDON,
               "--seconds", "61").json  # fmt: skip
    assert told["answer"] == "granted"
    assert [one["level"] for one in told["charges"]] == [0, 1, 2]


def test_a_resource_group_that_is_named_takes_nothing_off_the_number(sky: Sky) -> None:
    sky("resource-group", "set", "11", "--endpoint", "192.0.2.11/32", "--tech-prefix", "99")
    told = sky("-o", "json", "simulate-call", "--resource-group", "11", "--called", LONDON).json
    assert (told["called"], told["resource_group_in"]) == (LONDON, "RG_11")


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("simulate-call", "--called", LONDON), "whose call?"),
        (("simulate-call", "--account", "alice", "--called", "abc"), "'abc' is no number"),
        (("simulate-call", "--account", "alice"), "--called"),
        (("route", "abc", "--account", "alice"), "'abc' is no number"),
        (("route", LONDON, "--account", "nobody"), "there is no account 'nobody'"),
        (("simulate-call", "--account", "a", "--called", LONDON, "--client", "x"), "'x'"),
    ],
)
def test_a_wrong_command_says_what_to_type(
    unchanged: Sky, words: tuple[str, ...], text: str
) -> None:
    ran = unchanged(*words)
    assert ran.status in (1, 2)
    assert text in ran.err
    assert ran.out == ""


def test_a_number_of_our_own_has_one_way_which_stays_inside(sky: Sky) -> None:
    words = ("-o", "json", "route", OUR_OWN, "--account", "alice")
    [row] = sky(*words).json
    assert (row["place"], row["resource_group"], row["why"]) == (
        1,
        "ON-NET",
        "a number of our own",
    )
    assert row["dial"].startswith("user/")
    assert row["provider"] is None
    sky("account", "suspend", "nora")
    [row] = sky(*words).json
    assert (row["place"], row["why"]) == (None, "the number called is out of service")
    told = sky("-o", "json", "simulate-call", "--account", "alice", "--called", OUR_OWN).json
    assert (told["answer"], told["reason"]) == ("refused", "no-route")
    assert [one["resource_group"] for one in told["routes"]] == ["ON-NET"]


def test_the_steps_name_the_number_as_the_rules_make_it_and_its_price(sky: Sky) -> None:
    sky("number-rule", "add", "--account", "alice", "--prefix", "0", "--strip", "1")
    text = sky("simulate-call", "--account", "alice", "--called", f"0{OUR_OWN}").out
    assert "ON-NET" in text
    assert "0.0020 USD a minute" in text
