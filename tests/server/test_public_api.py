"""The service uses what aiohttp makes public, and nothing else of it: no name, no inherited one."""

import ast
import importlib
import inspect
import pkgutil
import textwrap
from collections.abc import Iterator
from functools import cache

import aiohttp
import aiohttp.web
import pytest

from tests.test_architecture import MODULES

OURS = sorted(module for module in MODULES if module.startswith("service."))
DOCUMENTED = {"_exit", "_asdict", "_replace"}
"""Of the standard library, public in spite of their names."""


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name not in DOCUMENTED


@cache
def private_names_of(cls: type) -> frozenset[str]:
    """The private names of aiohttp's classes among the bases of ``cls``, of instances too."""
    names: set[str] = set()
    for base in cls.__mro__:
        if base.__module__.split(".")[0] == "aiohttp":
            names.update(vars(base), getattr(base, "__slots__", ()))
            tree = ast.parse(textwrap.dedent(inspect.getsource(base)))
            names |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    return frozenset(name for name in names if is_private(name))


def uses_of_private_names(module: str, tree: ast.Module) -> Iterator[str]:
    """What a module takes of others that is private, and of its own that aiohttp has too."""
    for node in ast.walk(tree):
        match node:
            case ast.ImportFrom(module=str(source), names=names) if source.startswith("aiohttp"):
                for name in (*source.split("."), *(alias.name for alias in names)):
                    if is_private(name):
                        yield f"{module} imports {name} from {source}"
            case ast.Attribute(value=ast.Name(id="self" | "cls"), attr=_):
                pass  # looked at below, with its class at hand
            case ast.Attribute(attr=attr) if is_private(attr):
                yield f"{module} uses {ast.unparse(node)}"
            case ast.Call(func=ast.Name(id="getattr" | "setattr" | "hasattr"), args=[_, name, *_]):
                if isinstance(name, ast.Constant) and is_private(str(name.value)):
                    yield f"{module} uses {ast.unparse(node)}"
            case ast.ClassDef():
                yield from inherited_names(module, node)


def inherited_names(module: str, tree: ast.ClassDef) -> Iterator[str]:
    cls = getattr(importlib.import_module(module), tree.name, None)
    if not isinstance(cls, type):
        return
    inherited = private_names_of(cls)
    for node in ast.walk(tree):
        used = None
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            used = node.name
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            used = node.attr if node.value.id in ("self", "cls") else None
        if used in inherited:
            yield f"{module}.{tree.name} uses {used}, which is private to a class of aiohttp"


@pytest.mark.parametrize("module", OURS)
def test_a_module_uses_no_private_name(module: str) -> None:
    assert list(uses_of_private_names(module, ast.parse(MODULES[module].read_text()))) == []


@pytest.mark.parametrize(
    "source",
    [
        "from aiohttp.web_protocol import _ErrInfo",
        "from aiohttp._websocket import reader",
        "request._message",
        "super()._make_server()",
        'getattr(request, "_match_info")',
    ],
)
def test_a_private_name_would_be_noticed(source: str) -> None:
    assert list(uses_of_private_names("a module", ast.parse(source)))


def test_an_inherited_private_name_would_be_noticed() -> None:
    names = private_names_of(aiohttp.web.RequestHandler)
    assert {"_keepalive", "_waiter", "_process_keepalive", "_upgraded"} <= names
    modules = [one.name for one in pkgutil.iter_modules(aiohttp.__path__)]
    assert "web_protocol" in modules
