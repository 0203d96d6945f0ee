"""Who sees what: the one function, and the database behind it, which an attacker meets."""

from __future__ import annotations

import contextlib
from itertools import product
from typing import TYPE_CHECKING, Any

import psycopg2.errors
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aaa_server.storage import accounts, viewer
from aaa_server.storage.database import connect, transaction
from aaa_server.storage.problem import NotAllowed, NotFound
from aaa_server.storage.viewer import Deed, Viewer, may

if TYPE_CHECKING:
    from collections.abc import Iterator

    from psycopg2.extensions import connection as Connection
    from psycopg2.extensions import cursor as Cursor

    from tests.cli.conftest import Sky

DENIED = psycopg2.errors.InsufficientPrivilege

# Below the admin (0): by place, the parent's place; 0 is the admin.
TREES = st.lists(st.integers(0, 8), min_size=1, max_size=9).map(
    lambda parents: [min(parent, place) for place, parent in enumerate(parents)]
)


def enter(cursor: Cursor, code: str) -> Viewer:
    """The viewer's role, as every command with --as has it."""
    return viewer.enter(cursor, code)


@pytest.fixture
def attacker(demo_owner: Cursor) -> Cursor:
    """SQL as the reseller north, with nothing between it and the tables."""
    enter(demo_owner, "north")
    return demo_owner


def ask(cursor: Cursor, sql: str, parameters: Any = None) -> list[tuple[Any, ...]]:
    cursor.execute(sql, parameters)
    return cursor.fetchall() if cursor.description is not None else []


@contextlib.contextmanager
def denied(cursor: Cursor) -> Iterator[None]:
    """The database refuses; the attacker may try again."""
    cursor.execute("SAVEPOINT attempt")
    with pytest.raises(DENIED):
        yield
    cursor.execute("ROLLBACK TO SAVEPOINT attempt")


def owner_asks(url: str, sql: str) -> Any:
    with contextlib.closing(connect(url)) as connection, transaction(connection) as cursor:
        return ask(cursor, sql)


# ------------------------------------------------------------------ the one function


ADMIN = Viewer(1, "admin", "admin", ())
RESELLER = Viewer(20, "r", "reseller", (20,))
CUSTOMER = Viewer(30, "c", "customer", (30, 20))


