"""Rate files as carriers send them: what is understood, and what is a named mistake."""

from __future__ import annotations

import datetime as dt
import zipfile
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openpyxl import Workbook

from aaa_server import rate_file
from aaa_server.rate_file import Defaults, RateFile
from aaa_server.rating.money import format_micros, format_nanos
from aaa_server.sheet import BadLine, Unreadable
from aaa_server.storage.rates import RateRow

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NOW = datetime(2026, 6, 1, tzinfo=UTC)


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., RateFile]:
    """Reads a file of this text, or of these octets."""

    def read_text(content: str | bytes, **options: Any) -> RateFile:
        path = tmp_path / "rates.csv"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return rate_file.read(path, effective=NOW, **options)

    return read_text


@pytest.fixture
def read_sheet(tmp_path: Path) -> Callable[..., RateFile]:
    """Reads an XLSX file with these rows."""

    def read_rows(*rows: list[Any], **options: Any) -> RateFile:
        book = Workbook()
        assert book.active is not None
        for row in rows:
            book.active.append(row)
        path = tmp_path / "rates.xlsx"
        book.save(path)
        return rate_file.read(path, effective=NOW, **options)

    return read_rows


def test_our_own_columns_are_read(read: Callable[..., RateFile]) -> None:
    found = read(
        "prefix,destination,connect_fee,per_minute,included_seconds,initial_seconds,"
        "increment_seconds,minimum_charge,effective_from,effective_to,blocked,strip,prepend,"
        "priority\n"
        "44,United Kingdom,0.05,0.0123,10,30,6,0.02,2026-07-01,2026-08-01T12:00:00+02:00,no,2,"
        "00,-5\n"
        "\n"
        "4490,,,0.5,,,,,,,yes,,,\n"
    )
    assert found.bad == []
    assert found.ignored == []
    assert found.lines == 2
    assert found.rows == [
        RateRow(
            prefix="44",
            per_minute_nanos=12_300_000,
            initial_seconds=30,
            increment_seconds=6,
            connect_fee_micros=50_000,
            included_seconds=10,
            minimum_charge_micros=20_000,
            destination="United Kingdom",
            strip=2,
            prepend="00",
            priority=-5,
            effective_from=datetime(2026, 7, 1, tzinfo=UTC),
            effective_to=datetime(2026, 8, 1, 10, tzinfo=UTC),
            line=2,
        ),
        RateRow("4490", 500_000_000, blocked=True, line=4),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "prefix,per_minute\n44,0.1\n",
        "prefix;per_minute\n44;0,1\n",
        "prefix;per_minute\n44;0.1\n",
        "prefix\tper_minute\n44\t0.1\n",
        "\ufeffprefix,per_minute\r\n44,0.1\r\n",
        "sep=;\nprefix;per_minute\n44;0,1\n",
        '"prefix","per_minute"\n"44","0.1"',
        "Code,Destination,Connection Cost,Grace Time,Cost / Min,Initial Increment,Increment\n"
        "44,,0,0,0.1,60,60\n",
        "Dial Code;Country;Rate (USD)\n+44;;$0.1\n",
        "Country,Dialcode,Price/Min,Interval 1/N\n,44,0.1,60/60\n",
        "Destination Name,Prefix,New Rate EUR,Billing Increment\n,44,0.1,60/60\n",
        "ACME Telecom\n\nPrices, valid until further notice\n\nCode,Rate\n44,0.1\n",
        "prefix,per_minute,effective_to\n44,0.1,never\n",
        "prefix,per_minute,effective_to\n44,0.1,9999-12-31 23:59:59\n",
        "prefix,per_minute,effective_from\n44,0.1,0000-00-00 00:00:00\n",
    ],
)
def test_the_form_of_a_list_is_found_by_itself(read: Callable[..., RateFile], text: str) -> None:
    found = read(text)
    assert found.bad == []
    assert [row._replace(line=0) for row in found.rows] == [RateRow("44", 100_000_000)]


@pytest.mark.parametrize(
    ("header", "cell", "initial", "increment"),
    [
        ("Interval 1/N", "60/1", 60, 1),
        ("Billing Increments", "30+6", 30, 6),
        ("Rounding", "1-1", 1, 1),
        ("Increments", "0/60", 0, 60),
        ("interval", "6", 6, 6),
        ("Increment", "30/6", 30, 6),
        ("Increment", "6", 55, 6),
        ("Initial Increment", "30", 30, 7),
        ("interval", "", 55, 7),
    ],
)
def test_block_lengths_are_read_or_the_groups_own(
    read: Callable[..., RateFile], header: str, cell: str, initial: int, increment: int
) -> None:
    found = read(f"prefix,rate,{header}\n44,0.1,{cell}\n", defaults=Defaults(55, 7))
    assert found.bad == []
    [row] = found.rows
    assert (row.initial_seconds, row.increment_seconds) == (initial, increment)


