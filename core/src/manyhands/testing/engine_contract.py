"""The clauses of the contract of an engine, in words: what a failing case shows beside the fault."""

from __future__ import annotations

from typing import Final

from manyhands.testing.contract import Clause

_ENGINE: Final = "manyhands.engine.Engine"

CLAUSES: Final[dict[str, Clause]] = {
    "abort": Clause(
        "a run that is aborted, by its report or by shutdown(), ends soon and publishes nothing; pipes that had not "
        "ended are aborted, too.",
        f"{_ENGINE}.shutdown and manyhands.report.FlowReport.abort",
    ),
    "accounting": Clause(
        "report has the sums of all pipe_reports, and these have what each pipe alone would count, whatever died.",
        f"{_ENGINE}.report",
    ),
    "capabilities": Clause(
        "Capabilities say what an engine can do: what is declared can be seen, and what can be seen is declared.",
        "manyhands.plugins.spec.Backend",
    ),
    "failures": Clause(
        "a pipe that fails ends the others, and fails the run with its own exception; what has not ended by then "
        "publishes nothing.",
        f"{_ENGINE}.start",
    ),
    "hang": Clause(
        "whatever happens to its pipes and workers, a run ends, and wait() and shutdown() return.",
        f"{_ENGINE}.wait",
    ),
    "leaks": Clause(
        "shutdown() leaves no process, thread, file or segment behind.",
        f"{_ENGINE}.shutdown",
    ),
    "losses": Clause(
        "a pipe whose worker dies runs once more, from its beginning, and no other does; if it kills that one as well, "
        "the run fails with a RunError that names the pipe by its number from 1 and the cause of the death.",
        f"{_ENGINE}.start",
    ),
    "pipes": Clause(
        "each pipe is run by one worker from its beginning to its end, as it runs alone; where there are fewer workers "
        "than pipes, pipes wait.",
        f"{_ENGINE}.start",
    ),
    "reports": Clause(
        "pipe_reports has one report for each pipe, in the order of start(); all are live: they move while pipes run, "
        "and each ends with its pipe.",
        f"{_ENGINE}.pipe_reports",
    ),
    "reuse": Clause(
        "an engine runs pipes again when its run has ended, in whatever way.",
        f"{_ENGINE}.start",
    ),
    "shards": Clause(
        "a pipe in shards writes what it writes alone, byte for byte: each shard is a pipe, made when it is taken from "
        "the sequence that start() gets, in order.",
        "manyhands.manager.PipeManager.parallelize_pipe",
    ),
    "shutdown": Clause(
        "shutdown() may be called before start(), after the end and again, and changes no run that has ended.",
        f"{_ENGINE}.shutdown",
    ),
    "start": Clause(
        "start() returns while pipes run; it raises UsageError when some run already, and when there is none to run.",
        f"{_ENGINE}.start",
    ),
    "wait": Clause(
        "wait() returns True when all pipes have ended, and False when `timeout` seconds passed first: one deadline "
        "for all of them.",
        f"{_ENGINE}.wait",
    ),
}
"""By the names that cases use."""


def broken(key: str, detail: str) -> str:
    """The message of a case that failed.

    Args:
        key: of the clause.
        detail: the fault, in one line that names the engine.
    """
    clause = CLAUSES[key]
    return f"{detail}\nThe contract says ({key}): {clause.text}\nSee: {clause.where}"