@pytest.mark.parametrize(
    ("eyes", "deed", "chain", "expected"),
    [
        *((ADMIN, deed, chain, True) for deed, chain in product(Deed, [(), (20,), (30, 20)])),
        # Itself, its customer, its sub-reseller's customer.
        *((RESELLER, Deed.SEE, chain, True) for chain in [(20,), (30, 20), (50, 40, 20)]),
        # The operator's own things, a provider, another tree, what is above a sub-reseller.
        *((RESELLER, deed, chain, False) for deed, chain in product(Deed, [(), (2,), (31, 21)])),
        (Viewer(40, "s", "reseller", (40, 20)), Deed.SEE, (20,), False),
        (RESELLER, Deed.CHANGE, (20,), False),
        (RESELLER, Deed.CHANGE, (30, 20), True),
        (RESELLER, Deed.CHANGE, (50, 40, 20), True),
        (RESELLER, Deed.TOP_UP, (20,), False),
        (RESELLER, Deed.TOP_UP, (30, 20), True),
        (RESELLER, Deed.TOP_UP, (50, 40, 20), False),
        (RESELLER, Deed.SELL_TO, (20,), False),
        (RESELLER, Deed.SELL_TO, (30, 20), True),
        (RESELLER, Deed.SELL_TO, (50, 40, 20), False),
        (RESELLER, Deed.ADD_BELOW, (20,), True),
        (RESELLER, Deed.ADD_BELOW, (40, 20), True),
        (RESELLER, Deed.MAP, (50, 40, 20), True),
        (RESELLER, Deed.SET_PRICES, (20,), True),
        (RESELLER, Deed.SET_PRICES, (40, 20), False),
        (RESELLER, Deed.SELL_AS, (20,), True),
        (RESELLER, Deed.SELL_AS, (40, 20), False),
        (RESELLER, Deed.READ_PIN, (30, 20), True),
        (RESELLER, Deed.READ_PIN, (50, 40, 20), False),
        (CUSTOMER, Deed.SEE, (30, 20), True),
        (CUSTOMER, Deed.SEE, (20,), False),
        (RESELLER, Deed.MOVE_MONEY, (20,), False),
        (RESELLER, Deed.MOVE_MONEY, (30, 20), True),
        (RESELLER, Deed.MOVE_MONEY, (50, 40, 20), False),
        (RESELLER, Deed.REDEEM, (20,), True),
        (RESELLER, Deed.REDEEM, (30, 20), True),
        (RESELLER, Deed.REDEEM, (50, 40, 20), False),
        (RESELLER, Deed.ISSUE, (20,), True),
        (RESELLER, Deed.ISSUE, (30, 20), False),
        (CUSTOMER, Deed.REDEEM, (30, 20), True),
        (CUSTOMER, Deed.REDEEM, (31, 20), False),
        (RESELLER, Deed.SCHEDULE, (20,), True),
        (RESELLER, Deed.SCHEDULE, (30, 20), False),
        (CUSTOMER, Deed.SCHEDULE, (30, 20), True),
        (CUSTOMER, Deed.SCHEDULE, (20,), False),
        *(
            (CUSTOMER, deed, (30, 20), False)
            for deed in Deed
            if deed not in (Deed.SEE, Deed.REDEEM, Deed.SCHEDULE)
        ),
    ],
)
def test_the_one_function(eyes: Viewer, deed: Deed, chain: tuple[int, ...], expected: bool) -> None:
    assert may(eyes, deed, chain) is expected


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(parents=TREES)
def test_row_security_agrees_with_the_one_function(
    connection: Connection, parents: list[int]
) -> None:
    with connection.cursor() as cursor:
        new = accounts.NewAccount("admin", "admin", None, prepaid=False, currency="EUR")
        numbers = [accounts.add(cursor, new)]
        for place, parent in enumerate(parents):
            new = accounts.NewAccount(
                f"a{place}", "reseller", numbers[parent], prepaid=True, currency="EUR"
            )
            numbers.append(accounts.add(cursor, new))
        cursor.execute("SELECT code, chain FROM account")
        chains = {code: tuple(chain) for code, chain in cursor.fetchall()}
        for code in chains:
            if code == "admin":
                continue
            eyes = enter(cursor, code)
            seen = {row[0] for row in ask(cursor, "SELECT code FROM account")}
            assert seen == {other for other in chains if may(eyes, Deed.SEE, chains[other])}
            cursor.execute("UPDATE account SET name = 'x' RETURNING code")
            changed = {row[0] for row in cursor.fetchall()}
            assert changed == {other for other in chains if may(eyes, Deed.CHANGE, chains[other])}
            cursor.execute("SET LOCAL ROLE NONE")
    connection.rollback()


def test_a_provider_has_no_eyes_and_an_unknown_code_has_none(demo_connection: Connection) -> None:
    with transaction(demo_connection) as cursor:
        with pytest.raises(NotAllowed, match="acme is a provider"):
            enter(cursor, "acme")
        with pytest.raises(NotFound, match="nobody"):
            enter(cursor, "nobody")


def test_the_role_ends_with_the_transaction(demo_connection: Connection) -> None:
    with transaction(demo_connection) as cursor:
        enter(cursor, "north")
        assert ask(cursor, "SELECT current_user") == [("sky_aaa_viewer",)]
    with transaction(demo_connection) as cursor:
        assert ask(cursor, "SELECT current_user") != [("sky_aaa_viewer",)]
        assert ask(cursor, "SELECT viewer_id()") == [(None,)]


# ------------------------------------------------------------------ the attacker


def test_a_reseller_finds_its_tree_and_nothing_else(attacker: Cursor) -> None:
    codes = {row[0] for row in ask(attacker, "SELECT code FROM account")}
    assert codes == {"north", "coast", "nora", "noel", "cora", "carl"}


