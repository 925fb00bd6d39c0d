"""The file: its tables, its version, and how it is opened."""

from __future__ import annotations

import os
import sqlite3
import time
from pathlib import Path
from typing import Final

from llm_gateway.errors import ConfigurationError, QueueUnavailable
from llm_gateway.queues.sqlite.mounts import network_filesystem, read_mounts

__all__ = ["BUSY_SECONDS", "SCHEMA_VERSION", "joined", "one", "open_file"]

SCHEMA_VERSION: Final = 3
# Shows what a file is for, in its header.
APPLICATION_ID: Final = 0x4C4C4D51
BUSY_SECONDS: Final = 30.0
RETRY_SECONDS: Final = 0.02
STATEMENTS: Final = 256

# jobs: what a transition changes stands apart from the contents, so that it does not write them again.
#   place  ready | delayed | parked | held; NULL once the job has ended
#   sort   the fair tag | the time in microseconds | nothing | the monotonic end of the lease
#   renewed  monotonic time at which the lease was given or prolonged
#   live     1 until the job has ended: it moves less often than place, and so do the indexes that lean on it
#   retain   when the content goes; NULL until retention starts
# leads: who may relay the outbox, by monotonic time: until when, and since when without renewal.
# totals.latest: the number of the latest event, which stays when the event goes.
# Times are whole microseconds since 1970, UTC.
TABLES: Final = """
CREATE TABLE totals (
    one INTEGER PRIMARY KEY CHECK (one = 1), depth INTEGER NOT NULL, bytes INTEGER NOT NULL,
    outbox INTEGER NOT NULL, nudge INTEGER NOT NULL, latest INTEGER NOT NULL,
    relaying INTEGER NOT NULL);
INSERT INTO totals VALUES (1, 0, 0, 0, 0, 0, 0);
CREATE TABLE lanes (
    id INTEGER PRIMARY KEY, provider TEXT NOT NULL, model TEXT NOT NULL,
    ready INTEGER NOT NULL DEFAULT 0, delayed INTEGER NOT NULL DEFAULT 0, held INTEGER NOT NULL DEFAULT 0,
    parked INTEGER NOT NULL DEFAULT 0, dead INTEGER NOT NULL DEFAULT 0, virtual REAL NOT NULL DEFAULT 0.0,
    circuit TEXT NOT NULL DEFAULT 'closed', not_before INTEGER, max_in_flight INTEGER,
    paused INTEGER NOT NULL DEFAULT 0, parked_why TEXT, heartbeat INTEGER,
    UNIQUE (provider, model));
CREATE TABLE flows (
    lane INTEGER NOT NULL, tenant TEXT NOT NULL, priority TEXT NOT NULL, last REAL NOT NULL,
    PRIMARY KEY (lane, tenant, priority)) WITHOUT ROWID;
CREATE INDEX flows_passed ON flows (lane, last);
CREATE TABLE jobs (
    id INTEGER PRIMARY KEY AUTOINCREMENT, ticket TEXT NOT NULL UNIQUE, tenant TEXT NOT NULL, lane INTEGER NOT NULL,
    state TEXT NOT NULL, version INTEGER NOT NULL, priority TEXT NOT NULL, key TEXT NOT NULL,
    fingerprint TEXT NOT NULL, created INTEGER NOT NULL, expires INTEGER NOT NULL, updated INTEGER NOT NULL,
    grp TEXT, requeued_from TEXT, facts TEXT NOT NULL, size INTEGER NOT NULL,
    place TEXT, sort REAL, tagged INTEGER NOT NULL DEFAULT 0, live INTEGER NOT NULL DEFAULT 1,
    token TEXT, worker TEXT, claim TEXT, since INTEGER, deadline INTEGER, renewed REAL,
    settled TEXT, event INTEGER NOT NULL DEFAULT 0, retain INTEGER, buried INTEGER NOT NULL DEFAULT 0,
    UNIQUE (tenant, key));
CREATE INDEX jobs_ready ON jobs (lane, sort) WHERE place = 'ready';
CREATE INDEX jobs_delayed ON jobs (lane, sort) WHERE place = 'delayed';
CREATE INDEX jobs_parked ON jobs (lane) WHERE place = 'parked';
CREATE INDEX jobs_held ON jobs (sort) WHERE place = 'held';
CREATE INDEX jobs_claimed ON jobs (claim) WHERE place = 'held';
CREATE INDEX jobs_expiring ON jobs (expires) WHERE live = 1;
CREATE INDEX jobs_oldest ON jobs (lane, created) WHERE live = 1;
CREATE INDEX jobs_retained ON jobs (retain) WHERE retain IS NOT NULL;
CREATE INDEX jobs_grouped ON jobs (tenant, grp) WHERE grp IS NOT NULL;
CREATE INDEX jobs_listed ON jobs (tenant) WHERE buried = 0;
CREATE INDEX jobs_failed ON jobs (id) WHERE state = 'failed' AND buried = 0;
CREATE INDEX jobs_changed ON jobs (tenant, event) WHERE buried = 0;
CREATE TABLE contents (id INTEGER PRIMARY KEY, echo BLOB NOT NULL, subjects TEXT NOT NULL, payload BLOB, result BLOB);
CREATE TABLE subjects (
    tenant TEXT NOT NULL, subject TEXT NOT NULL, job INTEGER NOT NULL,
    PRIMARY KEY (tenant, subject, job)) WITHOUT ROWID;
CREATE TABLE events (
    number INTEGER PRIMARY KEY, job INTEGER NOT NULL, state TEXT NOT NULL, version INTEGER NOT NULL,
    at INTEGER NOT NULL, facts TEXT NOT NULL, outbox INTEGER NOT NULL, echo BLOB);
CREATE INDEX events_leaving ON events (number) WHERE outbox = 1;
CREATE INDEX events_of_job ON events (job);
CREATE TABLE leads (shard INTEGER PRIMARY KEY, token TEXT NOT NULL, ends REAL NOT NULL, renewed REAL NOT NULL);
CREATE TABLE parked_groups (
    tenant TEXT NOT NULL, grp TEXT NOT NULL, lane INTEGER NOT NULL, reason TEXT NOT NULL,
    PRIMARY KEY (tenant, grp, lane)) WITHOUT ROWID;
CREATE TABLE tenant_keys (tenant TEXT PRIMARY KEY, wrapped BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE pins (
    tenant TEXT NOT NULL, grp TEXT NOT NULL, lane INTEGER NOT NULL, model TEXT NOT NULL,
    used INTEGER NOT NULL, PRIMARY KEY (tenant, grp, lane)) WITHOUT ROWID;
CREATE INDEX pins_used ON pins (used);
"""


