"""The votes of options over all sessions of their poll, added up by the database.

A poll may have very many sessions: reading them here would take more memory than they are worth.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from storage.client import Document


def totals_by_poll(
    poll_ids: Collection[str], options: Sequence[str], condition: Document | None = None
) -> list[Document]:
    """The pipeline over ``sessions`` that adds up the votes of these options; for ``read_totals``.

    Polls without votes have no row.
    """
    sums = {f"n{place}": {"$sum": f"$results.{option}"} for place, option in enumerate(options)}
    counted = {"poll_id": {"$in": list(poll_ids)}, "participants": {"$gt": 0}}
    return [
        {"$match": {**counted, **(condition or {})}},
        {"$group": {"_id": "$poll_id", **sums}},
    ]


def read_totals(
    rows: Iterable[Mapping[str, Any]], options: Sequence[str]
) -> dict[str, dict[str, int]]:
    """By poll, the votes of each of the options of ``totals_by_poll``."""
    return {
        row["_id"]: {option: row[f"n{place}"] for place, option in enumerate(options)}
        for row in rows
    }
