"""What the engine needs from outside, in as few verbs as the meaning allows. Adapters implement these.

Every port has two implementations from the start: the real one and a fake that ships (`stores/memory`,
`sandboxes/host` with the `echo` agent).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from pilothouse.core import events as ev
from pilothouse.core.contacts import Contact
from pilothouse.core.ids import JobId, SessionId
from pilothouse.core.limits import State as LimitState
from pilothouse.core.places import USUAL, Place
from pilothouse.core.reach import Asking, Reach

# --- store ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Append:
    """One event for a session's log. `body` is the event's JSON without `seq` (`core.events.encode`)."""

    session: SessionId
    body: bytes


@dataclass(frozen=True, slots=True)
class Mark:
    """`source` (a runner, a proxy) has been taken up to `n`. If the store already has `n` or more for it, the whole
    commit that carries this mark does nothing and answers `Commit.repeated`."""

    source: str
    n: int


@dataclass(frozen=True, slots=True)
class Put:
    """One document of the ledger, by `kind` and `id`, written or overwritten. `owner` is what `scan` selects by."""

    kind: str
    id: str
    doc: bytes
    owner: str = ""


@dataclass(frozen=True, slots=True)
class Delete:
    kind: str
    id: str


@dataclass(frozen=True, slots=True)
class Purge:
    """Remove a session's whole log and every document whose owner is the session."""

    session: SessionId


Op = Append | Mark | Put | Delete | Purge


@dataclass(frozen=True, slots=True)
class Row:
    """One event as stored: `body` is complete JSON, `seq` included. Stores set `first`: lower than `seq` for a
    folded row, else the same."""

    seq: int
    body: bytes
    first: int = 0


@dataclass(frozen=True, slots=True)
class Commit:
    rows: tuple[Row, ...]
    """The rows of this commit's `Append`s, in their order."""
    repeated: bool = False


@dataclass(frozen=True, slots=True)
class Page:
    oldest: int
    """The lowest `seq` still kept, or `head + 1` when nothing is."""
    head: int
    """The highest `seq` ever given, 0 for an empty log."""
    rows: tuple[Row, ...]


class StoreFailed(Exception):
    """The store could not write (disk full, broken): nothing of the commit is in it, and no `seq` was used."""


class EventStore(Protocol):
    """Durable log and ledger. One writer; commits become durable in the order in which `commit` was called, and all
    that wait at one moment share one transaction (group commit). A commit is all or nothing."""

    epoch: str
    """Names the log that the numbers belong to: made when the store is made."""

    async def commit(self, *ops: Op) -> Commit:
        """Raises `StoreFailed`. Sequence numbers are given per session, from 1, without holes, in commit order."""
        ...

    async def read(self, session: SessionId, after: int, limit: int) -> Page:
        """Rows with `seq` > `after`, at most `limit` (a store may give fewer to bound memory, but at least one if there
        is one), ascending. A cursor inside a folded run gets the folded row."""
        ...

    async def get(self, kind: str, id: str) -> bytes | None: ...

    async def scan(
        self, kind: str, *, owner: str | None = None, after: str = "", limit: int = 1000, newest: bool = False
    ) -> list[tuple[str, bytes]]:
        """Documents of a kind by ascending id > `after` (descending id < `after`, if given, when `newest`)."""
        ...

    async def marked(self, source: str) -> int:
        """The highest `n` taken from `source`, 0 for none."""
        ...

    async def trim(self, session: SessionId, before: int) -> int:
        """Retention: drop rows with `seq` < `before`; the head stays. How many rows went."""
        ...

    async def fold(self, session: SessionId, upto: int) -> int:
        """Join runs of adjacent `stream`/`thinking` rows of one message with `seq` <= `upto` into one row each, which
        keeps the last `seq` and says `from`. How many rows went."""
        ...

    async def close(self) -> None: ...


# --- sandboxes -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Probe:
    """What isolation this host gives, found by running the real thing once."""

    isolation: ev.Isolation
    usable: bool
    summary: str
    """One plain sentence for a person."""
    findings: tuple[str, ...] = ()
    """What is missing and the command that mends it, a line each."""


@dataclass(frozen=True, slots=True)
class SandboxSpec:
    session: SessionId
    agent: str
    source: ev.Source | None = None
    env: dict[str, str] = field(default_factory=dict)
    limits: Mapping[str, float] = field(default_factory=dict)
    """Those that are not as configured (`core.limits`)."""


@dataclass(frozen=True, slots=True)
class SandboxState:
    session: SessionId
    alive: bool
    runner: bool
    """A runner process is alive in it."""
    runner_started: int = 0
    """How many runners have been started in it; grows with every restart."""
    exit: str = ""
    """Why it ended, when it did: "exit 1", "signal 9", "holder lost"."""
    place: Place = USUAL
    """Where its agent finds workspace and home."""
    shells: int = 0
    """Held in it, ended ones that nobody has forgotten among them."""


@dataclass(frozen=True, slots=True)
class LimitHit:
    """A session has reached a limit, as seen from outside of it. `n` counts from 1 per `source`."""

    session: SessionId
    source: str
    n: int
    name: str
    text: str