def test_without_a_viewer_the_role_sees_nothing(demo_owner: Cursor) -> None:
    demo_owner.execute("SET LOCAL ROLE sky_aaa_viewer")
    for table in ("account", "rate_group", "tariff", "rate", "ani_map", "charge", "posting"):
        demo_owner.execute(f"SELECT count(*) FROM {table}")  # noqa: S608 - the words above
        assert demo_owner.fetchone() == (0,)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM client",
        "SELECT secret_sealed FROM client",
        "SELECT password_sealed FROM account",
        "SELECT pin_sealed FROM account",
        "SELECT * FROM rate_group_route",
        "SELECT strategy FROM rate_group",
        "SELECT minimum_margin_ppm FROM rate_group",
        "SELECT gateway FROM resource_group",
        "SELECT tariff_id FROM resource_group",
        "SELECT routes FROM cdr",
        "SELECT levels FROM cdr",
        "SELECT party_id FROM cdr",
        "SELECT flags FROM cdr",
        "SELECT resource_group_out_id FROM cdr",
        "SELECT nas_address FROM cdr",
        "SELECT routes FROM call",
        "SELECT levels FROM call",
        "SELECT reserved_micros FROM call",
        "SELECT resource_group_out_id FROM call",
        "SELECT * FROM ledger_entry",
        "SELECT * FROM audit_log",
        "SELECT * FROM catalogue",
        "SELECT * FROM schema_migration",
    ],
)
def test_what_is_the_operators_cannot_be_read_at_all(attacker: Cursor, sql: str) -> None:
    with denied(attacker):
        attacker.execute(sql)


def test_no_outbound_resource_group_is_seen(attacker: Cursor) -> None:
    assert ask(attacker, "SELECT name FROM resource_group") == [("RG_11",)]
    assert len(ask(attacker, "SELECT network FROM resource_group_endpoint")) == 2


def test_the_only_prices_are_its_own_and_its_trees(attacker: Cursor) -> None:
    owned = {row[0] for row in ask(attacker, "SELECT name FROM rate_group")}
    assert owned == {"wholesale", "north-retail", "north-wholesale", "coast-retail"}
    lists = ask(attacker, "SELECT tariff_id, count(*) FROM rate GROUP BY tariff_id")
    assert len(lists) == 4
    assert ask(attacker, "SELECT count(*) FROM tariff") == [(4,)]


def test_another_accounts_own_row_in_its_price_list_is_not_seen(demo_owner: Cursor) -> None:
    demo_owner.execute(
        """
        INSERT INTO rate (tariff_id, account_id, prefix, per_minute_nanos, initial_seconds,
                          increment_seconds, effective_from, revision)
        SELECT tariff_id, account.account_id, '777', 1, 60, 60, now(), 2
          FROM rate_group
         CROSS JOIN account
         WHERE rate_group.name = 'wholesale'
           AND account.code IN ('alice', 'north')
        """
    )
    enter(demo_owner, "north")
    found = ask(
        demo_owner,
        "SELECT account.code FROM rate JOIN account USING (account_id) WHERE prefix = '777'",
    )
    assert found == [("north",)]
    demo_owner.execute("SELECT count(*) FROM rate WHERE prefix = '777'")
    assert demo_owner.fetchone() == (1,)


