"""The one thread of the process that touches the file, and how its callers wait for it.

Work that arrives while a commit is under way shares the next one. Each piece of work runs inside a savepoint, so one
that fails takes nothing of the others with it.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Final, Protocol, TypeVar

from llm_gateway.errors import DurabilityUnknown, LLMGatewayError, QueueError, QueueUnavailable
from llm_gateway.queues.sqlite.rows import Damaged
from llm_gateway.queues.sqlite.schema import one
from llm_gateway.queues.sqlite.tally import Tally
from llm_gateway.queues.sqlite.wakes import Changes, Wakes

__all__ = ["Desk", "Opened", "Writer"]

T = TypeVar("T")
MAX_BATCH: Final = 256
# How soon a change made by another process is noticed while somebody waits: the file itself tells nobody.
POLL_SECONDS: Final = 0.03
# Commits that fail so have certainly written nothing.
NOTHING_WRITTEN: Final = ("SQLITE_FULL", "SQLITE_BUSY", "SQLITE_READONLY")


class Opened(Protocol):
    """The open file, as its thread uses it."""

    @property
    def db(self) -> sqlite3.Connection:
        """The connection."""
        ...

    @property
    def tally(self) -> Tally:
        """What is counted within a transaction."""
        ...

    def tidy(self) -> None:
        """Drop what is no longer needed, before each commit."""
        ...

    def changes(self) -> Changes:
        """Tell what was committed since this was last asked."""
        ...


@dataclass(slots=True)
class Errand:
    """One piece of work and who waits for it."""

    work: Callable[[], object]
    writes: bool
    future: asyncio.Future[object]
    result: object = None
    error: Exception | None = None

    def deliver(self) -> None:
        """Tell the outcome. Runs in the caller's loop; a caller that was cancelled is told nothing."""
        if self.future.done():
            return
        if self.error is None:
            self.future.set_result(self.result)
        else:
            self.future.set_exception(self.error)


@dataclass(slots=True)
class Desk:
    """Where the loop leaves work for the thread. ``None`` is a poke: look up from waiting."""

    errands: SimpleQueue[Errand | None] = field(default_factory=SimpleQueue[Errand | None])
    closing: bool = False


class Writer:
    """Runs work in its thread.

    Args:
        open_file: Opens the file; called in the thread.
    """

    def __init__(self, open_file: Callable[[], Opened]) -> None:
        self._open_file = open_file
        self._desk = Desk()
        self._pid = os.getpid()
        self._loop = asyncio.get_running_loop()
        self._opened: asyncio.Future[None] = self._loop.create_future()
        self.wakes = Wakes(self._poke)
        self._thread = threading.Thread(target=self._live, name="llm-gateway-queue", daemon=True)

    @property
    def foreign(self) -> bool:
        """Whether this process is a fork of the one that started it: the thread is not here."""
        return os.getpid() != self._pid

    async def start(self) -> None:
        """Start the thread and return when the file is open.

        Raises:
            ConfigurationError: the place cannot hold a queue, or the file is something else.
            QueueUnavailable: another process holds the file for too long.
        """
        self._thread.start()
        try:
            await asyncio.shield(self._opened)
        except asyncio.CancelledError:
            self._opened.add_done_callback(lambda opened: opened.exception())
            self.close()
            raise

    async def run(self, work: Callable[[], T], *, writes: bool = True) -> T:
        """Have *work* done in the thread and return what it returns, once it is committed.

        A caller that is cancelled does not stop work that was handed over.

        Raises:
            QueueUnavailable: closed, or the file cannot be used; nothing was stored.
            DurabilityUnknown: the commit failed in a way that may or may not have stored it.
            QueueError: called from another event loop, or from a fork.
        """
        self.check_open()
        outcome: list[T] = []
        await self.post(lambda: outcome.append(work()), writes=writes)
        return outcome[0]

    def post(self, work: Callable[[], object], *, writes: bool = True) -> asyncio.Future[object]:
        """Hand over work without waiting for it."""
        future: asyncio.Future[object] = self._loop.create_future()
        # Whoever is cancelled no longer reads the outcome; that is not an error nobody saw.
        future.add_done_callback(lambda done: None if done.cancelled() else done.exception())
        self._desk.errands.put(Errand(work, writes, future))
        return future

    def check_open(self) -> None:
        """Refuse work once closed, elsewhere than in the loop that started it, and in a fork.

        Raises:
            QueueUnavailable: when it is closed.
            QueueError: when it is called from elsewhere.
        """
        if self.foreign or asyncio.get_running_loop() is not self._loop:
            where = "a fork of the process" if self.foreign else "another event loop"
            message = f"The queue is used from {where} than it was started in."
            raise QueueError(message, next_step="Make and start a queue of its own there; the file can be shared.")
        if self._desk.closing:
            raise closed()

    def close(self) -> None:
        """Take no more work and let the thread end once it has done what it was given."""
        self._desk.closing = True
        self._tell(self.wakes.fire_all)
        self._poke()

    async def ended(self) -> None:
        """Return when the thread has closed the file and is gone."""
        await asyncio.to_thread(self._thread.join)

    def _poke(self) -> None:
        self._desk.errands.put(None)

    def _live(self) -> None:
        try:
            opened = self._open_file()
        except Exception as error:
            # Told to whoever starts the queue: the thread has no caller of its own.
            self._tell(self._fail_opening, translated(error))
            return
        try:
            self._tell(self._opened.set_result, None)
            self._serve(opened)
        finally:
            opened.db.close()

    def _fail_opening(self, error: Exception) -> None:
        self._desk.closing = True
        self._opened.set_exception(error)

    def _serve(self, opened: Opened) -> None:
        known = data_version(opened.db)
        while (batch := self._next_batch()) is not None:
            if batch:
                transact(opened, batch)
            wrote = any(errand.writes for errand in batch)
            # Whether others wrote is asked only while somebody waits for it.
            version = data_version(opened.db) if self.wakes.waiting else known
            changes = look(opened) if wrote or version != known else Changes()
            if batch or version != known:
                self._tell(self._deliver, batch, changes)
            known = version

    def _next_batch(self) -> list[Errand] | None:
        # An empty batch is a time to look at the file; None is the end.
        taken = self._take()
        batch = list[Errand]()
        while taken is not None:
            batch.append(taken)
            if len(batch) >= MAX_BATCH:
                break
            try:
                taken = self._desk.errands.get_nowait()
            except Empty:
                break
        return None if self._desk.closing and not batch and self._desk.errands.empty() else batch

    def _take(self) -> Errand | None:
        patience = POLL_SECONDS if self.wakes.waiting else None
        try:
            # The poke of the closing may have come with the batch before: nothing is waited for then.
            return self._desk.errands.get(timeout=0 if self._desk.closing else patience)
        except Empty:
            return None

    def _deliver(self, batch: list[Errand], changes: Changes) -> None:
        self.wakes.fire(changes)
        for errand in batch:
            errand.deliver()

    def _tell(self, what: Callable[..., object], *arguments: object) -> None:
        try:
            self._loop.call_soon_threadsafe(what, *arguments)
        except RuntimeError:
            # The loop was closed without closing the queue: nobody is left to serve.
            self._desk.closing = True


