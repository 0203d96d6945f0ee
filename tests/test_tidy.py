"""The rules of the tree that no linter knows: layers, purity, where SQL lives, what is named."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "aaa_server"

# A module may import its own layer and those below it; the longest name decides.
LAYERS = {
    f"{PACKAGE}.config": 0,
    f"{PACKAGE}.rating": 1,
    f"{PACKAGE}.charging": 2,
    f"{PACKAGE}.storage": 3,
    f"{PACKAGE}.group_commit": 3,
    f"{PACKAGE}.rate_file": 3,
    f"{PACKAGE}.sheet": 3,
    f"{PACKAGE}.provider_file": 3,
    f"{PACKAGE}.radius": 3,
    f"{PACKAGE}.diameter": 3,
    f"{PACKAGE}.online_charging": 4,
    f"{PACKAGE}.auth": 5,
    f"{PACKAGE}.emergency": 5,
    f"{PACKAGE}.session_keys": 5,
    f"{PACKAGE}.accounting": 5,
    f"{PACKAGE}.credit_control": 5,
    f"{PACKAGE}.radius.server": 6,
    f"{PACKAGE}.diameter.server": 6,
    f"{PACKAGE}.cli": 6,
    f"{PACKAGE}.compile": 6,
    f"{PACKAGE}.compiled": 6,
    f"{PACKAGE}.demo": 6,
    f"{PACKAGE}.large_pages": 6,
    f"{PACKAGE}.log": 6,
    f"{PACKAGE}.metrics": 6,
    f"{PACKAGE}.service": 6,
    f"{PACKAGE}.switch_agent": 6,
    f"{PACKAGE}.worker": 6,
    "web_reports": 6,
}
EDGES = 6
STRANGERS = (f"{PACKAGE}.radius", f"{PACKAGE}.diameter")

PURE = (f"{PACKAGE}.rating", f"{PACKAGE}.charging")
PURE_IMPORTS = {
    "__future__", "bisect", "collections", "dataclasses", "datetime", "enum", "functools",
    "hashlib", "heapq", "hmac", "ipaddress", "itertools", "json", "operator", "re", "types",
    "typing",
}  # fmt: skip
# Of math only what stays with integers.
PURE_NAMES = {"math.gcd", "math.isqrt", "math.lcm"}
CLOCKS = {"now", "utcnow", "today", "time", "monotonic", "perf_counter"}

FUNCTION_LINES_MAX = 70
# What says nothing about what a thing is.
EMPTY_NAMES = re.compile(r"(?i)(handler|manager|engine|processor|util|helper)s?(?![a-z])")
STATEMENT = re.compile(
    r"\b(SELECT\s|INSERT\s+INTO\s|UPDATE\s+\w+\s+SET\s|DELETE\s+FROM\s"
    r"|(CREATE|DROP|ALTER)\s+(TABLE|INDEX|ROLE|DATABASE|FUNCTION|VIEW)\s|TRUNCATE\s|COPY\s+\w+\s)"
)
# Put together here, so that this file does not name them itself.
MACHINE_PATHS = re.compile(
    "|".join([r"(?<![\w.])/" + "work/", r"/" + "root/", r"/" + r"home/\w", r"\.\./" + "shared"])
)
UNFINISHED = re.compile(
    "|".join(["TO" + "DO", "FIX" + "ME", "pragma: no" + " cover", r"(mark|pytest)\.sk" + "ip"])
)
TEXTS = {".py", ".sql", ".md", ".toml", ".txt", ".tac", ".lua", ".csv", ".json", ".sh", ".c", ""}
PASSED_OVER = {"__pycache__", "var", "build", "captures"}


def files(*folders: str) -> Iterator[Path]:
    """The project's own files in `folders`, or in all of the tree."""
    for folder in folders or (".",):
        for path in sorted((ROOT / folder).iterdir()) if (ROOT / folder).is_dir() else []:
            hidden = path.name.startswith(".") and path.name not in {".ci", ".gitignore"}
            if hidden or path.name in PASSED_OVER or path.name.endswith(".egg-info"):
                continue
            if path.is_dir():
                yield from files(str(path.relative_to(ROOT)))
            else:
                yield path


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


SOURCES = [path for path in files(PACKAGE, "web_reports") if path.suffix == ".py"]
ALL_PYTHON = [path for path in files() if path.suffix in {".py", ".tac"}]
PURE_SOURCES = [path for path in SOURCES if module_name(path).startswith(PURE)]