@pytest.mark.parametrize(
    "sql",
    [
        # Itself richer, or freer.
        "UPDATE account SET balance_micros = 1000000000 WHERE code = 'cora'",
        "UPDATE account SET reserved_micros = 0",
        "UPDATE account SET parent_id = 1 WHERE code = 'cora'",
        "UPDATE account SET kind = 'admin' WHERE code = 'coast'",
        "UPDATE account SET chain = '{}' WHERE code = 'coast'",
        # Money from nothing.
        "INSERT INTO ledger_transaction (transaction_id, kind, reference, at) "
        "VALUES (1, 'payment', 'x', now())",
        "INSERT INTO posting SELECT 1, 0, account_id, 5, 'USD', 1, 'cash' FROM account",
        "INSERT INTO charge SELECT 1, 0, account_id, 'USD', 0, 0, 1, '1' FROM account",
        "UPDATE cdr SET seconds = 0",
        "DELETE FROM call",
        "DELETE FROM account",
        "DELETE FROM audit_log",
        # Prices.
        "UPDATE rate SET per_minute_nanos = 0",
        "UPDATE rate_group SET owner_id = 1",
        "UPDATE rate_group SET tariff_id = 1",
        "UPDATE exchange_rate SET rate_e10 = 1",
        "INSERT INTO exchange_rate VALUES ('EUR', 'USD', now(), 1)",
        # The operator's switchboard.
        "INSERT INTO resource_group (name, direction, account_id) "
        "SELECT 'RG_99', 'in', account_id FROM account WHERE code = 'nora'",
        "INSERT INTO rate_group_route SELECT 1, 1, 0, 1",
        "UPDATE client_list SET revision = 0",
        "UPDATE catalogue SET revision = 0",
        "ALTER TABLE account DISABLE ROW LEVEL SECURITY",
        "DROP POLICY viewer_sees ON account",
        "CREATE TABLE public.mine (a integer)",
        "GRANT pg_read_all_data TO sky_aaa_viewer",
        # In another's name.
        "INSERT INTO audit_log (actor, acting_as_id, action, subject) VALUES ('me', 1, 'x', 'y')",
    ],
)
def test_what_a_viewer_must_not_write_is_refused(attacker: Cursor, sql: str) -> None:
    with denied(attacker):
        attacker.execute(sql)


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE account SET credit_limit_micros = 999 WHERE code = 'north'",
        "UPDATE account SET name = 'x' WHERE code IN ('alice', 'acme', 'admin')",
        "UPDATE rate_group SET markup_ppm = -999999 WHERE name = 'wholesale'",
        "UPDATE rate SET effective_to = now() WHERE tariff_id = "
        "(SELECT tariff_id FROM rate_group WHERE name = 'wholesale')",
        "UPDATE rate SET effective_to = now() WHERE tariff_id = "
        "(SELECT tariff_id FROM rate_group WHERE name = 'coast-retail')",
        "UPDATE tariff SET revision = 0 WHERE tariff_id = "
        "(SELECT tariff_id FROM rate_group WHERE name = 'wholesale')",
        "DELETE FROM ani_map WHERE ani = '15551230001'",
        "UPDATE ani_map SET account_id = account_id WHERE ani = '15551230001'",
    ],
)
def test_what_is_not_below_it_is_not_there_to_be_changed(attacker: Cursor, sql: str) -> None:
    attacker.execute(sql)
    assert attacker.rowcount == 0


def insert_account(cursor: Cursor, code: str, parent_id: int, rate_group_id: int | None) -> None:
    cursor.execute(
        """
        INSERT INTO account (code, kind, parent_id, prepaid, currency, rate_group_id)
        VALUES (%s, 'customer', %s, true, 'USD', %s)
        """,
        (code, parent_id, rate_group_id),
    )


def test_an_account_is_added_below_itself_only(attacker: Cursor, shared_demo_url: str) -> None:
    rows = owner_asks(shared_demo_url, "SELECT code, account_id FROM account")
    numbers = dict(rows)
    for parent in ("admin", "alice", "acme"):
        with denied(attacker):
            insert_account(attacker, f"below-{parent}", numbers[parent], None)
    insert_account(attacker, "below-coast", numbers["coast"], None)
    assert ("below-coast",) in ask(attacker, "SELECT code FROM account")


def test_the_refusal_says_nothing_about_the_other_trees_account(
    attacker: Cursor, shared_demo_url: str
) -> None:
    [(number,)] = owner_asks(shared_demo_url, "SELECT account_id FROM account WHERE code = 'acme'")
    texts = []
    for parent_id in (number, 987654):
        attacker.execute("SAVEPOINT attempt")
        with pytest.raises(DENIED) as refused:
            insert_account(attacker, "spy", parent_id, None)
        texts.append(str(refused.value))
        attacker.execute("ROLLBACK TO SAVEPOINT attempt")
    assert texts[0] == texts[1]
    assert "acme" not in texts[0]


def test_a_rate_group_of_another_owner_cannot_be_given(
    attacker: Cursor, shared_demo_url: str
) -> None:
    numbers = dict(owner_asks(shared_demo_url, "SELECT code, account_id FROM account"))
    groups = dict(owner_asks(shared_demo_url, "SELECT name, rate_group_id FROM rate_group"))
    for name in ("retail", "wholesale", "coast-retail"):
        with denied(attacker):
            insert_account(attacker, "x", numbers["north"], groups[name])
        with denied(attacker):
            attacker.execute(
                "UPDATE account SET rate_group_id = %s WHERE code = 'nora'", (groups[name],)
            )
    insert_account(attacker, "x", numbers["north"], groups["north-retail"])