def transact(opened: Opened, batch: list[Errand]) -> None:
    """Do a batch in one transaction. Reading alone takes no lock that others wait for."""
    db = opened.db
    writes = any(errand.writes for errand in batch)
    try:
        db.execute("BEGIN IMMEDIATE" if writes else "BEGIN")
        opened.tally.begin()
        for errand in batch:
            attempt(opened, errand)
        if writes:
            opened.tidy()
            opened.tally.write()
    except (sqlite3.Error, Damaged) as error:
        abandon(db, batch, refusal(error))
        return
    try:
        db.execute("COMMIT")
    except sqlite3.Error as error:
        certain = not writes or error.sqlite_errorname.startswith(NOTHING_WRITTEN)
        abandon(db, batch, unavailable(error) if certain else unknown(error))


def attempt(opened: Opened, errand: Errand) -> None:
    """Do one piece of work inside a savepoint.

    Raises:
        sqlite3.Error: the whole transaction is gone.
    """
    db, mark = opened.db, opened.tally.mark()
    db.execute("SAVEPOINT errand")
    try:
        errand.result = errand.work()
    except Exception as error:
        # Refusals and defects alike are the caller's to hear; the thread goes on for the others.
        errand.error = translated(error)
        # After some errors SQLite has undone everything already; this then fails, and the batch with it.
        db.execute("ROLLBACK TO errand")
        opened.tally.restore(mark)
    db.execute("RELEASE errand")


def abandon(db: sqlite3.Connection, batch: list[Errand], error: LLMGatewayError) -> None:
    """Undo a batch and tell each caller whose work had been done."""
    if db.in_transaction:
        # Should even this fail, the next transaction cannot begin and says so.
        with suppress(sqlite3.Error):
            db.execute("ROLLBACK")
    for errand in batch:
        if errand.error is None:
            errand.error = type(error)(error.message, next_step=error.next_step)


def look(opened: Opened) -> Changes:
    """Tell what changed; everything, when the file cannot say."""
    try:
        return opened.changes()
    except (sqlite3.Error, Damaged):
        return Changes(everything=True)


def data_version(db: sqlite3.Connection) -> object:
    """Return a number that another process's commit changes."""
    try:
        return one(db, "PRAGMA data_version")
    except sqlite3.Error:
        return None


def closed() -> QueueUnavailable:
    """Say that the queue is closed."""
    return QueueUnavailable("The queue is closed.", next_step="Start it first; nothing was stored.")


def translated(error: Exception) -> Exception:
    """Return what the caller is to hear."""
    return refusal(error) if isinstance(error, sqlite3.Error | Damaged) else error


def refusal(error: sqlite3.Error | Damaged) -> LLMGatewayError:
    """Say that nothing was stored, and why."""
    if isinstance(error, Damaged):
        return QueueError(str(error), next_step="Restore the queue file from a backup.")
    return unavailable(error)


def unavailable(error: sqlite3.Error) -> QueueUnavailable:
    """Say that nothing was stored."""
    message = f"The queue file cannot be used ({name_of(error)})."
    return QueueUnavailable(message, next_step="See to the disk and to who holds the file; nothing was stored.")


def unknown(error: sqlite3.Error) -> DurabilityUnknown:
    """Say that it may have been stored."""
    return DurabilityUnknown(f"The commit to the queue file failed ({name_of(error)}).")


def name_of(error: sqlite3.Error) -> str:
    """Return SQLite's name of an error; its text could quote a statement."""
    return getattr(error, "sqlite_errorname", type(error).__name__)
