"""Rows as the last committed batch left them, so that the next one need not read them.

What is decided on them is only written if the database still has them so (SKY01 else), so
they are never relied upon, only expected. A batch that was wrong is decided again on rows
that are locked; when that happens often, somebody else writes the same rows, and memory is
not asked for a while.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aaa_server.charging.call import Call, CallKey
    from aaa_server.charging.ledger import Account, GroupUse, Ledger

ACCOUNTS_HELD_MAX = 1_000_000  # about 1 KiB each
CALLS_HELD_MAX = 100_000  # about 1.5 KiB each
AT_ONCE = 500  # are let go of in less than a millisecond
# After a wrong batch so many are not asked, twice as many after each further one.
PAUSE_BATCHES_MAX = 256


class Memory:
    """Accounts, resource groups and calls in progress of this process."""

    def __init__(self) -> None:
        self.accounts: dict[int, Account] = {}
        self.uses: dict[int, GroupUse] = {}
        self.calls: dict[CallKey, Call] = {}
        self._pause = 0
        self._pausing = 0

    @property
    def paused(self) -> bool:
        """Whether the next batch is not to ask memory."""
        return self._pausing > 0

    def trusted(self) -> bool:
        """Whether to ask memory for this batch; counts the batches that are not to."""
        if self._pausing:
            self._pausing -= 1
            return False
        return True

    def fill(self, ledger: Ledger, account_ids: set[int], group_ids: set[int]) -> bool:
        """Put these rows into `ledger`; False, and nothing to be used, when one is not held."""
        accounts, uses = self.accounts, self.uses
        try:
            for account_id in account_ids:
                ledger.accounts[account_id] = accounts[account_id]
            for group_id in group_ids:
                ledger.group_uses[group_id] = uses[group_id]
        except KeyError:
            return False
        return True

    def keep(self, ledger: Ledger) -> None:
        """Take over the rows of a committed batch."""
        if ledger.from_memory:
            self._pause //= 2
        self._make_room()
        for account in ledger.accounts.values():
            if account.changed:
                account.keep()
        for use in ledger.group_uses.values():
            if use.changed:
                use.keep()
        self.accounts.update(ledger.accounts)
        self.uses.update(ledger.group_uses)
        for key, call in ledger.calls.items():
            if key in ledger.opened:
                call.version = call.next_version
            if key in ledger.touched:
                call.version += 1
            if call.ended:
                self.calls.pop(key, None)
            else:
                call.recorded = False  # a refused attempt that had ended goes on
                self.calls[key] = call

    def forget(self, ledger: Ledger) -> None:
        """Drop what a batch that was not committed has touched."""
        if ledger.from_memory:
            self._pause = min(2 * self._pause + 1, PAUSE_BATCHES_MAX)
            self._pausing = self._pause
        for account_id in ledger.accounts:
            self.accounts.pop(account_id, None)
        for group_id in ledger.group_uses:
            self.uses.pop(group_id, None)
        for key in ledger.calls:
            self.calls.pop(key, None)

    def _make_room(self) -> None:
        """Let the oldest go, some at a time: all at once would stop the server for a while."""
        drop_oldest(self.accounts, ACCOUNTS_HELD_MAX)
        drop_oldest(self.calls, CALLS_HELD_MAX)


def drop_oldest(held: dict[Any, Any], most: int) -> None:
    """Let go of what was taken in first once more than `most` are held, some more than that.

    A dict's first key is looked for behind the places of all that were there before it.
    """
    if len(held) > most:
        for key in list(islice(held, len(held) - most + min(AT_ONCE, most // 200))):
            del held[key]