def joined(*parts: str) -> str:
    """Join the parts of a statement, all of them this package's own text."""
    return " ".join(parts)


def one(db: sqlite3.Connection, sql: str, *values: object) -> tuple[object, ...] | None:
    """Return the first row that a query gives."""
    row: tuple[object, ...] | None = db.execute(sql, values).fetchone()
    return row


def open_file(path: Path, mount_table: Path) -> sqlite3.Connection:
    """Open the file, new if need be, in the mode that survives power loss.

    Raises:
        ConfigurationError: the place cannot hold a queue, or the file is something else.
        QueueUnavailable: another process holds the file for longer than 30 s.
    """
    place = path.absolute().parent.resolve() / path.name
    kind = network_filesystem(place, read_mounts(mount_table))
    if kind is not None:
        message = f"The queue file lies on a network filesystem ({kind}), where its locks do not hold."
        raise ConfigurationError(message, next_step="Put it on a local disk; for several hosts use Redis.")
    try:
        # Requests may be personal: nobody but the owner reads them. The files beside it get the same mode.
        os.close(os.open(place, os.O_RDWR | os.O_CREAT, 0o600))
    except OSError as error:
        message = f"The queue file cannot be opened: {error.strerror}."
        raise ConfigurationError(message, next_step="Give a path in a folder that exists and can be written.") from None
    db = sqlite3.connect(place, timeout=BUSY_SECONDS, isolation_level=None, cached_statements=STATEMENTS)
    try:
        prepare(db)
    except sqlite3.OperationalError as error:
        db.close()
        message = f"The queue file cannot be opened ({error.sqlite_errorname})."
        raise QueueUnavailable(message, next_step="Free the file or the disk and start again.") from None
    except sqlite3.DatabaseError as error:
        db.close()
        message = f"The queue file is damaged or no database ({error.sqlite_errorname})."
        raise ConfigurationError(message, next_step="Restore it from a backup, or give another path.") from None
    except BaseException:
        db.close()
        raise
    return db


def prepare(db: sqlite3.Connection) -> None:
    """Set the mode and make the tables that are missing. A file that is not ours is left as it was."""
    is_new(db)
    enter_wal(db)
    db.execute("PRAGMA synchronous = FULL")
    db.execute("PRAGMA secure_delete = ON")
    # What a savepoint goes back to is kept for one errand alone: a file for it costs and protects nothing.
    db.execute("PRAGMA temp_store = MEMORY")
    # Copying the log into the file takes waits of its own: 16 MiB at once rather than 4.
    db.execute("PRAGMA wal_autocheckpoint = 4096")
    db.execute("PRAGMA journal_size_limit = 67108864")
    # Of several processes that find no tables one makes them.
    db.execute("BEGIN IMMEDIATE")
    if is_new(db):
        for statement in TABLES.strip().rstrip(";").split(";\n"):
            db.execute(statement)
        db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    db.execute("COMMIT")


def enter_wal(db: sqlite3.Connection) -> None:
    """Switch to write-ahead logging. While others do the same the switch does not wait by itself."""
    until = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            mode = one(db, "PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if not error.sqlite_errorname.startswith("SQLITE_BUSY") or time.monotonic() >= until:
                raise
            time.sleep(RETRY_SECONDS)
            continue
        if mode != ("wal",):
            message = "The place of the queue file does not allow write-ahead logging."
            raise ConfigurationError(message, next_step="Put it on a local disk.")
        return


def is_new(db: sqlite3.Connection) -> bool:
    """Whether the file holds nothing yet.

    Raises:
        ConfigurationError: it is not ours, or of another version.
    """
    version, application = one(db, "PRAGMA user_version"), one(db, "PRAGMA application_id")
    if (version, application) == ((SCHEMA_VERSION,), (APPLICATION_ID,)):
        return False
    if version == application == (0,) and one(db, "SELECT 1 FROM sqlite_master LIMIT 1") is None:
        return True
    if application != (APPLICATION_ID,):
        message = "The file is a database, but not one of this queue."
        raise ConfigurationError(message, next_step="Give the path of a new file.")
    message = f"The queue file has schema version {version and version[0]}; this release reads {SCHEMA_VERSION}."
    raise ConfigurationError(message, next_step="Use the release that wrote it, or drain it and give a new path.")
