"""The key that seals secrets is changed while two processes answer."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from aaa_server.radius import attribute
from aaa_server.radius.packet import ACCESS_CHALLENGE
from tests.integration.nas import CALLED, STOP, Nas
from tests.integration.server import Server, wait_until
from tests.integration.test_digest import Phone, by_rfc
from tests.integration.test_radclient import RFC

if TYPE_CHECKING:
    from pathlib import Path

    from tests.integration.conftest import NewDatabase


def test_servers_go_on_through_a_rotation_and_open_what_the_new_key_sealed(
    demo: str, new_database: NewDatabase, key_file: Path, tmp_path: Path
) -> None:
    own = tmp_path / "secrets.key"
    own.touch(mode=0o600)
    own.write_bytes(key_file.read_bytes())
    with new_database(demo) as url:
        server = Server(tmp_path / "server", url, own, processes=2)
        server.start()
        try:
            nas = Nas(server, RFC, target="127.0.0.1")
            asks = [
                (attribute.USER_NAME, b"alice"),
                (attribute.DIGEST_METHOD, b"REGISTER"),
                (attribute.DIGEST_URI, b"sip:sip.example"),
                (attribute.DIGEST_REALM, b"sip.example"),
            ]
            challenge = nas.ask(nas.access(asks))
            assert challenge.packet.code == ACCESS_CHALLENGE
            phone = Phone(challenge.text(attribute.DIGEST_NONCE) or "")

            server.command("secrets", "rotate")
            wait_until(
                lambda: server.log.count("key file has changed") >= server.processes,
                "every process has read the key file again",
            )
            who = (attribute.USER_NAME, b"alice")
            # Passwords and the clients' secrets open, and a nonce of before is still ours.
            for count in range(1, 7):
                assert nas.ask(nas.access([who, *by_rfc(phone.fields(count))])).accepted
            server.command("account", "set", "alice", "--password-file", "-", stdin="other")
            for _ in range(6):
                assert nas.ask(nas.access([who], password=b"other")).accepted
            granted = nas.ask(nas.authorize("rotated", "bob", CALLED))
            assert granted.granted
            nas.ask(nas.report(STOP, "rotated", seconds=1))
            digest = hashlib.sha256(own.read_bytes()).hexdigest()
            server.stop()
            server.start()
            assert nas.ask(nas.access([who], password=b"other")).accepted
            assert hashlib.sha256(own.read_bytes()).hexdigest() == digest
            server.audit()
        finally:
            if server.process is not None:
                server.stop()
        assert "Traceback" not in server.log, server.log


def test_a_server_without_its_key_file_does_not_start(
    demo: str, new_database: NewDatabase, tmp_path: Path
) -> None:
    lost = tmp_path / "lost.key"
    with new_database(demo) as url:
        server = Server(tmp_path / "server", url, lost)
        done = server.command("serve", expected_status=1)
        assert f"{lost} is not there" in done.stderr
        assert "put it back from its copy" in done.stderr
        assert not lost.exists()
