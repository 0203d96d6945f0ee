from __future__ import annotations

import io
import json

import pytest
from twisted.logger import Logger, LogPublisher
from twisted.python.failure import Failure
from twisted.python.log import LogPublisher as LegacyPublisher

from aaa_server.log import make_observer


def logger(form: str, *, debug: bool = False) -> tuple[Logger, io.StringIO]:
    stream = io.StringIO()
    return Logger("radius", observer=make_observer(form, stream, debug=debug)), stream


def test_text_is_a_line_with_time_level_and_place() -> None:
    log, stream = logger("text")
    log.warn("{count} calls expired", count=3)
    time, level, rest = stream.getvalue().split(maxsplit=2)
    assert time.endswith("Z")
    assert (level, rest) == ("warn", "radius: 3 calls expired\n")


def test_json_is_one_object_a_line_with_the_event_s_own_fields() -> None:
    log, stream = logger("json")
    log.info("{count} calls expired\nof {client}", count=3, client="söder", other=object())
    (line,) = stream.getvalue().splitlines()
    document = json.loads(line)
    del document["time"]
    assert document == {
        "level": "info",
        "namespace": "radius",
        "message": "3 calls expired\nof söder",
        "count": 3,
        "client": "söder",
    }


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_secret_is_never_written(form: str) -> None:
    log, stream = logger(form)
    log.info(
        "{secret} {card_pin} {old_password}", secret="x1x", card_pin=b"x2x", old_password="x3x"
    )
    log.info("at {url}", url="postgresql://u:x4x@h/d")
    assert "******** ******** ********" in stream.getvalue()
    assert not [secret for secret in ("x1x", "x2x", "x3x", "x4x") if secret in stream.getvalue()]


def test_what_a_peer_sent_cannot_forge_a_line() -> None:
    log, stream = logger("text")
    log.info("user {user}", user="a\r\n2026 info forged\x1b[2J")
    assert stream.getvalue().endswith("user a\\x0d\\x0a2026 info forged\\x1b[2J\n")


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_failure_brings_its_traceback(form: str) -> None:
    log, stream = logger(form)
    try:
        raise LookupError("no such thing")
    except LookupError:
        log.failure("while looking", Failure())
    assert "while looking" in stream.getvalue()
    assert "LookupError: no such thing" in stream.getvalue()
    assert "test_log.py" in stream.getvalue()


def test_a_failure_logged_the_old_way_has_its_traceback_on_lines_of_its_own() -> None:
    stream = io.StringIO()
    publisher = LegacyPublisher(publishPublisher=LogPublisher(make_observer("text", stream)))
    publisher.msg(failure=Failure(LookupError("gone")), why="while looking", isError=1)
    first, *rest = stream.getvalue().splitlines()
    assert first.endswith("while looking")
    assert rest[-1].endswith("LookupError: gone")


def test_debug_events_are_written_only_when_asked_for() -> None:
    log, stream = logger("text")
    log.debug("detail")
    assert stream.getvalue() == ""
    log, stream = logger("text", debug=True)
    log.debug("detail")
    assert "detail" in stream.getvalue()
