"""Many PDFs at once, by several processes: setting them is the work, not reading them."""

from __future__ import annotations

import contextlib
import hashlib
import multiprocessing
from functools import partial
from typing import TYPE_CHECKING

from aaa_server.storage import invoices, viewer
from aaa_server.storage.database import connect, transaction
from web_reports import invoice_document
from web_reports.invoice import load

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from psycopg2.extensions import connection as Connection

PORTION = 8  # documents that a process takes at a time


def write_all(
    url: str,
    as_code: str,
    invoice_ids: Sequence[int],
    folder: Path,
    *,
    processes: int,
    step: Callable[[int], contextlib.AbstractContextManager[Callable[[], None]]],
) -> int:
    """How many were written into `folder`; a file that is there is left as it is."""
    # Processes of their own from the start: a fork would share the database's connections.
    context = multiprocessing.get_context("spawn")
    written = 0
    portions = [invoice_ids[at : at + PORTION] for at in range(0, len(invoice_ids), PORTION)]
    work = partial(_write, url, as_code, folder)
    with step(len(portions)) as advance, context.Pool(processes) as pool:
        for made in pool.imap_unordered(work, portions):
            written += made
            advance()
        pool.close()
        pool.join()
    return written


def _write(url: str, as_code: str, folder: Path, invoice_ids: Sequence[int]) -> int:
    with contextlib.closing(connect(url)) as connection:
        return sum(_write_one(connection, as_code, folder, one) for one in invoice_ids)


def _write_one(connection: Connection, as_code: str, folder: Path, invoice_id: int) -> bool:
    with transaction(connection) as cursor:
        eyes = viewer.enter(cursor, as_code) if as_code else viewer.operator(cursor)
        one = invoices.get(cursor, eyes, invoice_id)
        # Who sees several issuers' invoices may see one number twice.
        own = eyes.kind == "customer" or one.issuer_id == eyes.account_id
        prefix = "" if own else f"{one.issuer_code or 'operator'}-"
        path = folder / f"{(prefix + one.name).replace('/', '_')}.pdf"
        if path.exists():
            return False
        content = invoice_document.pdf(load(cursor, eyes, one))
        invoices.note_document(cursor, eyes, one, "pdf", hashlib.sha256(content).digest())
    # Under its name only when it is whole: a run that was killed writes it again.
    half = path.with_suffix(".part")
    half.write_bytes(content)
    half.rename(path)
    return True
