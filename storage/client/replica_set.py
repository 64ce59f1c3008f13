"""Makes the ``mongod`` that the service starts itself a replica set, with one administrator."""

import time

import pymongo
from pymongo.errors import OperationFailure, PyMongoError

from storage.client.documents import Document
from storage.client.driver_errors import reason_of
from storage.client.round_trips import APP_NAME
from storage.errors import StartupRefused

NOT_YET_INITIALIZED = 94
USER_EXISTS = 51003


def init_replica_set(
    address: str, *, name: str, key: str, user: str, password: str, seconds: float
) -> None:
    """Makes the mongod at ``address`` a replica set of one node, with one administrator.

    ``key`` is the content of its key file, which is accepted before there is any user. Safe to
    repeat, also after a start on another port, which the set must be told. Blocks until the node
    accepts writes; raises ``StartupRefused`` if it does not within ``seconds``.
    """
    with pymongo.MongoClient[Document](
        address,
        username="__system",
        password=key,
        authSource="local",
        directConnection=True,
        serverSelectionTimeoutMS=int(seconds * 1000),
        appname=APP_NAME,
    ) as client:
        try:
            with pymongo.timeout(seconds):
                _configure_set(client, name, address)
                while not client.admin.command("hello")["isWritablePrimary"]:
                    time.sleep(0.01)
                _ensure_user(client, user, password)
        except PyMongoError as error:
            raise StartupRefused(
                f"The embedded MongoDB does not accept writes: {reason_of(error)}."
            ) from error


def _configure_set(client: pymongo.MongoClient[Document], name: str, address: str) -> None:
    config = client["local"]["system.replset"].find_one()
    if config is None:
        members = [{"_id": 0, "host": address}]
        client.admin.command("replSetInitiate", {"_id": name, "members": members})
    elif config["members"][0]["host"] != address:
        config["members"][0]["host"] = address
        config["version"] += 1
        while True:
            try:
                client.admin.command("replSetReconfig", config, force=True)
                break
            except OperationFailure as error:
                # It listens before it has read its own configuration: first it looks for itself at
                # the old address, where another program that does not answer may listen now.
                if error.code != NOT_YET_INITIALIZED:
                    raise
                time.sleep(0.01)


def _ensure_user(client: pymongo.MongoClient[Document], user: str, password: str) -> None:
    try:
        client.admin.command("createUser", user, pwd=password, roles=["root"])
    except OperationFailure as error:
        if error.code != USER_EXISTS:
            raise
        # The file of the password may have been lost, or restored from elsewhere.
        client.admin.command("updateUser", user, pwd=password)