@pytest.mark.parametrize(
    ("cell", "instant"),
    [
        ("2026-07-01", datetime(2026, 6, 30, 22, tzinfo=UTC)),
        ("2026-01-01 00:00", datetime(2025, 12, 31, 23, tzinfo=UTC)),
        ("2026/07/01 08:30:00", datetime(2026, 7, 1, 6, 30, tzinfo=UTC)),
        ("1.7.2026", datetime(2026, 6, 30, 22, tzinfo=UTC)),
        ("01.07.2026 02:00", datetime(2026, 7, 1, tzinfo=UTC)),
        ("2026-07-01T00:00:00Z", datetime(2026, 7, 1, tzinfo=UTC)),
        ("2026-07-01 00:00-05:00", datetime(2026, 7, 1, 5, tzinfo=UTC)),
    ],
)
def test_times_without_a_zone_are_the_groups(
    read: Callable[..., RateFile], cell: str, instant: datetime
) -> None:
    found = read(
        f"prefix,rate,effective date\n44,0.1,{cell}\n", defaults=Defaults(time_zone="Europe/Madrid")
    )
    assert found.bad == []
    assert found.rows[0].effective_from == instant


@pytest.mark.parametrize(
    ("header", "cell", "reason"),
    [
        ("prefix", "4x", "1 to 32 digits, * and # make a prefix"),
        ("prefix", "1" * 33, "1 to 32 digits"),
        ("prefix", "4.42E+11", "a spreadsheet has rounded it"),
        ("prefix", "", "it is empty"),
        ("per_minute", "", "it is empty"),
        ("per_minute", "0.1x", "'0.1x' is not a price: digits and a point are expected"),
        ("per_minute", '"0,1"', "'0,1' is not a price"),
        ("per_minute", "-0.1", "it is below 0"),
        ("per_minute", "0.0000000001", "10 decimals, 9 are allowed"),
        ("connect_fee", "0.0000001", "7 decimals, 6 are allowed"),
        ("minimum_charge", "free", "is not an amount"),
        ("included_seconds", "1.5", "whole seconds are expected"),
        ("initial_seconds", "-1", "whole seconds are expected"),
        ("initial_seconds", "86401", "more than 86400 seconds, a day, is a mistake"),
        ("increment_seconds", "0", "an increment is at least 1 second"),
        ("interval", "60/0", "an increment is at least 1 second"),
        ("interval", "60/60/60", "initial block and increment are expected, like 60/1"),
        ("effective_from", "07/01/2026", "it is no date that has only one reading"),
        ("effective_from", "0001-01-01T00:00:00+14:00", "it is no date"),
        ("effective_from", "tomorrow", "it is no date"),
        ("effective_to", "2026-05-01", "it is not after the beginning, 2026-06-01T00:00:00"),
        ("blocked", "perhaps", "yes or no is expected"),
        ("strip", "33", "0 to 32 digits can be stripped"),
        ("prepend", "a", "digits, *, # and + can be prepended"),
        ("priority", "high", "a whole number is expected"),
    ],
)
def test_a_bad_cell_is_named_with_line_column_value_and_reason(
    read: Callable[..., RateFile], header: str, cell: str, reason: str
) -> None:
    cells = {"prefix": "44", "per_minute": "0.1", header: cell}
    found = read(f"{','.join(cells)}\n{','.join(cells.values())}\n33,0.2\n")
    [bad] = found.bad
    assert (bad.line, bad.column) == (2, header)
    if not header.startswith("effective_to"):
        assert bad.value == cell.strip('"')
    assert reason in bad.reason
    assert [row.prefix for row in found.rows] == ["33"]


def test_every_bad_cell_of_a_line_is_reported(read: Callable[..., RateFile]) -> None:
    found = read("Code,Rate,Blocked\nx,y,z\n44,0.1,no\n")
    assert [(bad.line, bad.column, bad.value) for bad in found.bad] == [
        (2, "Code", "x"),
        (2, "Rate", "y"),
        (2, "Blocked", "z"),
    ]
    assert len(found.rows) == 1


def test_a_text_with_the_delimiter_in_it_does_not_shift_the_cells_unseen(
    read: Callable[..., RateFile],
) -> None:
    found = read("prefix,rate,destination\n44,0.1,Korea, South\n")
    assert found.bad == [
        BadLine(
            2,
            "",
            " South",
            "4 cells, but 3 headers: is a quote missing around a text with the delimiter in it?",
        )
    ]


