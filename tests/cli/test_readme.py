"""What the README says to type works, in the order in which it is read."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.cli.conftest import Sky

ROOT = Path(__file__).resolve().parent.parent.parent
BLOCK_SECONDS_MAX = 120


def blocks() -> list[tuple[str, str]]:
    """Each block of commands, and the output that is shown right behind it ('' for none)."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return re.findall(r"^```sh\n(.*?)^```\n(?:\n```text\n(.*?)^```)?", text, re.M | re.S)


def lasting(text: str) -> list[str]:
    """The lines without what differs from run to run: times, ports, numbers, signatures."""
    lines = []
    for line in text.splitlines():
        if re.search(r"Received|Message-Authenticator|^call |authorized|^ended| at 2026-", line):
            continue
        lines.append(" ".join(re.sub(r"row \d+", "row", line).split()))
    return lines


def test_what_the_readme_says_to_type_works(served: Sky, tmp_path: Path) -> None:
    folder = tmp_path / "clone"
    programs = folder / ".venv" / "bin"
    programs.mkdir(parents=True)
    program = programs / "sky-aaa"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m aaa_server.cli.main "$@"\n')
    program.chmod(0o755)
    ports = {"1812": "SKY_AAA_RADIUS_AUTH_PORT", "1813": "SKY_AAA_RADIUS_ACCT_PORT"}
    told = 0
    for commands, shown in blocks():
        for number, variable in ports.items():
            commands = commands.replace(
                f"127.0.0.1:{number} ", f"127.0.0.1:{os.environ[variable]} "
            )
        ran = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", commands],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=BLOCK_SECONDS_MAX,
            check=False,
        )
        assert ran.returncode == 0, f"{commands}\n{ran.stdout}\n{ran.stderr}"
        printed = lasting(ran.stdout)
        missing = [line for line in lasting(shown) if line not in printed]
        assert missing == [], f"{commands}\n{ran.stdout}"
        told += bool(shown)
    assert told == 3
    assert served("audit").status == 0