@dataclass(frozen=True, slots=True)
class FileEntry:
    name: str
    kind: str
    """file, directory, link, other"""
    size: int
    mtime: float


class Wire(Protocol):
    """A connected link to a runner: WebSocket messages, no more."""

    async def send(self, message: bytes) -> None: ...
    async def receive(self) -> bytes | None:
        """The next message, None when the link has ended."""
        ...

    async def close(self) -> None: ...


class Content(Protocol):
    """An open file's bytes, in chunks, once."""

    def __aiter__(self) -> AsyncIterator[bytes]: ...

    def close(self) -> None:
        """Also for one that was not read, or not to its end."""
        ...


class Held(Content, Protocol):
    def steady(self) -> bool:
        """Whether the file is as it was when it was opened. To be asked before `close`."""
        ...


@dataclass(frozen=True, slots=True)
class Since:
    """A workspace as it was. What has changed after it was said counts as changed, whatever `marks` say."""

    moment_ns: int
    """By the clock that the file system goes by."""
    marks: int | None = None
    """A descriptor of what `Files.mark` gave, open for reading: one mark for each file that was there. None: only the
    moment is known."""


@dataclass(frozen=True, slots=True)
class Changes:
    """What is not as it was. Bounded: `over` says that there is more."""

    found: Sequence[tuple[str, int, float]]
    """Regular files: path, size, when it was written to."""
    left: Sequence[tuple[str, str]]
    """What could not be looked at, and why: `name` (not UTF-8), `deep`, `unreadable`."""
    rules: Sequence[str]
    """Every `.gitignore`, changed or not."""
    over: bool


class Files(Protocol):
    """A session's workspace, never by path of the host: look-ups stay beneath its directory and follow no link out.
    Each verb may raise Unavailable."""

    async def list(self, path: str) -> list[FileEntry]:
        """Raises NotFound, BadRequest (path)."""
        ...

    async def read(self, path: str) -> tuple[FileEntry, Content]:
        """A regular file, to be closed. Raises NotFound, BadRequest (not a regular file)."""
        ...

    def walk(self, path: str) -> AsyncIterator[tuple[str, FileEntry]]:
        """Regular files below, path relative to the workspace. A directory that is not looked into (it cannot be read,
        or lies too deep) comes as itself. Raises NotFound, BadRequest (path), TooLarge."""
        ...


class Workspace(Files, Protocol):
    """The same, and what changes in it."""

    async def read(self, path: str) -> tuple[FileEntry, Held]: ...

    def moment(self) -> int:
        """Now, in nanoseconds, as the file system's clock says it, or a little before."""
        ...

    def now(self) -> int:
        """Later than anything was stamped that has been written."""
        ...

    async def passed(self, moment_ns: int) -> bool:
        """Until nothing that is written is stamped earlier. False: that cannot be waited for."""
        ...

    async def mark(self, moment_ns: int, passed_by: Sequence[str], take: Callable[[bytes], None]) -> None:
        """Marks of all regular files, for a later `changed`, in pieces; an empty piece says that it begins anew.
        `passed_by`: names of directories that are not looked into. Raises NotFound, TooLarge."""
        ...

    async def changed(self, since: Since, passed_by: Sequence[str]) -> Changes:
        """Raises NotFound."""
        ...


class Sandboxes(Protocol):
    """Isolated places, one per session. They outlive the server."""

    async def probe(self) -> Probe: ...

    def check(self, source: ev.Source) -> ev.Source:
        """A source as it may be kept and shown, before anything of it is. Raises BadRequest naming what is wrong."""
        ...

    async def open(self, spec: SandboxSpec) -> SandboxState:
        """Make the workspace if new (for a source: clone inside, or bind the directory), start the sandbox if it is
        not running. Harmless to repeat. Raises Unavailable, BadRequest (source)."""
        ...

    async def runner(self, session: SessionId) -> SandboxState:
        """Start the runner if none is alive; the sandbox must be open."""
        ...

    async def connect(self, session: SessionId) -> Wire:
        """A new link to the runner. Raises Unavailable."""
        ...

    async def list(self) -> list[SandboxState]:
        """What there is, for a server that has just started."""
        ...

    async def state(self, session: SessionId) -> SandboxState: ...

    def files(self, session: SessionId) -> Workspace: ...

    async def limits(self, session: SessionId, asked: Mapping[str, float]) -> Sequence[LimitState]:
        """What the session may use, uses, and what holds it. `asked`: those of the session that are not as
        configured."""
        ...

    def hits(self) -> AsyncIterator[LimitHit]:
        """Of all sessions that run, for ever; some of them again after a restart. For one reader."""
        ...

    async def stop(self, session: SessionId) -> None:
        """End its processes; workspace and conversation stay."""
        ...

    async def delete(self, session: SessionId) -> None:
        """End it and remove its workspace and home."""
        ...

    async def close(self) -> None:
        """Let go; the sandboxes go on."""
        ...


