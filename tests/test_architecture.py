"""Imports point one way, as the architecture draws them."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.processes import ROOT

LAYERS: list[set[str]] = [
    {"service.__main__"},
    {"service.cli", "service.worker", "service.gunicorn"},
    {"service.workers"},
    {"service.server"},
    {"service.app", "service.connections", "service.dispatch", "service.listening"},
    {
        *("service.routes", "service.docs", "service.lifespan", "service.middleware"),
        *("service.cors", "service.tracing", "service.spans"),
    },
    {"service.handlers"},
    {
        *("service.requests", "service.bodies", "service.forms", "service.pagination"),
        *("service.lookups", "service.casts", "service.results", "service.exports"),
        *("service.streams", "service.proxies"),
        *("service.responses", "service.policy", "service.views"),
    },
    {"service.keys"},
    {"service.call"},
    {"service.principal", "service.settings", "service.metrics", "service.quotas"},
    {"service.logs"},
    {"schemas", "storage"},
]
"""From the top; a module imports what is on its own layer or below it."""
DRIVER = {"motor", "pymongo", "bson", "mongomock_motor"}
PACKAGES = ("service", "schemas", "storage")


def modules() -> Iterator[tuple[str, Path]]:
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            parts = path.relative_to(ROOT).with_suffix("").parts
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


MODULES = dict(modules())


def imports_of(module: str) -> set[str]:
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
    return named


def layer_of(module: str) -> int | None:
    """None for a package's own ``__init__``, which holds nothing, and for what is not ours."""
    for number, layer in enumerate(LAYERS):
        if any(module == name or module.startswith(f"{name}.") for name in layer):
            return number
    return None


def test_every_module_has_its_layer() -> None:
    assert len(MODULES) > 30
    assert [module for module in MODULES if layer_of(module) is None] == ["service"]
    assert imports_of("service") == set()
    for name in set.union(*LAYERS):
        assert name in MODULES, f"{name} is drawn and not there"


@pytest.mark.parametrize("module", sorted(MODULES))
def test_no_module_imports_what_is_above_it(module: str) -> None:
    own = layer_of(module)
    for named in imports_of(module):
        other = layer_of(named)
        if own is not None and other is not None:
            assert other >= own, f"{module} imports {named}, which is above it"


@pytest.mark.parametrize("package", ["schemas", "storage"])
def test_schemas_and_storage_know_neither_each_other_nor_http(package: str) -> None:
    others = {"service", "schemas", "storage", "aiohttp", "orjson"} - {package}
    for module in MODULES:
        if module.split(".")[0] == package:
            tops = {named.split(".")[0] for named in imports_of(module)}
            assert not tops & others, f"{module} imports {tops & others}"


def test_modules_do_not_import_each_other_in_a_circle() -> None:
    below = {module: imports_of(module) & set(MODULES) for module in MODULES}
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join([*path, module])
        if module not in done:
            for named in sorted(below[module]):
                visit(named, (*path, module))
            done.add(module)

    for module in sorted(MODULES):
        visit(module, ())


def test_one_module_names_the_driver() -> None:
    naming = {
        module
        for module in MODULES
        if {named.split(".")[0] for named in imports_of(module)} & DRIVER
    }
    assert naming == {"storage.client"}


def test_pure_modules_await_nothing() -> None:
    for module in (
        "service.policy",
        "service.views",
        "service.principal",
        "storage.documents",
        "storage.voting",
    ):
        tree = ast.parse(MODULES[module].read_text())
        assert not [node for node in ast.walk(tree) if isinstance(node, ast.AsyncFunctionDef)]
