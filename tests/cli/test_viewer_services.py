"""Who sees what of DIDs, rules, limits and events: an attacker with SQL, in the database."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg2.errors
import pytest

from aaa_server.storage import viewer

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor

DENIED = psycopg2.errors.InsufficientPrivilege

# Of each kind one of north's tree (cora's) and one of another (alice's).
WORLD = """
INSERT INTO did (number, provider_id, monthly_micros)
SELECT number, account_id, 1
  FROM account, (VALUES ('390000000001'), ('390000000002'), ('390000000003')) AS new (number)
 WHERE code = 'acme';
INSERT INTO did_price (did_id, account_id, monthly_micros)
SELECT did_id, account_id, 2
  FROM did, account
 WHERE (number, code) IN (('390000000001', 'north'), ('390000000001', 'coast'),
                          ('390000000001', 'cora'), ('390000000002', 'alice'));
INSERT INTO did_assignment (did_id, account_id, destination_kind, destination)
SELECT did_id, account_id, 'extension', 'x@y'
  FROM did, account
 WHERE (number, code) IN (('390000000001', 'cora'), ('390000000002', 'alice'));
INSERT INTO velocity_limit (account_id, name, period, measure, maximum)
SELECT account_id, 'attacked', 'day', 'calls', 1 FROM account WHERE code IN ('cora', 'alice');
INSERT INTO velocity_use (limit_id, period_from)
SELECT limit_id, now() FROM velocity_limit WHERE name = 'attacked';
INSERT INTO event (account_id, kind)
SELECT account_id, 'attacked' FROM account WHERE code IN ('cora', 'alice');
INSERT INTO event (account_id, kind) VALUES (NULL, 'attacked');
INSERT INTO number_rule (account_id, position, note)
SELECT account_id, 99, 'attacked' FROM account WHERE code IN ('cora', 'alice');
INSERT INTO number_rule (resource_group_id, position, note)
SELECT resource_group_id, 99, 'attacked' FROM resource_group;
INSERT INTO number_rule (client_id, position, note)
SELECT client_id, 99, 'attacked' FROM client;
INSERT INTO number_rule (position, note) VALUES (99, 'attacked');
"""


@pytest.fixture
def owner(demo_owner: Cursor) -> Cursor:
    """The demo's owner, with the world above in it; all of it is rolled back."""
    demo_owner.execute(WORLD)
    return demo_owner


@pytest.fixture
def attacker(owner: Cursor) -> Cursor:
    """SQL as the reseller north, with nothing between it and the tables."""
    viewer.enter(owner, "north")
    return owner


def ask(cursor: Cursor, sql: str) -> list[Any]:
    cursor.execute(sql)
    return [row[0] for row in cursor.fetchall()]


ROWS = {
    "numbers": "SELECT number FROM did WHERE number LIKE '390%' ORDER BY 1",
    "prices": "SELECT code FROM did_price JOIN did USING (did_id) JOIN account USING (account_id)"
    " WHERE number LIKE '390%' ORDER BY 1",
    "assignments": "SELECT code FROM did_assignment JOIN account USING (account_id)"
    " WHERE destination = 'x@y' ORDER BY 1",
    "limits": "SELECT code FROM velocity_limit JOIN account USING (account_id)"
    " WHERE velocity_limit.name = 'attacked' ORDER BY 1",
    "uses": "SELECT code FROM velocity_use JOIN velocity_limit USING (limit_id)"
    " JOIN account USING (account_id) WHERE velocity_limit.name = 'attacked' ORDER BY 1",
    "events": "SELECT coalesce(code, '-') FROM event LEFT JOIN account USING (account_id)"
    " WHERE event.kind = 'attacked' ORDER BY 1",
    "rules": "SELECT coalesce(code, '-') FROM number_rule LEFT JOIN account USING (account_id)"
    " WHERE note = 'attacked' ORDER BY 1",
}


@pytest.mark.parametrize(
    ("eyes", "numbers", "prices", "owners"),
    [
        ("north", ["390000000001"], ["coast", "cora", "north"], ["cora"]),
        ("coast", ["390000000001"], ["coast", "cora"], ["cora"]),
        ("cora", ["390000000001"], ["cora"], ["cora"]),
        ("noel", [], [], []),
    ],
)
def test_each_finds_what_is_its_trees(
    owner: Cursor, eyes: str, numbers: list[str], prices: list[str], owners: list[str]
) -> None:
    viewer.enter(owner, eyes)
    found = {what: ask(owner, sql) for what, sql in ROWS.items()}
    assert (found.pop("numbers"), found.pop("prices")) == (numbers, prices)
    assert found == dict.fromkeys(found, owners)


def test_without_a_viewer_the_role_sees_nothing(owner: Cursor) -> None:
    owner.execute("SET LOCAL ROLE sky_aaa_viewer")
    assert {what: ask(owner, sql) for what, sql in ROWS.items()} == {what: [] for what in ROWS}


@pytest.mark.parametrize(
    "sql",
    [
        # What providers take, and who they are.
        "SELECT * FROM did",
        "SELECT provider_id FROM did",
        "SELECT monthly_micros FROM did",
        "SELECT per_minute_nanos FROM did",
        "SELECT number FROM did WHERE setup_micros > 0",
        "SELECT number FROM did ORDER BY connect_fee_micros",
        "SELECT to_jsonb(did) FROM did",
        "COPY did TO STDOUT",
        # Numbers and prices from nothing.
        "INSERT INTO did (number, provider_id) SELECT '390', account_id FROM account LIMIT 1",
        "UPDATE did SET status = 'active'",
        "DELETE FROM did",
        "UPDATE did_price SET monthly_micros = 0",
        "INSERT INTO did_price (did_id, account_id) SELECT did_id, account_id FROM did, account",
        "DELETE FROM did_price",
        "UPDATE did_assignment SET destination = 'me@me'",
        "DELETE FROM did_assignment",
        "INSERT INTO did_assignment (did_id, account_id, destination_kind, destination)"
        " SELECT did_id, account_id, 'sip', 'x' FROM did, account",
        # Free of limits.
        "UPDATE velocity_limit SET active = false",
        "DELETE FROM velocity_limit",
        "INSERT INTO velocity_limit (account_id, name, period, measure, maximum)"
        " SELECT account_id, 'x', 'day', 'calls', 1 FROM account",
        "UPDATE velocity_use SET amount = 0",
        "DELETE FROM velocity_use",
        # Traces gone.
        "DELETE FROM event",
        "UPDATE event SET kind = 'x'",
        "INSERT INTO event (kind) VALUES ('x')",
        # Other people's numbers rewritten, and no emergency.
        "INSERT INTO number_rule (prefix) VALUES ('')",
        "UPDATE number_rule SET prefix = ''",
        "DELETE FROM number_rule",
        "SELECT * FROM emergency_number",
        "INSERT INTO emergency_number (number) VALUES ('9999')",
        "DELETE FROM emergency_number",
        "UPDATE account SET metered = false WHERE code = 'cora'",
    ],
)
def test_what_is_not_the_viewers_to_write_or_read_is_denied(attacker: Cursor, sql: str) -> None:
    with pytest.raises(DENIED):
        attacker.execute(sql)