def test_one_prefix_twice_at_one_time_names_both_lines(read: Callable[..., RateFile]) -> None:
    found = read(
        "prefix,rate,effective_from\n44,0.1,\n33,0.1,\n44,0.2,2026-06-01T00:00:00Z\n"
        "44,0.3,2026-07-01\n"
    )
    assert found.bad == [
        BadLine(4, "prefix", "44", "the same prefix at the same time stands in line 2")
    ]
    assert [(row.prefix, row.line) for row in found.rows] == [("33", 3), ("44", 5)]


def test_rows_of_one_prefix_that_overlap_name_both_lines(read: Callable[..., RateFile]) -> None:
    found = read(
        "prefix,rate,effective_from,effective_to\n"
        "44,0.2,2026-07-01,2026-07-10\n44,0.3,2026-07-09,\n44,0.1,2026-06-01,2026-07-01\n"
    )
    [bad] = found.bad
    assert (bad.line, bad.value) == (3, "44")
    assert bad.reason == (
        "its row begins at 2026-07-09T00:00:00+00:00, before the one in line 2 ends"
    )
    assert [row.line for row in found.rows] == [4]


def test_a_row_must_end_after_it_begins(read: Callable[..., RateFile]) -> None:
    found = read("prefix,rate,from,to\n44,0.1,2026-07-02,2026-07-02\n")
    assert [(bad.column, bad.reason) for bad in found.bad] == [
        ("to", "it is not after the beginning")
    ]


def test_a_header_can_be_named(read: Callable[..., RateFile]) -> None:
    text = "Kennzahl,Preis,Rate,Notiz\n44,0.1,9,x\n"
    found = read(text, mapping={"prefix": "kennzahl", "per_minute": "Preis"})
    assert found.headers == {"prefix": "Kennzahl", "per_minute": "Preis"}
    assert found.ignored == ["Rate", "Notiz"]
    assert found.rows == [RateRow("44", 100_000_000, line=2)]


