"""The peer: FreeRADIUS 3.2 with rlm_sql_postgresql, private to this bench."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

from bench.dataset import SECRET
from bench.process import Child, Failed, cpu_seconds, free_ports, give_away, resident_bytes

if TYPE_CHECKING:
    from bench.cluster import Cluster
    from bench.dataset import Shape

CONFIGURATION = Path(__file__).with_name("freeradius.conf")
SHIPPED = Path("/etc/freeradius/3.0/mods-config/sql/main/postgresql")
LIBRARIES = Path("/usr/lib/freeradius")
PACKAGES = "freeradius freeradius-postgresql freeradius-config"
SESSION_TIMEOUT_SECONDS = 7200
READY_SECONDS_MAX = 30
# Names and passwords are those that radload makes of the same numbers.
USERS = """
INSERT INTO radcheck (username, attribute, op, value)
SELECT 'user' || lpad(n::text, 6, '0'), 'Cleartext-Password', ':=', 'pass' || lpad(n::text, 6, '0')
  FROM generate_series(0, {accounts} - 1) AS n;
INSERT INTO radreply (username, attribute, op, value)
SELECT 'user' || lpad(n::text, 6, '0'), 'Session-Timeout', '=', '{seconds}'
  FROM generate_series(0, {accounts} - 1) AS n;
"""


class FreeRadius:
    """A FreeRADIUS server and its database; reads radcheck and radreply, writes radpostauth."""

    name = "FreeRADIUS"
    secret = SECRET.decode()

    def __init__(self, cluster: Cluster, directory: Path, shape: Shape) -> None:
        self.cluster = cluster
        self.directory = directory
        self.database = "radius"
        directory.mkdir(exist_ok=True)
        give_away(directory)
        queries, schema = shipped_files(directory)
        cluster.create(self.database)
        with cluster.connect(self.database) as connection, connection.cursor() as cursor:
            cursor.execute(schema)
            cursor.execute(USERS.format(accounts=shape.accounts, seconds=SESSION_TIMEOUT_SECONDS))
        cluster.vacuum(self.database)
        self.auth_port, self.acct_port = free_ports(2)
        self.write("queries.conf", queries)
        self.write("radiusd.conf", self.configuration())
        self.child = Child(
            [binary(), "-f", "-d", directory, "-n", "radiusd", "-l", directory / "radius.log"],
            directory / "output.log",
            privileged=False,
        )

    def write(self, name: str, text: str) -> None:
        (self.directory / name).write_text(text)
        give_away(self.directory / name)

    def configuration(self) -> str:
        """freeradius.conf with the names of this run."""
        return Template(CONFIGURATION.read_text()).substitute(
            directory=self.directory,
            libdir=LIBRARIES,
            conninfo=self.cluster.conninfo(self.database),
            secret=self.secret,
            auth_port=self.auth_port,
            acct_port=self.acct_port,
        )

    def wait(self) -> None:
        """Returns when both ports are bound; raises `Failed` with the log when they are not."""
        self.child.wait_until(
            lambda: bound(self.auth_port) and bound(self.acct_port), READY_SECONDS_MAX
        )
        # The ports are bound a moment before the threads run.
        time.sleep(0.5)

    def cpu(self) -> tuple[float, float]:
        return cpu_seconds(self.child.pid), self.cluster.cpu_seconds()

    def batches(self) -> tuple[float, float]:
        return 0.0, 0.0

    def memory_bytes(self) -> int:
        return resident_bytes(self.child.pid)

    def stored(self) -> int:
        """Calls that are closed in radacct."""
        return self.cluster.count(
            self.database, "SELECT count(*) FROM radacct WHERE acctstoptime IS NOT NULL"
        )

    def check(self) -> tuple[str, ...]:
        """FreeRADIUS keeps no money: there is nothing to prove."""
        return ()

    def stop(self) -> None:
        self.child.stop()


def binary() -> str:
    """The server's path; sbin is not in everybody's PATH."""
    path = os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin"
    found = shutil.which("freeradius", path=path) or shutil.which("radiusd", path=path)
    if found is None or not (LIBRARIES / "rlm_sql_postgresql.so").exists():
        raise Failed(f"FreeRADIUS with PostgreSQL is needed (Debian: apt-get install {PACKAGES})")
    return found


def version() -> str:
    """FreeRADIUS's own words, "FreeRADIUS Version 3.2.1"."""
    said = subprocess.run([binary(), "-v"], capture_output=True, text=True, check=False).stdout
    return said.partition(",")[0].removeprefix("radiusd: ").strip()


def shipped_files(directory: Path) -> tuple[str, str]:
    """queries.conf and schema.sql as Debian ships them.

    Installed, only root may read them; others get them out of the package.
    """
    place = SHIPPED
    if not os.access(SHIPPED / "queries.conf", os.R_OK):
        place = directory / "package" / SHIPPED.relative_to("/")
        if not place.exists():
            unpack(directory / "package")
    return (place / "queries.conf").read_text(), (place / "schema.sql").read_text()


def unpack(directory: Path) -> None:
    """Fetches the package freeradius-config and unpacks it; needs no rights."""
    directory.mkdir(exist_ok=True)
    try:
        subprocess.run(
            ["apt-get", "download", "freeradius-config"],
            cwd=directory,
            capture_output=True,
            check=True,
        )
        package = next(directory.glob("freeradius-config_*.deb"))
        subprocess.run(["dpkg-deb", "-x", package, directory], check=True)
    except (OSError, subprocess.CalledProcessError, StopIteration) as error:
        raise Failed(
            f"{SHIPPED}/queries.conf cannot be read, and apt-get download freeradius-config"
            " failed: run the bench as root or as a member of group freerad"
        ) from error


def bound(port: int) -> bool:
    """Somebody has this UDP port of the loopback address."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False
