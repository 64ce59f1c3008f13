"""What the work of a transaction can do: read, write, and take numbers from sequences.

``transaction_runner`` begins the transactions, commits them, and runs their work again.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any, TypeVar

import pymongo
import pymongo.database
from pymongo import DeleteOne, InsertOne, ReplaceOne, UpdateOne
from pymongo.client_session import ClientSession
from pymongo.errors import BulkWriteError, DuplicateKeyError

from storage.client.documents import Cursor, Document

T = TypeVar("T")
Proof = tuple[str, Document]
"""A collection, and a query that finds something in it once a transaction is stored."""
Write = InsertOne[Document] | UpdateOne | ReplaceOne[Document] | DeleteOne


class RunAgain(Exception):
    """One run of a transaction stored nothing; another run may succeed."""


class TooManyConflicts(Exception):
    """A transaction conflicted as often as its caller allows; nothing is stored."""


class Transaction:
    """One run of a transaction: its reads see one moment, its writes are stored together.

    Collections are given by name. Every method blocks: they are for the thread of the transaction.
    They raise the driver's errors, which ``Database.transaction`` translates.
    """

    def __init__(
        self, database: pymongo.database.Database[Document], session: ClientSession
    ) -> None:
        self._database = database
        self._session = session
        self.proof: Proof | None = None
        """Set by work whose own writes tell whether it is stored; else a mark is written for it."""

    def find_one(
        self, name: str, query: Document, projection: Document | None = None
    ) -> Document | None:
        return self._database[name].find_one(query, projection, session=self._session)

    def find(
        self, name: str, query: Document, projection: Document | None = None, *, batch_size: int = 0
    ) -> Cursor:
        """Must be read to its end or closed: SecantusDB keeps it beyond the transaction."""
        return self._database[name].find(
            query, projection, batch_size=batch_size, session=self._session
        )

    def close(self, name: str, cursor: Cursor) -> None:
        """Closes a cursor over a collection.

        SecantusDB keeps it beyond the transaction, and beyond a broken connection, after which the
        driver believes that it is gone.
        """
        if number := cursor.cursor_id:
            self._database.command("killCursors", name, cursors=[number])
        cursor.close()

    def aggregate(
        self, name: str, pipeline: Sequence[Document], **options: Any
    ) -> Iterator[Document]:
        return self._database[name].aggregate(pipeline, session=self._session, **options)

    def insert(self, name: str, document: Document) -> None:
        self._database[name].insert_one(document, session=self._session)

    def insert_numbered(self, name: str, documents: Sequence[Document]) -> None:
        """Inserts documents whose ``_id``s are of a sequence, or not known to be taken.

        Raises ``RunAgain`` if one is: an import may have stored another under it since.
        """
        try:
            self.bulk_write(name, [InsertOne(one) for one in documents])
        except BulkWriteError as error:
            raise RunAgain from error

    def put(self, name: str, document: Document) -> None:
        """Stores the document in place of the one with its ``_id``, if there is one."""
        self._database[name].replace_one(
            {"_id": document["_id"]}, document, upsert=True, session=self._session
        )

    def update(self, name: str, query: Document, update: Document) -> None:
        """Updates all documents that match."""
        self._database[name].update_many(query, update, session=self._session)

    def delete(self, name: str, query: Document) -> None:
        """Deletes all documents that match."""
        self._database[name].delete_many(query, session=self._session)

    def next_number(self, sequence: str) -> int:
        """The next number of a sequence: see ``next_numbers``."""
        return self.next_numbers(sequence, 1)[0]

    def next_numbers(self, sequence: str, count: int) -> range:
        """The next numbers of a sequence, from 1: small, increasing, never used before.

        Taken outside the transaction, or everything that is numbered would wait for each other; a
        run that fails leaves a gap, and gaps are fine.
        """
        while True:
            # Of several that start a sequence at once, some find that another was faster.
            with suppress(DuplicateKeyError):
                document = self._database["sequences"].find_one_and_update(
                    {"_id": sequence},
                    {"$inc": {"last": count}},
                    upsert=True,
                    return_document=pymongo.ReturnDocument.AFTER,
                )
                if document is not None:
                    last = int(document["last"])
                    return range(last - count + 1, last + 1)

    def skip_numbers(self, sequence: str, last: int) -> None:
        """Numbers up to ``last`` are not taken from the sequence any more.

        Outside the transaction, as they are taken, and not awaited on the disk: what comes first is
        there whenever the transaction is.
        """
        quick = pymongo.WriteConcern(1)
        sequences = self._database.get_collection("sequences", write_concern=quick)
        while True:
            with suppress(DuplicateKeyError):
                sequences.update_one({"_id": sequence}, {"$max": {"last": last}}, upsert=True)
                return

    def bulk_write(self, name: str, writes: Sequence[Write]) -> int:
        """Returns how many documents the updates matched. Sends nothing if there are no writes."""
        if not writes:
            return 0
        return self._database[name].bulk_write(writes, session=self._session).matched_count


Work = Callable[[Transaction], T]
