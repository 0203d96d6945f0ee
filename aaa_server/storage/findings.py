"""What a doctor asks the database: settings, and rows that cannot do what they are for."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from datetime import datetime

    from psycopg2.extensions import cursor as Cursor

SHOWN_MAX = 20  # names in one finding


class Server(NamedTuple):
    """The PostgreSQL that answers; `durable` False: an answered call may be lost in a crash."""

    version: int
    durable: bool
    now: datetime


class Trouble(NamedTuple):
    """Things that share one fault, by name."""

    fault: str
    names: tuple[str, ...]
    affected: int


def server(cursor: Cursor) -> Server:
    """Version as a number (160004), durability, clock."""
    cursor.execute(
        """
        SELECT current_setting('server_version_num')::integer,
               current_setting('fsync')::boolean
               AND current_setting('full_page_writes')::boolean
               AND current_setting('synchronous_commit') <> 'off',
               clock_timestamp()
        """
    )
    row = cursor.fetchone()
    assert row is not None
    return Server(*row)


def sealed_secrets(cursor: Cursor) -> list[tuple[str, int, str, bytes]]:
    """Table, row, column and value of some secrets, to try the key on."""
    cursor.execute(
        """
        (SELECT 'client', client_id::bigint, 'secret', secret_sealed
           FROM client
          ORDER BY client_id
          LIMIT 5)
         UNION ALL
        (SELECT 'account', account_id, 'password', password_sealed
           FROM account
          WHERE password_sealed IS NOT NULL
          ORDER BY account_id
          LIMIT 5)
        """
    )
    return [(row[0], row[1], row[2], bytes(row[3])) for row in cursor.fetchall()]


def troubles(cursor: Cursor) -> list[Trouble]:
    """Rows that cannot work, one entry for each fault that some have."""
    found = []
    for fault, sql in _FAULTS:
        cursor.execute(sql)
        names = [str(row[0]) for row in cursor.fetchall()]
        if names:
            found.append(Trouble(fault, tuple(names[:SHOWN_MAX]), len(names)))
    return found


_FAULTS = (
    (
        "rate-group-without-rates",
        """
        SELECT rate_group.name
          FROM rate_group
         WHERE EXISTS (SELECT FROM account WHERE account.rate_group_id = rate_group.rate_group_id)
           AND NOT EXISTS (SELECT
                             FROM rate
                            WHERE rate.tariff_id = rate_group.tariff_id
                              AND tstzrange(rate.effective_from, rate.effective_to) @> now())
         ORDER BY rate_group.name
        """,
    ),
    (
        # Where nothing is attached the switch routes by itself: that is no trouble.
        "rate-group-without-routes",
        """
        SELECT DISTINCT rate_group.name
          FROM rate_group
          JOIN account ON account.rate_group_id = rate_group.rate_group_id
         WHERE cardinality(account.chain) = 1
           AND EXISTS (SELECT
                         FROM rate_group_route
                        WHERE rate_group_route.rate_group_id = rate_group.rate_group_id)
           AND NOT EXISTS (SELECT
                             FROM rate_group_route
                             JOIN resource_group USING (resource_group_id)
                             JOIN account AS provider
                               ON provider.account_id = resource_group.account_id
                            WHERE rate_group_route.rate_group_id = rate_group.rate_group_id
                              AND resource_group.status = 'active'
                              AND provider.status = 'active')
         ORDER BY rate_group.name
        """,
    ),
    (
        "account-without-rate-group",
        """
        SELECT code
          FROM account
         WHERE kind IN ('customer', 'reseller')
           AND status = 'active'
           AND rate_group_id IS NULL
         ORDER BY code
        """,
    ),
    (
        "account-with-another-seller's-rate-group",
        """
        SELECT account.code
          FROM account
          JOIN rate_group USING (rate_group_id)
         WHERE rate_group.owner_id <> account.parent_id
         ORDER BY account.code
        """,
    ),
    (
        "account-without-exchange-rate",
        """
        SELECT account.code
          FROM account
          JOIN rate_group USING (rate_group_id)
          JOIN tariff USING (tariff_id)
         WHERE tariff.currency <> account.currency
           AND NOT EXISTS (SELECT
                             FROM exchange_rate
                            WHERE (from_currency, to_currency) IN (
                                      (tariff.currency, account.currency),
                                      (account.currency, tariff.currency))
                              AND effective_from <= now())
         ORDER BY account.code
        """,
    ),
    (
        "outbound-without-rates",
        """
        SELECT name
          FROM resource_group
         WHERE direction = 'out'
           AND status = 'active'
           AND NOT EXISTS (SELECT
                             FROM rate
                            WHERE rate.tariff_id = resource_group.tariff_id
                              AND tstzrange(rate.effective_from, rate.effective_to) @> now())
         ORDER BY name
        """,
    ),
    (
        "outbound-without-gateway",
        """
        SELECT name
          FROM resource_group
         WHERE direction = 'out'
           AND status = 'active'
           AND gateway = ''
         ORDER BY name
        """,
    ),
    (
        "outbound-not-attached",
        """
        SELECT name
          FROM resource_group
         WHERE direction = 'out'
           AND status = 'active'
           AND NOT EXISTS (SELECT
                             FROM rate_group_route
                            WHERE rate_group_route.resource_group_id
                                  = resource_group.resource_group_id)
         ORDER BY name
        """,
    ),
    (
        "calls-that-should-have-ended",
        """
        SELECT session_key
          FROM call
         WHERE status <> 'refused'
           AND expires_at < now() - interval '10 minutes'
         ORDER BY expires_at
        """,
    ),
    (
        "calls-from-the-future",
        """
        SELECT session_key
          FROM call
         WHERE authorized_at > now() + interval '1 minute'
         ORDER BY authorized_at
        """,
    ),
)