def test_a_providers_price_list_cannot_be_claimed(attacker: Cursor, shared_demo_url: str) -> None:
    lists = owner_asks(
        shared_demo_url,
        "SELECT tariff_id FROM resource_group WHERE tariff_id IS NOT NULL"
        " UNION SELECT tariff_id FROM rate_group",
    )
    assert len(lists) == 7
    for (tariff_id,) in lists:
        attacker.execute("SAVEPOINT attempt")
        with pytest.raises((DENIED, psycopg2.errors.UniqueViolation)):
            attacker.execute(
                "INSERT INTO rate_group (owner_id, name, tariff_id) "
                "SELECT account_id, 'mine', %s FROM account WHERE code = 'north'",
                (tariff_id,),
            )
        attacker.execute("ROLLBACK TO SAVEPOINT attempt")


def test_temporary_tables_do_not_deceive_what_runs_as_the_owner(
    attacker: Cursor, shared_demo_url: str
) -> None:
    numbers = dict(owner_asks(shared_demo_url, "SELECT code, account_id FROM account"))
    groups = dict(owner_asks(shared_demo_url, "SELECT name, rate_group_id FROM rate_group"))
    [(tariff_id,)] = owner_asks(
        shared_demo_url, "SELECT tariff_id FROM resource_group WHERE name = 'RG_21'"
    )
    attacker.execute("CREATE TEMPORARY TABLE resource_group (tariff_id bigint) ON COMMIT DROP")
    attacker.execute("CREATE TEMPORARY TABLE rate (tariff_id bigint) ON COMMIT DROP")
    with denied(attacker):
        attacker.execute(
            "INSERT INTO rate_group (owner_id, name, tariff_id) VALUES (%s, 'mine', %s)",
            (numbers["north"], tariff_id),
        )
    attacker.execute("CREATE TEMPORARY TABLE account (account_id bigint) ON COMMIT DROP")
    attacker.execute("INSERT INTO account VALUES (%s)", (numbers["admin"],))
    with denied(attacker):
        attacker.execute(
            "INSERT INTO public.account (code, kind, parent_id, prepaid, currency, rate_group_id)"
            " VALUES ('spy', 'customer', %s, true, 'USD', %s)",
            (numbers["admin"], groups["retail"]),
        )


def test_rates_are_written_into_its_own_lists_only(attacker: Cursor, shared_demo_url: str) -> None:
    lists = dict(owner_asks(shared_demo_url, "SELECT name, tariff_id FROM rate_group"))
    lists |= dict(owner_asks(shared_demo_url, "SELECT name, tariff_id FROM resource_group"))
    sql = """
        INSERT INTO rate (tariff_id, prefix, per_minute_nanos, initial_seconds, increment_seconds,
                          effective_from, revision)
        VALUES (%s, '999', 1, 60, 60, now(), 2)
        """
    for name in ("retail", "wholesale", "coast-retail", "RG_21"):
        with denied(attacker):
            attacker.execute(sql, (lists[name],))
    attacker.execute(sql, (lists["north-retail"],))
    assert attacker.rowcount == 1


def test_a_customer_changes_nothing(demo_owner: Cursor) -> None:
    eyes = enter(demo_owner, "nora")
    assert ask(demo_owner, "SELECT code FROM account") == [("nora",)]
    assert ask(demo_owner, "SELECT name FROM rate_group") == [("north-retail",)]
    demo_owner.execute("UPDATE account SET name = 'x'")
    assert demo_owner.rowcount == 0
    demo_owner.execute("SAVEPOINT attempt")
    with pytest.raises(psycopg2.errors.CheckViolation, match="it is a customer"):
        insert_account(demo_owner, "x", eyes.account_id, None)
    demo_owner.execute("ROLLBACK TO SAVEPOINT attempt")
    with denied(demo_owner):
        demo_owner.execute("INSERT INTO ani_map VALUES ('1234', %s)", (eyes.account_id,))
    demo_owner.execute("DELETE FROM ani_map")
    assert demo_owner.rowcount == 0
    demo_owner.execute("INSERT INTO tariff (currency) VALUES ('EUR')")
    with denied(demo_owner):
        demo_owner.execute(
            "INSERT INTO rate_group (owner_id, name, tariff_id) VALUES (%s, 'mine', lastval())",
            (eyes.account_id,),
        )


# ------------------------------------------------------------------ by command


def test_a_reseller_lists_its_own_tree(unchanged: Sky) -> None:
    listed = unchanged("--as", "north", "account", "list", "-o", "json").json
    assert [row["code"] for row in listed] == ["carl", "coast", "cora", "noel", "nora", "north"]
    assert {row["reseller"] for row in listed} == {"0", "north", "coast"}


