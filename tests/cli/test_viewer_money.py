"""Who sees what of payments, transfers, coupons, subscriptions: an attacker with SQL."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg2.errors
import pytest

from aaa_server.storage import viewer

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor

DENIED = psycopg2.errors.InsufficientPrivilege

# Of each kind one of north's tree, one of another, and what is between them.
WORLD = """
INSERT INTO refund (payment_id, number, transaction_id, amount_micros, at)
SELECT payment_id, 1, payment_id, 1, now()
  FROM payment
  JOIN account USING (account_id)
 WHERE code IN ('cora', 'alice');
INSERT INTO transfer (transaction_id, seller_id, reference, from_account_id, to_account_id,
                      amount_micros, received_micros, exchange_e10)
SELECT source.account_id * 1000 + target.account_id, source.parent_id,
       source.code || target.code, source.account_id, target.account_id, 1, 1, 1
  FROM account AS source, account AS target
 WHERE (source.code, target.code)
       IN (('cora', 'carl'), ('alice', 'bob'), ('north', 'alice'), ('bob', 'north'));
INSERT INTO coupon (owner_id, code_hash, amount_micros, currency)
SELECT account_id, sha256(code::bytea), 1, 'USD'
  FROM account
 WHERE code IN ('admin', 'north', 'coast');
INSERT INTO coupon (owner_id, code_hash, amount_micros, currency, redeemed_at, account_id,
                    transaction_id)
SELECT account.parent_id, sha256('used' || code::bytea), 2, 'USD', now(), account_id, account_id
  FROM account
 WHERE code IN ('north', 'alice', 'cora');
INSERT INTO subscription (account_id, name, price_micros, calendar, prorate, time_zone, begins_at,
                          anchor_at)
SELECT account_id, 'attacked', 1, false, false, 'UTC', now(), now()
  FROM account
 WHERE code IN ('north', 'cora', 'alice');
INSERT INTO did (number, provider_id)
SELECT '390000000001', account_id FROM account WHERE code = 'acme';
INSERT INTO did_fee (did_id, account_id, since, time_zone, next_at)
SELECT did_id, account_id, now(), 'UTC', now()
  FROM did, account
 WHERE number = '390000000001'
   AND code IN ('acme', 'north', 'cora', 'alice');
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


def ask(cursor: Cursor, sql: str) -> list[tuple[Any, ...]]:
    cursor.execute(sql)
    return cursor.fetchall()


CODES = {
    "payment": """
        SELECT coalesce(code, '?') FROM payment LEFT JOIN account USING (account_id) ORDER BY 1""",
    "refund": """
        SELECT coalesce(code, '?')
          FROM refund
          LEFT JOIN payment USING (payment_id)
          LEFT JOIN account USING (account_id)""",
    "transfer": "SELECT reference FROM transfer",
    "subscription": """
        SELECT coalesce(code, '?')
          FROM subscription
          LEFT JOIN account USING (account_id)
         ORDER BY 1""",
    "did_fee": """
        SELECT coalesce(code, '?') FROM did_fee LEFT JOIN account USING (account_id) ORDER BY 1""",
}


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ("payment", ["coast", "cora", "nora"]),
        ("refund", ["cora"]),
        ("transfer", ["coracarl"]),
        ("subscription", ["cora", "north"]),
        ("did_fee", ["cora", "north"]),
    ],
)
def test_a_reseller_finds_the_money_of_its_tree(
    attacker: Cursor, table: str, expected: list[str]
) -> None:
    assert [row[0] for row in ask(attacker, CODES[table])] == expected


def test_a_reseller_finds_its_trees_coupons_and_those_it_redeemed(attacker: Cursor) -> None:
    found = ask(
        attacker,
        """
        SELECT coalesce(owner.code, '?'), coalesce(account.code, '-'), amount_micros
          FROM coupon
          LEFT JOIN account AS owner ON owner.account_id = owner_id
          LEFT JOIN account ON account.account_id = coupon.account_id
         ORDER BY 1, 2
        """,
    )
    assert found == [
        ("?", "north", 2),
        ("coast", "-", 1),
        ("coast", "cora", 2),
        ("north", "-", 1),
    ]


def test_a_customer_finds_its_own(owner: Cursor) -> None:
    viewer.enter(owner, "cora")
    counts = [
        ask(owner, f"SELECT count(*) FROM {table}")[0][0]  # noqa: S608 - the words here
        for table in ("payment", "refund", "transfer", "coupon", "subscription", "did_fee")
    ]
    assert counts == [1, 1, 0, 1, 1, 1]


@pytest.mark.parametrize("table", ["payment", "refund", "transfer", "subscription", "did_fee"])
def test_without_a_viewer_the_role_sees_no_money(owner: Cursor, table: str) -> None:
    owner.execute("SET LOCAL ROLE sky_aaa_viewer")
    owner.execute(f"SELECT count(*) FROM {table}")  # noqa: S608 - the words above
    assert owner.fetchone() == (0,)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT code_hash FROM coupon",
        "SELECT coupon_id FROM coupon WHERE code_hash = sha256('admin')",
        "SELECT * FROM coupon",
        "SELECT * FROM coupon_key",
        "SELECT acquired_at FROM did",
        "UPDATE coupon SET amount_micros = 1000000000",
        "UPDATE coupon SET redeemed_at = NULL, account_id = NULL, transaction_id = NULL",
        "INSERT INTO coupon (owner_id, code_hash, amount_micros, currency) "
        "SELECT account_id, sha256('mine'), 1000000000, 'USD' FROM account WHERE code = 'north'",
        "DELETE FROM coupon",
        "UPDATE coupon_key SET key_sealed = 'mine'",
        "INSERT INTO payment (transaction_id, account_id, seller_id, method, reference, "
        "amount_micros, currency, at) SELECT 1, account_id, account_id, 'cash', 'x', 5, 'USD', "
        "now() FROM account WHERE code = 'north'",
        "UPDATE payment SET amount_micros = 1000000000",
        "DELETE FROM payment",
        "DELETE FROM refund",
        "INSERT INTO refund (payment_id, number, transaction_id, amount_micros, at) "
        "SELECT payment_id, 9, 9, 9, now() FROM payment",
        "UPDATE transfer SET received_micros = 1000000000",
        "UPDATE subscription SET price_micros = 0",
        "UPDATE subscription SET next_at = NULL",
        "DELETE FROM subscription",
        "UPDATE did_fee SET next_at = 'infinity'",
        "DELETE FROM did_fee",
    ],
)
def test_what_a_viewer_must_not_do_with_money_is_refused(attacker: Cursor, sql: str) -> None:
    attacker.execute("SAVEPOINT attempt")
    with pytest.raises(DENIED):
        attacker.execute(sql)
    attacker.execute("ROLLBACK TO SAVEPOINT attempt")


@pytest.mark.parametrize("table", ["payment", "refund", "transfer"])
@pytest.mark.parametrize(
    "sql", ["UPDATE {} SET amount_micros = 2", "DELETE FROM {}", "TRUNCATE {} CASCADE"]
)
def test_what_was_posted_is_final_for_the_owner_too(owner: Cursor, table: str, sql: str) -> None:
    with pytest.raises(psycopg2.errors.RestrictViolation, match="post a reversal instead"):
        owner.execute(sql.format(table))
