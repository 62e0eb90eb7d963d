"""Hooks that fail by script: what happens to each record at each attempt is written down, and attempts are counted.

    from pathlib import Path
    from tempfile import TemporaryDirectory

    from manyhands import IterableInputAdapter, Pipe
    from manyhands.testing.script import attempts, deterministic_failure

    with TemporaryDirectory() as folder:
        hook = deterministic_failure(folder, {2: ["raise"], 3: ["drop"]})
        pipe = Pipe(IterableInputAdapter({"n": n} for n in range(5)), pre_validation_hooks=[hook])
        counts = pipe.run().counts
        assert (counts["ok"], counts["rejected"], counts["dropped"]) == (3, 1, 1)
        assert attempts(folder) == {0: 2, 1: 2, 2: 2, 3: 1, 4: 1}  # the batch, up to the culprit, and each alone

Where workers are processes, `"die"` kills them. The counts are the sizes of files, so no death takes them along.
"""

# ruff: noqa: ARG002  # a hook is given a store that it may not need

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from random import Random
from time import monotonic, sleep
from typing import Any, Final, Literal, get_args

from manyhands.errors import UsageError
from manyhands.hooks import BaseHook, HookStore
from manyhands.records import Entry, EntryStatus, Outcome
from manyhands.testing.faults import die, spare_this_process
from manyhands.testing.files import append

Deed = Literal["ok", "raise", "reject", "drop", "sleep", "die"]
"""What a hook does when it comes to a record: nothing, raise, mark it failed, leave it out, sleep, kill its process."""

Script = Mapping[int, Sequence[Deed]]
"""The deeds of a record by its position, one for each attempt; the last one stands for all further attempts."""

_DEEDS: Final = get_args(Deed)
_RELEASED: Final = "released"
_POLL_SECONDS: Final = 0.005
_OUTCOMES: Final[dict[Deed, Outcome]] = {
    "ok": Outcome.OK,
    "sleep": Outcome.OK,
    "raise": Outcome.REJECTED,
    "reject": Outcome.REJECTED,
    "drop": Outcome.DROPPED,
}


def deterministic_failure(
    folder: str | Path,
    script: Script,
    *,
    is_async: bool = False,
    replay: bool = True,
    seconds: float = 30.0,
) -> Scripted:
    """A hook, to stand before or after validation, that does to each record what the script says.

    Args:
        folder: where attempts are counted, made if need be; all workers must see it, and no other hook use it.
        script: positions and their deeds; a record that is not in it is ok.
        is_async: `execute` is an `async def`, which gets one record at a time.
        replay: as on every hook.
        seconds: how long `"sleep"` takes, unless `release` ends it.

    Raises:
        UsageError: the script holds something that is no deed, or a record without any.
    """
    _check(script)
    spare_this_process()
    path = Path(folder).resolve()
    path.mkdir(parents=True, exist_ok=True)
    kind = ScriptedAsync if is_async else Scripted
    return kind(path, {position: tuple(deeds) for position, deeds in script.items()}, replay=replay, seconds=seconds)


def attempts(folder: str | Path) -> dict[int, int]:
    """How often the hook of this folder came to each record; records that it never saw are missing."""
    files = [file for file in Path(folder).iterdir() if file.name != _RELEASED]
    return {int(file.name): file.stat().st_size for file in sorted(files, key=lambda file: int(file.name))}


def release(folder: str | Path) -> None:
    """Wake all that sleep by the script of this folder, and let nobody sleep any more."""
    Path(folder, _RELEASED).touch()


def seeded(
    seed: int,
    records: int,
    *,
    deeds: Sequence[Deed] = ("raise", "reject", "drop"),
    share: float = 0.3,
    longest: int = 1,
) -> Script:
    """A script drawn at random: the same seed draws the same one everywhere.

    Args:
        seed: of the draw.
        records: how many there are.
        deeds: those to draw from.
        share: of the records that are in the script, about.
        longest: a record has from one to so many deeds.
    """
    random = Random(f"manyhands {seed}")  # noqa: S311  # to be drawn again, not to be kept secret
    drawn = [position for position in range(records) if random.random() < share]
    return {position: random.choices(deeds, k=random.randint(1, longest)) for position in drawn}


def fate(deeds: Sequence[Deed], *, crash_retries: int = 1) -> tuple[Outcome, int]:
    """What becomes of a record that is alone in its chunk, and after how many attempts.

    Args:
        deeds: of the record.
        crash_retries: as in `manyhands.RunOptions`.
    """
    for attempt in range(crash_retries + 1):
        deed = _at(deeds, attempt)
        if deed != "die":
            return _OUTCOMES[deed], attempt + 1
    return Outcome.DEAD, crash_retries + 1


class Scripted(BaseHook):
    """See `deterministic_failure`, which makes it.

    Args:
        folder: where attempts are counted.
        script: positions and their deeds.
        replay: may run again.
        seconds: how long a sleep takes.
    """

    def __init__(self, folder: Path, script: Script, *, replay: bool, seconds: float) -> None:
        super().__init__()
        self.replay = replay
        self._folder = folder
        self._script = script
        self._seconds = seconds

    def execute(self, entries: list[Entry], store: HookStore) -> Any:
        """Do to each record what the script says."""
        kept = []
        for entry in entries:
            deed = self._begin(entry)
            for pause in self._pauses(deed):
                sleep(pause)
            if self._goes_on(entry, deed):
                kept.append(entry)
        return kept

    def _begin(self, entry: Entry) -> Deed:
        """Count the attempt, and say what is to be done at it."""
        position = entry["position"]
        earlier = append(self._folder / str(position), b".")
        return _at(self._script.get(position, ("ok",)), earlier)

    def _pauses(self, deed: Deed) -> Iterator[float]:
        """What to sleep piece by piece, until the time is over or `release` is called."""
        end = monotonic() + self._seconds
        while deed == "sleep" and monotonic() < end and not (self._folder / _RELEASED).exists():
            yield _POLL_SECONDS

    def _goes_on(self, entry: Entry, deed: Deed) -> bool:
        """Do all that is no sleep; False for a record that is dropped."""
        if deed == "die":
            die()
        if deed == "raise":
            raise ValueError(f"record {entry['position']} fails by script")
        if deed == "reject":
            entry["status"] = EntryStatus.FAILED
            entry["errors"].append({"type": "script", "message": "rejected by script", "loc": []})
        return deed != "drop"


class ScriptedAsync(Scripted):
    """Likewise, sleeping without holding up others."""

    async def execute(self, entries: list[Entry], store: HookStore) -> list[Entry]:
        """Do to the record what the script says."""
        (entry,) = entries
        deed = self._begin(entry)
        for pause in self._pauses(deed):
            await asyncio.sleep(pause)
        return [entry] if self._goes_on(entry, deed) else []


def _at(deeds: Sequence[Deed], attempt: int) -> Deed:
    return deeds[min(attempt, len(deeds) - 1)]


def _check(script: Script) -> None:
    for position, deeds in script.items():
        if isinstance(deeds, str) or not deeds:
            raise UsageError(f"record {position} needs a list of one deed or more, not {deeds!r}")
        for deed in deeds:
            if deed not in _DEEDS:
                raise UsageError(f"record {position}: {deed!r} is no deed; there are {', '.join(_DEEDS)}")