def test_a_reseller_does_not_learn_its_parents_code(unchanged: Sky) -> None:
    shown = unchanged("--as", "coast", "account", "show", "coast", "-o", "json").json
    assert shown["reseller"] == ""


@pytest.mark.parametrize(
    "words",
    [
        ("account", "show", "acme"),
        ("account", "show", "alice"),
        ("account", "show", "admin"),
        ("account", "set", "alice", "--name", "x"),
        ("account", "suspend", "acme"),
        ("account", "top-up", "alice", "1", "--reference", "x"),
        ("account", "statement", "alice"),
        ("account", "add", "x", "--parent", "alice"),
        ("account", "add", "x", "--parent", "admin"),
        ("account", "add", "x", "--rate-group", "retail"),
        ("account", "add", "x", "--rate-group", "wholesale"),
        ("account", "add", "x", "--kind", "provider"),
        ("account", "set", "north", "--credit-limit", "100000"),
        ("account", "top-up", "cora", "1", "--reference", "x"),
        ("account", "top-up", "north", "1", "--reference", "x"),
        ("client", "list"),
        ("client", "add", "x", "10.0.0.1", "--type", "rfc", "--secret", "x"),
        ("resource-group", "show", "21"),
        ("resource-group", "set", "11", "--max-calls", "1"),
        ("resource-group", "add", "12", "--direction", "in", "--account", "nora"),
        ("rate-group", "show", "retail"),
        ("rate-group", "set", "wholesale", "--markup", "5"),
        ("rate-group", "set", "coast-retail", "--markup", "5"),
        ("rate-group", "set", "north-retail", "--strategy", "least-cost"),
        ("rate-group", "attach", "north-retail", "21"),
        ("rate", "add", "999", "--per-minute", "1", "--rate-group", "wholesale"),
        ("rate", "add", "999", "--per-minute", "1", "--rate-group", "coast-retail"),
        ("rate", "add", "999", "--per-minute", "1", "--resource-group", "21"),
        ("rate", "lookup", "44207", "--rate-group", "retail"),
        ("rate", "lookup", "44207", "--resource-group", "21"),
        ("rate", "lookup", "44207", "--account", "alice"),
        ("simulate-call", "--account", "alice", "--called", "442071838750"),
        ("route", "442071838750", "--account", "nora"),
        ("rate-group", "add", "x", "--owner", "coast"),
        ("map", "ani", "1234", "alice"),
        ("map", "ani", "15551230001", "nora"),
        ("map", "remove", "ani", "15551230001"),
        ("currency", "rate", "USD", "EUR", "1"),
        ("audit",),
        ("doctor",),
        ("migrate",),
        ("demo-call",),
        ("serve",),
    ],
    ids=" ".join,
)
def test_what_is_not_a_resellers_business_is_refused_in_words(
    unchanged: Sky, words: tuple[str, ...]
) -> None:
    before = unchanged("account", "list", "-o", "csv").out
    ran = unchanged("--as", "north", *words)
    assert ran.status in (1, 2)
    assert ran.out == ""
    assert ran.err.count("\n") == 1
    assert "row-level" not in ran.err
    assert "permission denied" not in ran.err
    assert unchanged("account", "list", "-o", "csv").out == before


def test_a_reseller_makes_a_customer_of_its_own(sky: Sky) -> None:
    made = sky(
        *("--as", "north", "account", "add", "new", "--rate-group", "north-retail", "-o", "json")
    )
    assert made.status == 0
    assert made.json["reseller"] == "north"
    assert sky("account", "show", "new", "-o", "json").json["rate_group"] == "north-retail"


