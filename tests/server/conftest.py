"""Tests that serve in their own process do so on both event loops."""

import asyncio
from collections.abc import Callable

import pytest
import uvloop

IN_PROCESS = {"test_connections", "test_slow_clients", "test_hang_ups"}
"""The others start processes, which run on uvloop unless a test says otherwise."""


def pytest_asyncio_loop_factories(
    item: pytest.Item,
) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    if item.path.stem in IN_PROCESS:
        return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
    return {"asyncio": asyncio.new_event_loop}