# --- blobs -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class About:
    """What is known of a file that is stored."""

    size: int
    sha256: str
    media_type: str


class Blobs(Protocol):
    """Files by key. A key is `/`-separated names that `core.artifact.key` made. What `put` has answered is there after
    a crash. Each verb raises Unavailable when the store does not answer, denies, or is full."""

    async def put(self, key: str, file: Path, about: About) -> None:
        """The whole of `file`, or nothing; over what was there. `file` stays the caller's."""
        ...

    async def read(self, key: str, start: int = 0, end: int | None = None) -> Blob:
        """The bytes from `start` to before `end`. Raises NotFound."""
        ...

    async def has(self, key: str, about: About) -> bool:
        """Whether this very content is there."""
        ...

    async def drop(self, prefix: str) -> None:
        """All keys that begin so. Harmless to repeat."""
        ...

    def place(self, key: str) -> tuple[str | None, str | None]:
        """Its address for other programs, and its page for people, where it has them."""
        ...

    async def close(self) -> None: ...


class Blob(Protocol):
    """A stored file's bytes, in chunks, once."""

    def __aiter__(self) -> AsyncIterator[bytes]:
        """Raises Unavailable when it breaks off."""
        ...

    def close(self) -> None: ...


# --- the proxy -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Budget:
    """What one job may spend from now on, and the session in all. None: no limit."""

    max_cost_usd: float | None = None
    max_tokens: int | None = None
    session_max_cost_usd: float | None = None


@dataclass(frozen=True, slots=True)
class UsageRecord:
    """One model call as metered. `n` counts from 1 per `proxy_id` without holes."""

    proxy_id: str
    n: int
    session: SessionId
    job: JobId | None
    model: str
    status: int
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    cost_usd: float
    refused: str = ""
    """Why the proxy did not pass it on: "budget", "no credential", ..."""
    price_guessed: bool = False
    """The model is in no price table: the cost is a careful guess."""
    at: float | None = None
    """When the call began, in seconds since 1970. None: a proxy that did not say so yet."""
    ms: int | None = None
    """How long it took, to its end."""
    tokens_guessed: bool = False
    """The answer broke off: what it cost is counted by the text that passed."""


@dataclass(frozen=True, slots=True)
class ModelState:
    provider: str
    """anthropic, bedrock, demo"""
    demo: bool
    model: str
    """The default model's id."""
    ready: bool
    detail: str = ""


class ModelProxy(Protocol):
    """The sessions' way to the model, and to whatever else they may reach. It outlives the server."""

    async def state(self) -> ModelState: ...

    async def admit(self, session: SessionId, job: JobId | None, budget: Budget) -> None:
        """Serve the session's listener and account its calls to `job` under `budget`. Harmless to repeat: spending of a
        job that the proxy already knows is kept."""
        ...

    async def spent(self, session: SessionId, job: JobId) -> UsageRecord | None:
        """The running total of a job: sums over its calls."""
        ...

    async def drop(self, session: SessionId) -> None: ...

    def usage(self, marks: Sequence[tuple[str, int]]) -> AsyncIterator[UsageRecord]:
        """Records after the marks, then live ones, for as long as the proxy lives. Ends when it goes away."""
        ...

    async def reach(self, session: SessionId, reach: Reach) -> None:
        """What the session reaches besides the model, from now on; until it is told, nothing. Harmless to repeat."""
        ...

    async def forget(self, session: SessionId) -> None:
        """The session is deleted: its contacts go."""
        ...

    def contacts(self, marks: Sequence[tuple[str, int]]) -> AsyncIterator[list[Contact]]:
        """Rows changed after the marks, then live changes, ascending. Ends when the proxy goes away."""
        ...

    def asking(self) -> AsyncIterator[list[Asking]]:
        """All connections that wait for a person, at once and after every change. Ends when the proxy goes away."""
        ...

    async def answer(self, ask_id: str, allow: bool, message: str, *, remember: bool) -> None:
        """`remember`: a denial stands for a while. Harmless when nobody waits any more."""
        ...

    async def close(self) -> None: ...


# --- secrets that are read again -----------------------------------------------------------------------------------


class SealBroken(Exception):
    """It cannot be sealed, or what is sealed cannot be opened: the key is not there, or is another."""


class Sealer(Protocol):
    """Keeps secrets that a hash would not do for. `about` says what a secret belongs to: moved to another record it
    does not open."""

    def seal(self, secret: bytes, about: str) -> bytes:
        """Raises SealBroken."""
        ...

    def unseal(self, sealed: bytes, about: str) -> bytes:
        """Raises SealBroken."""
        ...


# --- the process ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Vitals:
    """What a process uses of its machine. None: this machine does not say."""

    cpu_s: float
    started_at: float
    fds_max: int
    resident: int | None = None
    """Bytes."""
    fds: int | None = None


# --- time ------------------------------------------------------------------------------------------------------------


class Clock(Protocol):
    """Time as an argument: tests wind it by hand."""

    def now(self) -> float:
        """Seconds since the epoch, UTC."""
        ...

    async def sleep(self, seconds: float) -> None: ...
