"""What docs/money.md and docs/services.md say to type works on the demo, in their order."""

from __future__ import annotations

import csv
import re
import shlex
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.cli.conftest import Sky

DOCS = Path(__file__).resolve().parent.parent.parent / "docs"
WRITTEN_IN = 2026  # the year that the documents take for this one
HOME = "prefix,destination,per_minute\n34,Spain,0.01\n"
NUMBERS = "number,monthly,per_minute\n442079460102,0.50,0.004\n"


def commands(name: str) -> list[list[str]]:
    """The commands of a document, word by word, in the years from now on."""
    text = (DOCS / name).read_text(encoding="utf-8")
    blocks = "".join(re.findall(r"^```sh\n(.*?)^```", text, re.M | re.S)).replace("\\\n", " ")
    later = datetime.now(UTC).year - WRITTEN_IN
    dated = re.sub(r"\b(20\d\d)(?=-\d\d-\d\d)", lambda year: str(int(year[1]) + later), blocks)
    lines = [shlex.split(line) for line in dated.splitlines()]
    return [words[1:] for words in lines if words and words[0] == "sky-aaa"]


@pytest.mark.parametrize(("name", "least"), [("money.md", 18), ("services.md", 26)])
def test_what_a_document_says_to_type_works_on_the_demo(
    sky: Sky, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, least: int
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("home.csv").write_text(HOME)
    Path("numbers.csv").write_text(NUMBERS)
    # The README has made this list before it leads to the documents.
    assert sky("rate-group", "add", "home").status == 0
    assert sky("import-rates", "home.csv", "--rate-group", "home").status == 0
    typed, coupon = commands(name), ""
    assert len(typed) >= least
    for words in typed:
        if words[:2] == ["coupon", "redeem"]:
            words[2] = coupon
        ran = sky(*words)
        assert ran.status == 0, f"{shlex.join(words)}\n{ran.err}"
        if words[:2] == ["coupon", "create"]:
            coupon = next(csv.DictReader(ran.out.splitlines()))["code"]
    assert sky("audit").status == 0