@pytest.mark.parametrize(
    ("content", "options", "text"),
    [
        ("", {}, "it is empty"),
        ("\n\n", {}, "it is empty"),
        ("Kennzahl,Preis\n44,0.1\n", {}, "line 1 has 'Kennzahl', 'Preis': say what is what"),
        (
            "prefix,rate\n",
            {"mapping": {"destination": "Ort"}},
            r"and 'Ort' \(--map destination\) among",
        ),
        ("prefix,rate\n", {"mapping": {"price": "rate"}}, "--map price: no such column"),
        ("prefix,rate,price\n44,1,2\n", {}, "'rate' and 'price' could both be per_minute"),
        ("prefix,rate\n44,0.1\n\xe9".encode("latin-1"), {}, r"line 3: not UTF-8 \(octet 0xe9\)"),
        (b"prefix,rate,name\n34,1,Espa\xf1a\n", {}, "line 2: .*0xf1 behind '34,1,Espa'"),
        ("prefix,rate,na\0me\n34,1,x\n", {}, "line 1, cell 3: character 3 is U\\+0000"),
        ("prefix,rate\r34,1\r", {}, "line 1: a carriage return stands alone"),
        ('prefix,rate,name\n34,1,"a"b"\n', {}, "line 2: something stands behind a closing quote"),
        (f'prefix,rate,name\n34,1,"{"x" * 140_000}"\n', {}, "line 2: a cell has more than"),
        ("prefix,rate\n".encode("utf-16"), {}, "UTF-16 text: save it as UTF-8"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", {}, "the old Excel format"),
        (b"PK\x03\x04nothing", {}, "not a readable XLSX file"),
        ('prefix,rate\n44,"0.1\n33,0.2\n', {}, "line 2: a quote is opened here and never"),
    ],
)
def test_what_is_no_rate_file_is_refused_with_what_to_do(
    read: Callable[..., RateFile], content: str | bytes, options: dict[str, Any], text: str
) -> None:
    with pytest.raises(Unreadable, match=text):
        read(content, **options)


def test_of_several_names_of_a_destination_the_plainest_is_taken(
    read: Callable[..., RateFile],
) -> None:
    found = read("country,destination,code,rate\nSpain,Spain Mobile,346,0.1\n")
    assert found.rows[0].destination == "Spain Mobile"
    assert found.ignored == ["country"]


def test_a_spreadsheet_reads_like_a_text_file(read_sheet: Callable[..., RateFile]) -> None:
    found = read_sheet(
        ["ACME price list", None],
        [],
        ["Code", "Rate", "Effective Date", "Blocked", "Increment", "Destination"],
        [44, 0.1 + 0.2, dt.date(2026, 7, 1), None, None, "UK"],
        ["0044", 1e-05, datetime.fromisoformat("2026-07-01T12:00"), True, "60/1", None],
        [None, None],
        [33.0, 2, "2026-07-01", False, 6, 75],
        [34, "n/a", None, None, None, None],
    )
    assert [
        (
            row.line,
            row.prefix,
            format_nanos(row.per_minute_nanos),
            row.effective_from,
            row.blocked,
            row.increment_seconds,
            row.destination,
        )
        for row in found.rows
    ] == [
        (4, "44", "0.3000", datetime(2026, 7, 1, tzinfo=UTC), False, 60, "UK"),
        (5, "0044", "0.00001", datetime(2026, 7, 1, 12, tzinfo=UTC), True, 1, ""),
        (7, "33", "2.0000", datetime(2026, 7, 1, tzinfo=UTC), False, 6, "75"),
    ]
    assert [(bad.line, bad.column, bad.value) for bad in found.bad] == [(8, "Rate", "n/a")]
    assert found.lines == 4


def test_a_spreadsheet_that_breaks_off_is_refused(tmp_path: Path) -> None:
    book = Workbook()
    assert book.active is not None
    for number in range(200):
        book.active.append(["prefix", "rate"] if not number else [f"44{number}", 0.1])
    good = tmp_path / "good.xlsx"
    book.save(good)
    bad = tmp_path / "bad.xlsx"
    with zipfile.ZipFile(good) as source, zipfile.ZipFile(bad, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            if name.endswith("sheet1.xml"):
                content = content[: len(content) // 2]
            target.writestr(name, content)
    with pytest.raises(Unreadable, match=r"broken XLSX|not a readable XLSX"):
        rate_file.read(bad, effective=NOW)


def test_progress_is_told_in_the_files_own_size(tmp_path: Path) -> None:
    path = tmp_path / "rates.csv"
    path.write_text("prefix,rate\n" + "".join(f"{number},0.1\n" for number in range(1, 5001)))
    told: list[tuple[int, int]] = []
    rate_file.read(path, effective=NOW, progress=lambda done, size: told.append((done, size)))
    assert len(told) == 2
    assert all(0 < done <= size == path.stat().st_size for done, size in told)


CELLS = st.text(
    st.characters(codec="utf-8", exclude_characters="\x00"), max_size=8
) | st.sampled_from(
    ["44", "0.1", "0,1", "prefix", "rate", "60/1", "2026-07-01", ";", ",", '"', "\n", "\t"]
)


@settings(max_examples=300)
@given(st.lists(st.lists(CELLS, max_size=4), max_size=5), st.sampled_from(",;\t"))
def test_any_file_is_read_or_refused_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, lines: list[list[str]], delimiter: str
) -> None:
    path = tmp_path_factory.mktemp("any") / "rates.csv"
    text = f"prefix{delimiter}rate\n" + "\n".join(delimiter.join(cells) for cells in lines)
    path.write_bytes(text.encode())
    try:
        found = rate_file.read(path, effective=NOW)
    except Unreadable:
        return
    assert all(row.prefix and row.per_minute_nanos >= 0 for row in found.rows)
    assert all(bad.line >= 1 and bad.reason for bad in found.bad)


@given(
    st.lists(
        st.builds(
            RateRow,
            prefix=st.text("0123456789*#", min_size=1, max_size=32),
            per_minute_nanos=st.integers(0, 10**12),
            initial_seconds=st.integers(0, 3600),
            increment_seconds=st.integers(1, 3600),
            connect_fee_micros=st.integers(0, 10**9),
            destination=st.text(st.characters(min_codepoint=33, codec="utf-8"), max_size=9),
        ),
        max_size=5,
        unique_by=lambda row: row.prefix,
    ),
    st.sampled_from(",;\t"),
)
def test_what_is_written_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, rows: list[RateRow], delimiter: str
) -> None:
    path = tmp_path_factory.mktemp("back") / "rates.csv"
    header = ["prefix", "destination", "connect_fee", "per_minute", "interval"]
    lines = [header] + [
        [
            row.prefix,
            '"' + row.destination.replace('"', '""') + '"',
            format_micros(row.connect_fee_micros),
            format_nanos(row.per_minute_nanos),
            f"{row.initial_seconds}/{row.increment_seconds}",
        ]
        for row in rows
    ]
    path.write_text("\n".join(delimiter.join(cells) for cells in lines), "utf-8", newline="")
    found = rate_file.read(path, effective=NOW)
    assert found.bad == []
    assert [row._replace(line=0, destination="") for row in found.rows] == [
        row._replace(destination="") for row in rows
    ]
    assert [row.destination for row in found.rows] == [row.destination.strip() for row in rows]
