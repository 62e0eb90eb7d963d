"""The clauses of the contract, in words: what a failing case shows beside the fault."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Clause:
    """One promise of a backend.

    Attributes:
        text: the promise.
        where: what documents it.
    """

    text: str
    where: str


_EXECUTOR: Final = "manyhands.executor.Executor"
_HOOKS: Final = "manyhands.hooks.BaseHook"
_OPTIONS: Final = "manyhands.driver.options.RunOptions"

CLAUSES: Final[dict[str, Clause]] = {
    "accounting": Clause(
        "every record has exactly one outcome: in == ok + rejected + dead + dropped + cancelled, by position.",
        "manyhands.records.Outcome",
    ),
    "back pressure": Clause(
        "slots() says, from 1, how many chunks are worth having in flight; the run reads no further ahead than that "
        "asks for, so the number must be bounded.",
        f"{_EXECUTOR}.slots",
    ),
    "cancelling": Clause(
        "shutdown(cancel=True) does not wait for chunks that have not begun: their futures are cancelled. "
        "Nothing is waited for that may never end: a worker that is stuck is killed, or left to itself.",
        f"{_EXECUTOR}.shutdown",
    ),
    "capabilities": Clause(
        "Capabilities say what a backend can do, on the class and in the plugin's description alike; what is declared "
        "can be seen, and what can be seen is declared.",
        "manyhands.executor.Capabilities",
    ),
    "chunks": Clause(
        "each chunk that is submitted gives one result, of its own sequence, lo and hi; "
        "in it hi - lo == ok + rejected + dropped.",
        "manyhands.chunks.Chunk and ChunkResult",
    ),
    "codec": Clause(
        "records come back with the values and the types that they had, whatever they crossed.",
        "manyhands.worker.codec",
    ),
    "crashes": Clause(
        "a future fails with WorkerLost only if its chunk had begun; only the record that kills is dead, and a chunk "
        "that was lost before it began has its future cancelled.",
        f"{_EXECUTOR}.submit and manyhands.errors.WorkerLost",
    ),
    "events": Clause(
        "the events of a run are the same on every backend but for who did what, and when.",
        "manyhands.events",
    ),
    "futures": Clause(
        "submit() returns a new concurrent.futures.Future for each chunk.",
        f"{_EXECUTOR}.submit",
    ),
    "hang": Clause(
        "whatever happens to its workers, a backend settles the future of every chunk, and start() and shutdown() "
        "return.",
        _EXECUTOR,
    ),
    "hooks": Clause(
        "hooks run as documented on every backend: by priority, in batches, their changes and refusals kept apart.",
        f"{_HOOKS}.execute",
    ),
    "leaks": Clause(
        "shutdown() leaves no process, thread, file or segment behind.",
        f"{_EXECUTOR}.shutdown",
    ),
    "limits": Clause(
        "a record that takes longer than record_timeout is dead and its neighbours are not; evict() kills what runs "
        "it, or says that it cannot.",
        f"{_OPTIONS} and {_EXECUTOR}.evict",
    ),
    "maps": Clause(
        "a function map gives the value or the exception of each call, in the order of its arguments.",
        "manyhands.pool.Pool",
    ),
    "order": Clause(
        "output is in the order of the input; with ordered=False each record is still written once.",
        f"{_OPTIONS}.ordered",
    ),
    "pickling": Clause(
        "what cannot be sent to a worker is refused by start(), before a record moves, with UnpicklableError that "
        "names it; where nothing is sent, nothing is refused.",
        "manyhands.worker.context.WorkerContext.dumps",
    ),
    "reuse": Clause(
        "an executor runs one pipe after the other; also after a start() that failed.",
        _EXECUTOR,
    ),
    "same bytes": Clause(
        "the same job gives byte-identical outputs on every backend.",
        "manyhands.worker.encode",
    ),
    "shutdown": Clause(
        "shutdown() runs every teardown, also with cancel=True, returns when all workers have ended, and may be "
        "called again.",
        f"{_EXECUTOR}.shutdown",
    ),
    "start": Clause(
        "start() returns when a worker has passed its hooks' setup; if none can, it raises WorkerInitError, and "
        "shutdown() then ends what there is.",
        f"{_EXECUTOR}.start",
    ),
    "submit": Clause(
        "submit() hands a chunk over and returns: only an inline backend runs it there. Before start() it refuses, by "
        "an exception or by the future.",
        f"{_EXECUTOR}.submit",
    ),
    "workers": Clause(
        "each worker calls setup once before its first chunk and teardown once after its last, and has a store of "
        "its own, which is read-only while hooks execute.",
        "manyhands.worker.context.WorkerContext and manyhands.hooks.HookStore",
    ),
}
"""By the names that cases use."""


def broken(key: str, detail: str) -> str:
    """The message of a case that failed.

    Args:
        key: of the clause.
        detail: the fault, in one line that names the backend.
    """
    clause = CLAUSES[key]
    return f"{detail}\nThe contract says ({key}): {clause.text}\nSee: {clause.where}"


def unexpected(topic: str, backend: str) -> str:
    """What is said beside an exception that no case foresees.

    Args:
        topic: of the case; most have the name of a clause.
        backend: under test.
    """
    clause = CLAUSES.get(topic)
    says = f"\nThe contract says ({topic}): {clause.text}\nSee: {clause.where}" if clause else ""
    return f"{backend}: no case about {topic} expects this exception{says}"
