"""What records of a chaotic run do to whoever runs them, and what must become of them. Workers import it as it is here.

A record is `{"k": its number, "at": a stage, "do": a deed, "path": a file}`.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, model_validator

from manyhands import BaseHook
from manyhands.hooks import HookStore
from manyhands.records import Entry

Record = dict[str, Any]

STAGES = ("pre", "validate", "post")

_POLL_SECONDS = 0.002


def kill(record: Record) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def leave(record: Record) -> None:
    os._exit(3)


def kill_once(record: Record) -> None:
    try:
        Path(record["path"]).touch(exist_ok=False)
    except FileExistsError:
        return
    kill(record)


def fail(record: Record) -> None:
    raise ValueError(f"record {record['k']} fails")


def dawdle(record: Record) -> None:
    time.sleep(0.001 * (record["k"] % 10))


def wait(record: Record) -> None:
    """As long as the file is there."""
    while os.path.exists(record["path"]):  # noqa: PTH110  # polled by many
        time.sleep(_POLL_SECONDS)


def nothing(record: Record) -> None:
    pass


DEEDS: dict[str, Callable[[Record], None]] = {
    "kill": kill,
    "leave": leave,
    "kill once": kill_once,
    "fail": fail,
    "dawdle": dawdle,
    "wait": wait,
    "be late": wait,
    "drop": nothing,
}

LETHAL = ("kill", "leave", "be late")
"""What no record survives."""


def act(record: Record, stage: str) -> None:
    """Do what the record does at this stage."""
    if record.get("at") == stage:
        DEEDS[record["do"]](record)


class Row(BaseModel):
    """Acts when it is validated; `k` of a bad record is no number."""

    k: int
    at: str = ""
    do: str = ""
    path: str = ""

    @model_validator(mode="before")
    @classmethod
    def act(cls, record: Any) -> Any:
        act(record, "validate")
        return record


class Acts(BaseHook):
    """Does in its stage what the records say.

    Args:
        stage: `pre` or `post`.
        replay: may run again.
    """

    def __init__(self, stage: str, *, replay: bool) -> None:
        super().__init__()
        self.stage, self.replay = stage, replay

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.stage!r}, replay={self.replay})"

    def record(self, entry: Entry) -> Record:
        data: Record = entry["raw_data" if self.stage == "pre" else "validated_data"]
        return data

    def kept(self, entries: list[Entry]) -> list[Entry]:
        dropped = (self.stage, "drop")
        return [entry for entry in entries if (self.record(entry).get("at"), self.record(entry).get("do")) != dropped]

    def execute(self, entries: list[Entry], store: HookStore) -> Any:
        for entry in entries:
            act(self.record(entry), self.stage)
        return self.kept(entries)


class ActsAsync(Acts):
    """Likewise, one record at a time, waiting without blocking."""

    async def execute(self, entries: list[Entry], store: HookStore) -> Any:
        (entry,) = entries
        record = self.record(entry)
        await asyncio.sleep(0)
        if record.get("at") == self.stage and record["do"] in ("wait", "be late", "dawdle"):
            await asyncio.sleep(_POLL_SECONDS)
            while record["do"] != "dawdle" and Path(record["path"]).exists():  # noqa: ASYNC110, ASYNC240  # as others do
                await asyncio.sleep(_POLL_SECONDS)
        else:
            act(record, self.stage)
        return self.kept(entries)


class _Dead(Exception):
    """The chunk is."""


def predict(records: Sequence[Record], hooks: Sequence[Acts], chunksize: int | None, batch: int | None) -> list[str]:
    """The outcome of each record, from what it does and who shares its fate.

    Args:
        records: all of them.
        hooks: of the run.
        chunksize: must be known where a hook must not run twice.
        batch: `max_hook_chunk_size`.
    """
    if all(hook.replay for hook in hooks):  # each is alone in the end
        return [_outcomes([record], hooks)[0] for record in records]
    assert chunksize is not None
    outcomes: list[str] = []
    for chunk in _split(records, chunksize):
        try:
            outcomes += [
                each for part in _split(chunk, batch or chunksize) for each in _outcomes(part, hooks, whole=True)
            ]
        except _Dead:
            outcomes += ["dead"] * len(chunk)
    return outcomes


def _split(records: Sequence[Record], size: int) -> Iterator[Sequence[Record]]:
    return (records[first : first + size] for first in range(0, len(records), size))


def _outcomes(batch: Sequence[Record], hooks: Sequence[Acts], *, whole: bool = False) -> list[str]:
    """The outcomes of records that share their fate.

    Args:
        batch: the records.
        hooks: of the run.
        whole: no hook may run twice: what kills, kills the chunk.
    """
    found = ["ok"] * len(batch)
    for stage in STAGES:
        hook = next((hook for hook in hooks if hook.stage == stage), None)
        if hook is None and stage != "validate":
            continue
        live = [place for place, outcome in enumerate(found) if outcome == "ok"]
        for place in live:
            found[place] = _outcome(batch[place], stage, whole=whole)
            if found[place] == "rejected" and whole and type(hook) is Acts:
                found = ["rejected" if place in live else outcome for place, outcome in enumerate(found)]
                break
    return found


def _outcome(record: Record, stage: str, *, whole: bool) -> str:
    if stage == "validate" and not isinstance(record["k"], int):
        return "rejected"
    deed = record.get("do") if record.get("at") == stage else None
    if whole and deed in (*LETHAL, "kill once"):
        raise _Dead
    if deed in LETHAL:
        return "dead"
    return {"fail": "rejected", "drop": "dropped"}.get(deed or "", "ok")
