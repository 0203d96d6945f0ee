"""Compiled modules are used only where they are of the sources as they are."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import pytest

from aaa_server import compile, compiled

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    record(tmp_path, compiled.hashes())
    return tmp_path


def record(folder: Path, hashes: dict[str, str]) -> None:
    (folder / compiled.HASHES).write_text(json.dumps(hashes), encoding="utf-8")


def test_what_was_made_of_these_sources_can_be_used(folder: Path) -> None:
    assert compiled.why_not(folder) == ""


def test_without_compiled_modules_the_sources_run(tmp_path: Path) -> None:
    assert compiled.use(tmp_path) == "interpreted: not compiled; make compiled"


def test_one_changed_source_turns_all_compiled_modules_down(folder: Path) -> None:
    record(folder, {**compiled.hashes(), "aaa_server.charging.settle": "0"})
    assert compiled.use(folder) == (
        "interpreted: aaa_server.charging.settle has changed since it was compiled; make compiled"
    )


def test_another_python_has_no_use_for_them(folder: Path) -> None:
    record(folder, {**compiled.hashes(), "Python": "cpython-27"})
    assert compiled.why_not(folder).startswith("Python has changed")


def test_another_set_of_modules_is_of_another_version(folder: Path) -> None:
    record(folder, {"aaa_server.charging.settle": "0"})
    assert compiled.why_not(folder) == "compiled for another version; make compiled"


def test_half_a_record_is_none(tmp_path: Path) -> None:
    (tmp_path / compiled.HASHES).write_text("{", encoding="utf-8")
    assert compiled.why_not(tmp_path).startswith("not compiled")


def test_compiled_and_interpreted_modules_do_not_mix(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    early = compiled.MODULES[0]
    monkeypatch.setitem(sys.modules, early, sys)
    assert compiled.use(folder) == f"interpreted: {early} was imported too early"


def test_only_the_hot_modules_are_found_there(tmp_path: Path) -> None:
    finder = compiled.Finder(tmp_path)
    found = finder.find_spec("aaa_server.charging.settle")
    assert found is not None
    assert found.origin == str(compiled.library_file(tmp_path, "aaa_server.charging.settle"))
    assert finder.find_spec("aaa_server.rating.money") is None
    assert finder.find_spec("json") is None


def test_without_a_compiler_nothing_is_wanted_and_what_is_lacking_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(compiled, "why_not", lambda: "not compiled")
    monkeypatch.setenv("PATH", "")
    assert compile.main(["--wanted"]) == 1
    assert capsys.readouterr().err.startswith("no C compiler")


def test_what_is_current_is_not_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "why_not", lambda: "")
    assert compile.main(["--wanted"]) == 1
    assert compile.main([]) == 0
