"""Connects to a deployment, and refuses one that cannot do what the service needs."""

import asyncio
import time
import warnings
from datetime import UTC
from typing import Any

import pymongo
from motor.core import AgnosticClient
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo.errors import ConfigurationError, InvalidURI

from storage.client.documents import Document
from storage.client.driver_errors import access_error
from storage.client.round_trips import APP_NAME, round_trip
from storage.errors import StartupRefused, Unavailable

Connections = tuple[AgnosticClient[Document], str, pymongo.MongoClient[Document]]
"""The client, the name of the database, and the client for snapshots."""

DEFAULT_DATABASE = "polls"
SNAPSHOTS = "polls snapshots"
"""By which the deployment tells the connections over which snapshots are read from the others."""
SELECTION_SECONDS = 2.0
"""How long the driver looks for a primary before it gives up."""
HEARTBEAT_SECONDS = 0.5
"""How often the driver checks each node. A node that does not answer within this and the time of a
connection together, 2.5 s, is given up along with everything that waits for its answer: a primary
that hangs costs callers no more than an election."""
STARTUP_SECONDS = 10.0


async def connect(uri: str) -> Connections:
    """See ``Database.connect``."""
    options: dict[str, Any] = {
        "tz_aware": True,
        "tzinfo": UTC,
        "serverSelectionTimeoutMS": int(SELECTION_SECONDS * 1000),
        "connectTimeoutMS": int(SELECTION_SECONDS * 1000),
        "heartbeatFrequencyMS": int(HEARTBEAT_SECONDS * 1000),
        "retryWrites": True,
        "retryReads": True,
        "appname": APP_NAME,
    }
    try:
        # The driver ignores an option that it does not know, and repeats it in a warning: it
        # may be part of a password, or the option that was to protect the connection.
        with warnings.catch_warnings(action="error", category=UserWarning):
            client: AgnosticClient[Document] = AsyncIOMotorClient(uri, **options)
        name = client.get_default_database(DEFAULT_DATABASE).name
    except (ConfigurationError, InvalidURI, ValueError, UserWarning, OSError) as error:
        raise StartupRefused(
            "MONGODB_URI is not valid: write it as "
            "mongodb://user:password@host:27017/polls?replicaSet=rs0, with user and password "
            "percent-encoded, with options that PyMongo knows, and with files that exist."
        ) from error
    try:
        _require_replica_set(await _greet(client))
    except BaseException:
        client.close()
        raise
    snapshots = {**options, "appname": SNAPSHOTS}
    return client, name, pymongo.MongoClient(uri, connect=False, **snapshots)


async def _greet(client: AgnosticClient[Document]) -> Document:
    deadline = time.monotonic() + STARTUP_SECONDS
    while True:
        try:
            with round_trip(deadline, is_logged=False):
                hello: Document = await client.admin.command("hello")
                # Needs no right, but proves that the user can log in.
                await client.get_default_database(DEFAULT_DATABASE).command("ping")
                return hello
        except Unavailable as error:
            if (refusal := access_error(error)) is not None:
                raise StartupRefused(
                    "MongoDB rejects the user of MONGODB_URI: check user, password and "
                    f"authSource (error code {refusal.code})."
                ) from error
            if time.monotonic() + 0.2 >= deadline:
                raise StartupRefused(
                    "MongoDB at MONGODB_URI did not answer within 10 s, or has no primary: "
                    "check that it runs, that rs.initiate() was run once, and that "
                    "replicaSet, host, port and TLS settings are right."
                ) from error
            await asyncio.sleep(0.2)


def _require_replica_set(hello: Document) -> None:
    if "setName" not in hello:
        kind = "a sharded cluster" if hello.get("msg") == "isdbgrid" else "standalone"
        raise StartupRefused(
            f"The MongoDB at MONGODB_URI is {kind}, and this service needs the transactions of a "
            "replica set: start mongod with --replSet rs0 and run rs.initiate() once (one node is "
            "enough)."
        )
