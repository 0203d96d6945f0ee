"""Our side: a database filled by dataset.py and `sky-aaa serve radius` on top of it."""

from __future__ import annotations

import hashlib
import os
import re
import socket
import subprocess
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

from aaa_server.storage.migrate import migrate
from aaa_server.storage.secrets import Keyring
from bench import dataset
from bench.process import Child, Failed, cpu_seconds, free_ports, resident_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bench.cluster import Cluster
    from bench.dataset import Shape

ROOT = Path(__file__).parent.parent
SCHEMA = ROOT / "aaa_server" / "storage" / "schema"
WARM_SECONDS_MAX = 600.0
READY_SECONDS_MAX = 300  # five million rates are read first
COMMAND_SECONDS_MAX = 900
# Counters of /metrics, each summed over its labels.
BATCHES, BATCHED = "sky_aaa_batches_total", "sky_aaa_requests_total"
WARMING_UP = "sky_aaa_warming_up"

CONFIGURATION = """\
[database]
url = "{url}"

[radius]
address = ["127.0.0.1"]
auth_port = {auth_port}
acct_port = {acct_port}
processes = {processes}

[metrics]
address = "127.0.0.1"
port = {metrics_port}

[secrets]
key_file = "{key_file}"
"""


class Ours:
    """A server of ours on a fresh copy of the data set of `shape`.

    `wrap` stands before the server's command ("perf record -g --"); `settings` are
    "section.key" with values, over the defaults.
    """

    secret = dataset.SECRET.decode()

    def __init__(
        self,
        cluster: Cluster,
        directory: Path,
        shape: Shape,
        *,
        name: str,
        label: str,
        processes: int = 1,
        wrap: Sequence[str] = (),
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.cluster = cluster
        self.database = f"run_{label}"
        self.processes = processes
        self.directory = directory
        directory.mkdir(exist_ok=True)
        self.auth_port, self.acct_port = free_ports(2)
        self.metrics_port = free_ports(1, socket.SOCK_STREAM)[0]
        cluster.copy(filled(cluster, directory, shape), self.database)
        self.file = self.configure(directory / f"{label}.toml")
        self.settings = settings or {}
        log = directory / f"{label}.log"
        log.write_bytes(b"")
        self.child = Child(
            [*wrap, sky_aaa(), "--config", self.file, "serve", "radius"],
            log,
            environment=environment(self.settings),
        )

    def configure(self, file: Path) -> Path:
        """Writes the server's configuration file."""
        return write_configuration(
            file,
            url=self.cluster.url(self.database),
            key_file=key_file(self.directory),
            ports=(self.auth_port, self.acct_port, self.metrics_port),
            processes=self.processes,
        )

    def wait(self) -> None:
        """Returns when it is ready, and holds the accounts that it has room for."""
        address = f"http://127.0.0.1:{self.metrics_port}"
        self.child.wait_until(lambda: fetched(f"{address}/readyz") is not None, READY_SECONDS_MAX)
        self.child.wait_until(
            lambda: not summed([fetched(f"{address}/metrics") or f"{WARMING_UP} 1"], WARMING_UP),
            WARM_SECONDS_MAX,
        )

    def cpu(self) -> tuple[float, float]:
        return cpu_seconds(self.child.pid), self.cluster.cpu_seconds()

    def batches(self) -> tuple[float, float]:
        """Of all processes that can be reached; each has the next metrics port."""
        pages = [
            fetched(f"http://127.0.0.1:{self.metrics_port + number}/metrics") or ""
            for number in range(self.processes)
        ]
        return summed(pages, BATCHES), summed(pages, BATCHED)

    def command(self, *arguments: str) -> Child:
        """`sky-aaa` on this server's database, running; to be stopped by the caller."""
        return Child(
            [sky_aaa(), "--config", self.file, *arguments],
            self.directory / f"{arguments[0]}.log",
            environment=environment({}),
        )

    def memory_bytes(self) -> int:
        return resident_bytes(self.child.pid)

    def stored(self) -> int:
        """Calls that have a record and were ended by their Stop."""
        return self.cluster.count(self.database, "SELECT count(*) FROM cdr WHERE ended_by = 'stop'")

    def check(self) -> tuple[str, ...]:
        """What `sky-aaa audit` finds wrong; nothing when it says 0 differences."""
        done = command(self.file, "audit")
        if done.returncode == 0:
            return ()
        return (f"sky-aaa audit: {(done.stdout or done.stderr).strip()}",)

    def stop(self) -> None:
        self.child.stop()


def environment(settings: Mapping[str, str]) -> dict[str, str]:
    """This process's, without what would lead sky-aaa to another database or port."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("SKY_AAA_") and name != "DATABASE_URL"
    }
    return kept | {
        "SKY_AAA_" + name.replace(".", "_").upper(): value for name, value in settings.items()
    }


def write_configuration(
    file: Path, *, url: str, key_file: Path, ports: tuple[int, int, int], processes: int = 1
) -> Path:
    """`ports`: authorisation, accounting, metrics."""
    auth_port, acct_port, metrics_port = ports
    file.write_text(
        CONFIGURATION.format(
            url=url,
            auth_port=auth_port,
            acct_port=acct_port,
            metrics_port=metrics_port,
            processes=processes,
            key_file=key_file,
        )
    )
    return file


def sky_aaa() -> Path:
    """The command of the environment that `make .venv` built."""
    path = ROOT / ".venv" / "bin" / "sky-aaa"
    if not path.exists():
        raise Failed(f"{path} is not there: run make .venv")
    return path


def command(file: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs `sky-aaa` with a configuration file."""
    return subprocess.run(
        [sky_aaa(), "--config", file, *arguments],
        env=environment({}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=COMMAND_SECONDS_MAX,
        check=False,
    )


def key_file(directory: Path) -> Path:
    """The key that seals the secrets of every data set; made when it is first opened."""
    return directory / "secrets.key"


def filled(cluster: Cluster, directory: Path, shape: Shape) -> str:
    """The name of a database with the data set; made when it is not there yet."""
    keyring = Keyring.open(key_file(directory))
    prefix = f"data_{shape.name}_"
    name = prefix + fingerprint(key_file(directory))
    if cluster.has(name):
        return name
    for old in cluster.named(prefix):
        cluster.drop(old)
    unfinished = f"unfinished_{shape.name}"
    cluster.create(unfinished)

    def seal(plain: bytes, table: str, row_id: int, column: str) -> bytes:
        return keyring.seal(plain, table=table, row_id=row_id, column=column)

    with cluster.connect(unfinished) as connection:
        migrate(connection)
        dataset.fill(connection, shape, seal)
    cluster.rename(unfinished, name)
    return name


def fingerprint(*more: Path) -> str:
    """Changes with the schema, with dataset.py and with the contents of `more`."""
    digest = hashlib.sha256()
    for path in (*sorted(SCHEMA.glob("*.sql")), Path(dataset.__file__), *more):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def fetched(url: str) -> str | None:
    """The page at a loopback address; None while there is none, or one that says no."""
    try:
        with urllib.request.urlopen(url, timeout=5) as page:
            text: str = page.read().decode()
    except (urllib.error.URLError, OSError):
        return None
    return text


def summed(pages: Sequence[str], counter: str) -> float:
    """A counter's value over all pages and labels (Prometheus's text format)."""
    line = re.compile(rf"^{counter}(?:\{{[^}}]*\}})? (\S+)$", re.MULTILINE)
    return sum(float(value) for page in pages for value in line.findall(page))