def each(paths: list[Path]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("path", paths, ids=lambda path: str(path.relative_to(ROOT)))


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Line and dotted name of all that a module imports, relative imports spelled out."""
    package = module_name(path).split(".")
    if path.name != "__init__.py":
        package = package[:-1]
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            origin = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                yield node.lineno, f"{origin}.{alias.name}"


def layer_of(name: str) -> tuple[str, int] | None:
    """The longest known name that `name` is or lies below, and its layer."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        prefix = ".".join(parts[:length])
        if prefix in LAYERS:
            return prefix, LAYERS[prefix]
    return None


def found(path: Path, pattern: re.Pattern[str]) -> list[str]:
    return [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if pattern.search(line)
    ]


# ------------------------------------------------------------------ layers


@each(SOURCES)
def test_a_module_imports_its_own_layer_and_those_below(path: Path) -> None:
    own = layer_of(module_name(path))
    if path.name == "__init__.py" and own is None:
        return
    assert own is not None, f"{path.name} has no layer: add it to LAYERS"
    for line, name in imports(path):
        other = layer_of(name)
        if other is None:
            continue
        assert other[1] <= own[1], f"line {line}: layer {own[1]} imports {name} of {other[1]}"
        if own[0].startswith(STRANGERS) and other[0].startswith(STRANGERS):
            assert own[0].split(".")[1] == other[0].split(".")[1], f"line {line}: {name}"


@each(SOURCES)
def test_the_reactor_is_an_argument_below_the_edges(path: Path) -> None:
    own = layer_of(module_name(path))
    if own is None or own[1] < EDGES:
        assert "twisted.internet.reactor" not in [name for _, name in imports(path)]


@each(PURE_SOURCES)
def test_a_pure_module_imports_nothing_impure(path: Path) -> None:
    for line, name in imports(path):
        pure = name.partition(".")[0] in PURE_IMPORTS or name in PURE_NAMES
        assert pure or name.startswith(PURE), f"line {line}: {name}"


@each(PURE_SOURCES)
def test_a_pure_module_has_no_division_no_float_and_no_clock(path: Path) -> None:
    for node in ast.walk(tree(path)):
        line = getattr(node, "lineno", 0)
        if isinstance(node, ast.BinOp | ast.AugAssign):
            assert not isinstance(node.op, ast.Div), f"line {line}: / loses micros"
        elif isinstance(node, ast.Constant):
            assert not isinstance(node.value, float), f"line {line}: {node.value} is a float"
        elif isinstance(node, ast.Name):
            assert node.id != "float", f"line {line}: float"
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            assert node.func.attr not in CLOCKS, f"line {line}: a clock is read"


# ------------------------------------------------------------------ SQL


def spoken_texts(module: ast.Module) -> Iterator[ast.Constant]:
    """The constants of a module that are no docstrings."""
    documentation = {
        id(node.body[0].value)
        for node in ast.walk(module)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(module):
        if isinstance(node, ast.Constant) and id(node) not in documentation:
            yield node


@each([path for path in SOURCES if not module_name(path).startswith(f"{PACKAGE}.storage")])
def test_sql_lives_in_storage_and_reports(path: Path) -> None:
    for node in spoken_texts(tree(path)):
        assert not STATEMENT.search(str(node.value)), f"line {node.lineno}: SQL"


# ------------------------------------------------------------------ shapes and names


@each(ALL_PYTHON)
def test_a_function_fits_on_a_screen(path: Path) -> None:
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            lines = node.end_lineno - node.lineno + 1
            assert lines <= FUNCTION_LINES_MAX, f"{node.name} has {lines} lines"


@each(SOURCES)
def test_a_name_says_what_the_thing_is(path: Path) -> None:
    assert not EMPTY_NAMES.search(path.stem), path.stem
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ClassDef):
            assert not EMPTY_NAMES.search(node.name), f"line {node.lineno}: {node.name}"


@each([path for path in ALL_PYTHON if path.name == "__init__.py"])
def test_init_is_empty(path: Path) -> None:
    assert path.read_text(encoding="utf-8") == ""


@each([path for path in files() if path.suffix in TEXTS])
def test_nothing_is_left_undone_and_no_machine_is_named(path: Path) -> None:
    assert found(path, MACHINE_PATHS) == []
    assert found(path, UNFINISHED) == []


# ------------------------------------------------------------------ README

README = ROOT / "README.md"
ENTRY = re.compile(r"[\w.*-]+(/[\w.*-]*)*")
LOOKS_LIKE_A_FILE = re.compile(r"[\w.*/-]+(/|\.(py|sql|md|toml|tac|lua|csv|txt|json))")


def fenced_blocks(text: str) -> list[list[str]]:
    return [block.splitlines()[1:] for block in re.findall(r"^```(.*?)^```", text, re.M | re.S)]


def tree_entries(block: list[str]) -> Iterator[str]:
    """The paths in a map of the tree: two blanks a level, then the names, then what they are."""
    parents: list[tuple[int, str]] = []
    for line in block:
        indent = len(line) - len(line.lstrip())
        names = line.split()
        if not names or not ENTRY.fullmatch(names[0]):
            continue
        while parents and parents[-1][0] >= indent:
            parents.pop()
        folder = "".join(name for _, name in parents)
        yield folder + names[0]
        for name in names[1:]:
            if not LOOKS_LIKE_A_FILE.fullmatch(name):
                break
            yield folder + name
        if names[0].endswith("/"):
            parents.append((indent, names[0]))


def test_the_readme_s_map_names_what_exists() -> None:
    text = README.read_text(encoding="utf-8") if README.exists() else ""
    maps = [block for block in fenced_blocks(text) if f"{PACKAGE}/" in " ".join(block).split()]
    entries = [entry for block in maps for entry in tree_entries(block)]
    assert [entry for entry in entries if not list(ROOT.glob(entry.rstrip("/")))] == []
    assert bool(entries) == README.exists(), "README.md has no map of the tree"


def test_links_in_the_documentation_lead_somewhere() -> None:
    for path in files():
        if path.suffix != ".md":
            continue
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8")):
            assert (path.parent / target).exists(), f"{path.relative_to(ROOT)}: {target}"
