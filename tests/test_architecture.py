"""Imports point one way, as ``docs/architecture.md`` draws them."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.support.processes import ROOT

PACKAGES: dict[str, set[str]] = {
    "schemas": set(),
    "storage": set(),
    "service.settings": {"storage"},
    "service.rules": {"schemas", "storage"},
    "service.telemetry": {"storage"},
    "service.web": {
        *("service.settings", "service.rules", "service.telemetry", "schemas", "storage"),
    },
    "service.casting": {"service.web", "service.rules", "service.telemetry", "storage"},
    "service.live": {
        *("service.casting", "service.web", "service.rules", "service.telemetry"),
        *("service.settings", "schemas", "storage"),
    },
    "service.content": {
        *("service.casting", "service.live", "service.web", "service.rules"),
        *("schemas", "storage"),
    },
    "service.polling": {
        *("service.casting", "service.live", "service.web", "service.rules"),
        *("schemas", "storage"),
    },
    "service.tokens": {"service.web", "service.rules", "schemas", "storage"},
    "service.audit": {"service.web", "service.rules", "schemas", "storage"},
    "service.people": {"service.web", "service.rules", "schemas", "storage"},
    "service.openapi": {"service.live", "service.polling", "service.web", "schemas", "storage"},
    "service.routes": {
        *("service.content", "service.live", "service.polling", "service.tokens"),
        *("service.people", "service.audit", "service.openapi", "service.web"),
    },
    "service.app": {
        *("service.routes", "service.openapi", "service.live", "service.web"),
        *("service.telemetry", "service.settings", "storage"),
    },
    "service.server": {
        *("service.app", "service.web", "service.telemetry", "service.settings", "storage"),
    },
    "service.cli": {
        *("service.server", "service.app", "service.openapi", "service.web", "service.telemetry"),
        *("service.rules", "service.settings", "schemas", "storage"),
    },
    "service.__main__": {"service.cli"},
}
"""What each package, or module beside the packages, imports of the others."""
MAX_FLOORS = 12
ONE_FLOOR = "storage.client."
"""Modules that others see as one, so they need not know how many are behind it."""
DRIVER = {"motor", "pymongo", "bson", "mongomock_motor"}


def modules() -> Iterator[tuple[str, Path]]:
    for package in ("service", "schemas", "storage"):
        for path in (ROOT / package).rglob("*.py"):
            parts = path.relative_to(ROOT).with_suffix("").parts
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


MODULES = dict(modules())


@cache
def imports_of(module: str) -> frozenset[str]:
    """The modules it names, wherever in it; ``from a import b`` names ``a.b`` where that is one."""
    named: set[str] = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if isinstance(node, ast.Import):
            named |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively"
            base = node.module or ""
            for alias in node.names:
                below = f"{base}.{alias.name}"
                named.add(below if below in MODULES else base)
    return frozenset(named)


def package_of(module: str) -> str | None:
    return next((p for p in PACKAGES if f"{module}.".startswith(f"{p}.")), None)


@pytest.mark.parametrize("module", sorted(MODULES.keys() - {"service"}))
def test_a_module_imports_what_its_package_may(module: str) -> None:
    own = package_of(module)
    assert own is not None, f"{module} has no place in the drawing"
    others = {package_of(named) for named in imports_of(module)} - {own, None}
    assert others <= PACKAGES[own], f"{module} imports {others - PACKAGES[own]}"


@cache
def floors_below(module: str, *path: str) -> int:
    assert module not in path, " -> ".join([*path, module])
    below = imports_of(module) & MODULES.keys()
    own = 0 if module.startswith(ONE_FLOOR) else 1
    return own + max((floors_below(named, *path, module) for named in below), default=0)


def test_there_are_few_floors_and_no_circles() -> None:
    assert floors_below("service.__main__") <= MAX_FLOORS
    assert {module: floors_below(module) for module in MODULES}


def test_schemas_and_storage_know_no_http() -> None:
    for module in MODULES:
        if package_of(module) in ("schemas", "storage"):
            tops = {named.split(".")[0] for named in imports_of(module)}
            assert not tops & {"service", "aiohttp", "orjson"}, module


def test_the_rules_load_neither_http_nor_the_driver() -> None:
    """Also not by what they import: they can be read, and run, by themselves."""
    rules = ", ".join(module for module in MODULES if module.startswith("service.rules."))
    program = f"import sys, {rules}; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    tops = {name.split(".")[0] for name in loaded.stdout.split()}
    assert "service" in tops
    assert not tops & (DRIVER | {"aiohttp", "structlog"})


def test_one_package_names_the_driver() -> None:
    naming = {
        module
        for module in MODULES
        if {named.split(".")[0] for named in imports_of(module)} & DRIVER
    }
    assert naming
    assert {module for module in naming if not f"{module}.".startswith(ONE_FLOOR)} == set()


def test_others_import_what_that_package_makes_public_and_none_of_its_modules() -> None:
    for module in MODULES:
        if not f"{module}.".startswith(ONE_FLOOR):
            inside = {one for one in imports_of(module) if one.startswith(ONE_FLOOR)}
            assert not inside, module


def test_pure_modules_await_nothing() -> None:
    rules = {module for module in MODULES if module.startswith("service.rules.")}
    for module in (*rules, "storage.documents", "storage.voting"):
        tree = ast.parse(MODULES[module].read_text())
        assert not [node for node in ast.walk(tree) if isinstance(node, ast.AsyncFunctionDef)]