def test_a_reseller_runs_its_own_shop(sky: Sky) -> None:
    north = ("--as", "north")
    for words in (
        ("rate-group", "add", "gold", "--markup", "10"),
        ("rate-group", "set", "gold", "--increment-seconds", "30"),
        ("account", "add", "sub", "--kind", "reseller", "--rate-group", "gold"),
        ("account", "set", "sub", "--name", "Sub", "--credit-limit", "5", "--postpaid"),
        ("account", "suspend", "coast"),
        ("account", "resume", "coast"),
        ("account", "add", "deep", "--parent", "coast", "--rate-group", "coast-retail"),
        ("account", "set", "deep", "--rate-group", ""),
        ("account", "set", "carl", "--max-channels", "2"),
        ("account", "top-up", "coast", "7.50", "--reference", "n1"),
        ("map", "ani", "+44 20 7946 0002", "cora"),
        ("map", "extension", "777", "sub"),
        ("map", "remove", "ani", "442079460002"),
        ("account", "close", "sub"),
        ("rate", "add", "999", "--per-minute", "0.05", "--rate-group", "north-retail"),
        ("rate", "set", "44", "--per-minute", "0.05", "--rate-group", "north-retail"),
        ("rate", "add", "4421", "--per-minute", "1", "--rate-group", "north-retail"),
        ("rate", "close", "999", "--rate-group", "north-retail"),
        ("rate", "lookup", "44207", "--rate-group", "wholesale"),
        ("simulate-call", "--account", "cora", "--called", "442071838750"),
    ):
        ran = sky(*north, *words)
        assert ran.status == 0, (words, ran.err)
    assert sky("account", "show", "coast", "-o", "json").json["balance"] == "207.500000"
    assert sky("audit").status == 0


def test_what_is_done_as_somebody_is_on_record(sky: Sky, demo_url: str) -> None:
    sky("--as", "north", "account", "set", "nora", "--max-channels", "3")
    sky("account", "add", "by-admin", "--parent", "coast")
    rows = owner_asks(
        demo_url,
        """
        SELECT account.code, action, subject, before, after ->> 'max_channels', actor <> ''
          FROM audit_log
          JOIN account ON account.account_id = acting_as_id
         ORDER BY audit_id
        """,
    )
    assert rows[0] == ("north", "account set", "nora", {"max_channels": 0}, "3", True)
    # The operator who makes a reseller's account acts as that reseller.
    assert rows[1][:4] == ("coast", "account add", "by-admin", None)


def test_secrets_are_not_in_the_audit_log(sky: Sky, demo_url: str, tmp_path: Any) -> None:
    file = tmp_path / "password"
    file.write_text("swordfish\n")
    assert sky("account", "set", "alice", "--password-file", str(file)).status == 0
    sky("client", "set", "rfc", "--secret", "swordfish")
    text = str(owner_asks(demo_url, "SELECT before, after FROM audit_log"))
    assert "swordfish" not in text
    assert "changed" in text


def test_an_import_as_a_reseller_writes_its_own_list(sky: Sky, tmp_path: Any) -> None:
    file = tmp_path / "rates.csv"
    file.write_text("prefix,per_minute\n44,0.5\n")
    ran = sky("--as", "north", "import-rates", str(file), "--rate-group", "north-retail")
    assert ran.status == 0, ran.err
    found = sky("rate", "lookup", "441", "--rate-group", "north-retail", "-o", "json").json
    assert found["per_minute"] == "0.5000"
    for name in ("wholesale", "coast-retail"):
        ran = sky("--as", "north", "import-rates", str(file), "--rate-group", name)
        assert ran.status == 1
        assert f"may not change rate group {name}" in ran.err


# ------------------------------------------------------------------ a database user of one's own


def test_a_database_user_that_is_no_superuser_is_told_what_it_lacks(
    administrator: Cursor, bare: Sky, cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    administrator.execute("CREATE ROLE plain LOGIN")
    administrator.execute("CREATE DATABASE of_plain OWNER plain")
    url = cluster.url.replace("/sky_aaa?", "/of_plain?").replace("//sky_aaa@", "//plain@")
    monkeypatch.setenv("SKY_AAA_DATABASE_URL", url)
    try:
        refused = bare("migrate")
        assert refused.status == 1
        assert "may not act as the role sky_aaa_viewer" in refused.err
        assert "GRANT sky_aaa_viewer TO plain" in refused.err
        administrator.execute("GRANT sky_aaa_viewer TO plain")
        assert bare("migrate").status == 0
        bare("account", "add", "admin", "--kind", "admin", "--currency", "EUR")
        bare("account", "add", "shop", "--kind", "reseller")
        made = bare("--as", "shop", "account", "add", "customer", "-o", "json")
        assert (made.status, made.json["reseller"]) == (0, "shop")
        listed = bare("--as", "shop", "account", "list", "-o", "json").json
        assert [row["code"] for row in listed] == ["customer", "shop"]
    finally:
        administrator.execute("DROP DATABASE of_plain WITH (FORCE)")
        administrator.execute("DROP ROLE plain")
