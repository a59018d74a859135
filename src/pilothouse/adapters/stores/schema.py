"""The SQLite file: its tables, how it is opened, what is refused.

    meta(key, value)                 'schema' (a number) and 'epoch'
    logs(log, session, head)         one row per session; `head` outlives the events, so numbers never start again
    events(log, seq, first, body)    `body` is the complete JSON; `first` < `seq` in a folded row
    docs(kind, id, owner, doc)       the ledger
    marks(source, n)                 how far each source has been taken

`events` has no rowid: appending is a little slower, but replaying a session reads neighbouring pages only.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
from contextlib import closing
from pathlib import Path

from pilothouse.engine.ports import StoreFailed

SCHEMA = 1
BUSY_S = 5.0
"""How long a connection waits for another one's lock (a checkpoint that restarts the WAL, a backup tool)."""
AUTOCHECKPOINT_PAGES = 16384
"""64 MiB of WAL: a safety net for when the checkpointer cannot keep up with a writer that never rests."""
CACHE_KIB = 8 * 1024
"""Page cache of the writer."""

_TABLES = """
create table meta(key text primary key, value text not null) without rowid;
create table logs(log integer primary key, session text not null unique, head integer not null);
create table events(
    log integer not null, seq integer not null, first integer not null, body blob not null,
    primary key (log, seq)
) without rowid;
create table docs(
    kind text not null, id text not null, owner text not null, doc blob not null,
    primary key (kind, id)
) without rowid;
create index docs_owner on docs(owner, kind, id);
create table marks(source text primary key, n integer not null) without rowid;
"""


class StoreRefused(Exception):
    """The file is not one that this version can work with; nothing in it was changed."""


def prepare(path: Path) -> str:
    """Make the file if it is new, check it if it is not. Returns its epoch."""
    os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
    path.chmod(0o600)  # SQLite gives -wal and -shm the mode of the file itself
    try:
        with closing(connect(path)) as db:
            return _epoch(db, path)
    except sqlite3.OperationalError as error:
        raise StoreFailed(f"{path} could not be opened: {error}") from error
    except sqlite3.DatabaseError as error:
        raise StoreRefused(f"{path} is no Pilothouse store: {error}") from error


def connect(path: Path, *, full: bool = False, readonly: bool = False) -> sqlite3.Connection:
    """A connection for use by one thread at a time; transactions are begun by hand."""
    db = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
    try:
        db.execute(f"pragma synchronous={'full' if full else 'normal'}")
        db.execute(f"pragma wal_autocheckpoint={AUTOCHECKPOINT_PAGES}")
        db.execute(f"pragma journal_size_limit={AUTOCHECKPOINT_PAGES * 4096}")
        if readonly:
            db.execute("pragma query_only=1")
        else:
            db.execute(f"pragma cache_size=-{CACHE_KIB}")
    except sqlite3.Error:
        db.close()
        raise
    return db


def _epoch(db: sqlite3.Connection, path: Path) -> str:
    """Everything is made in one transaction, so a start that was killed leaves either an empty file or a whole one."""
    db.execute("begin immediate")
    try:
        tables = {str(row[0]) for row in db.execute("select name from sqlite_master where type = 'table'")}
        if not tables:
            for statement in filter(str.strip, _TABLES.split(";")):
                db.execute(statement)
            fresh = [("schema", str(SCHEMA)), ("epoch", secrets.token_hex(8))]
            db.executemany("insert into meta values (?, ?)", fresh)
        elif "meta" not in tables:
            raise StoreRefused(f"{path} is some other program's database: it has no table `meta`")
        meta = dict(db.execute("select key, value from meta"))
        _check(meta, path)
        db.execute("commit")
    finally:
        if db.in_transaction:
            db.execute("rollback")
    db.execute("pragma journal_mode=wal")
    return str(meta["epoch"])


def _check(meta: dict[str, str], path: Path) -> None:
    schema = meta.get("schema", "")
    if not schema.isdecimal() or not meta.get("epoch"):
        raise StoreRefused(f"{path} is damaged or some other program's: schema {schema!r}, epoch {meta.get('epoch')!r}")
    if int(schema) > SCHEMA:
        raise StoreRefused(
            f"{path} was written by a newer Pilothouse (schema {schema}, this one knows {SCHEMA}); upgrade to open it"
        )
