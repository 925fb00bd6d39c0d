"""The command, on a queue file that gives its payloads out: ``python program.py ARGUMENTS``."""

from __future__ import annotations

import sys

from llm_gateway import wiring
from llm_gateway.cli.main import main
from llm_gateway.queues.sqlite import SqliteQueue
from llm_gateway.queues.sqlite.ledger import Ledger
from llm_gateway.queues.sqlite.rows import blob
from llm_gateway.queues.sqlite.schema import one
from llm_gateway.settings import Settings

QUEUE = "_queue"


class GivingQueue(SqliteQueue):
    """A queue file that gives its payloads out."""

    async def payload(self, tenant: str, ticket_id: str) -> bytes | None:
        """Return the stored request of a job, as it was sealed."""

        def look(ledger: Ledger) -> bytes | None:
            row = one(ledger.db, "SELECT payload FROM contents WHERE id = ?", ledger.visible(tenant, ticket_id).id)
            return None if row is None or row[0] is None else blob(row[0])

        return await self._read(look)


def by_hand(settings: Settings) -> SqliteQueue:
    """Make the queue of the file."""
    return GivingQueue(settings.queue_path or "", settings.queue_options)


if __name__ == "__main__":
    setattr(wiring, QUEUE, by_hand)
    sys.exit(main())
