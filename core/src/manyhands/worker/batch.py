"""The way of entries through the hooks: pre hooks, schema, post hooks, and what happens when one of them fails."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from functools import partial
from operator import itemgetter
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

from pydantic_core import to_json

from manyhands.errors import EncodeError, RecordError, RecordTimeout
from manyhands.hooks import BaseHook
from manyhands.records import Entry, EntryStatus
from manyhands.worker.failures import describe
from manyhands.worker.hook_runner import BatchFailed, CallsLate, HookRunner
from manyhands.worker.plan import PASSING, Plan, RecordsCancelled, Rejected, load_json, same
from manyhands.worker.rows import BadRow

if TYPE_CHECKING:
    from manyhands.worker.context import WorkerContext


__all__ = ["HookedPath", "RecordsCancelled", "map_all", "reject"]

_DICT: Final = frozenset({dict})
_POSITION: Final = itemgetter("position")
_RAW_DATA: Final = itemgetter("raw_data")
_STR: Final = frozenset({str})
_JSON_SCALARS: Final = frozenset({str, int, float, bool, type(None)})


class HookedPath:
    """Takes entries through the hooks and the schema.

    Args:
        context: the job.
        plan: its compiled schema.
        hooks: its hooks, set up.
        exact: announce each record that is validated, not only all of them.
    """

    def __init__(self, context: WorkerContext, plan: Plan, hooks: HookRunner, *, exact: bool = True) -> None:
        self._exact = exact
        self._context = context
        self._plan = plan
        self._hooks = hooks
        self._replayable = _replayable([*context.pre_hooks, *context.post_hooks])
        self._by_json_rules = context.json_input and context.schema_model is not None
        self._texts: dict[int, bytes] = {}
        # Where nobody looks at the values between schema and encoder, the encoder gets them as the schema made them.
        self._to_dict = plan.to_dict if context.post_hooks or context.encoder is None else same
        self.stages: dict[str, float] = {}

    def run(
        self, rows: list[Any], start: int, lo: int, again: Callable[[], list[Any]]
    ) -> tuple[list[Entry], list[Entry]]:
        """The entries that are ok and those that failed, both by position; dropped ones are in neither.

        Args:
            rows: the rows to run.
            start: position of the payload's first record.
            lo: index of the first of `rows` in the payload.
            again: decodes the same rows afresh, for a replay from untouched data.
        """
        size = self._context.max_hook_chunk_size or max(len(rows), 1)
        ok: list[Entry] = []
        failed: list[Entry] = []
        untouched: list[Any] | None = None
        for first in range(0, len(rows), size):
            batch = self._entries(rows[first : first + size], start + lo + first)
            try:
                ok += self._batch(batch, failed, start, isolate=True)
            except BatchFailed:
                untouched = again() if untouched is None else untouched
                ok += self._one_by_one(untouched[first : first + size], failed, start, lo + first)
        return ok, sorted(failed, key=_POSITION)

    def _one_by_one(self, rows: list[Any], failed: list[Entry], start: int, lo: int) -> Iterator[Entry]:
        for index, row in enumerate(rows, lo):
            yield from self._batch(self._entries([row], start + index), failed, start, isolate=False)

    def _batch(self, entries: list[Entry], failed: list[Entry], start: int, *, isolate: bool) -> list[Entry]:
        """The ok entries by position; the failed ones are added to `failed` unless the batch must run again."""
        before = len(failed)
        try:
            return self._stages(entries, failed, start, isolate=isolate)
        except BatchFailed:
            del failed[before:]
            raise

    def _stages(self, entries: list[Entry], failed: list[Entry], start: int, *, isolate: bool) -> list[Entry]:
        live = _split(entries, failed)
        pre, post = self._context.pre_hooks, self._context.post_hooks
        live = self._run_hooks("pre", pre, live, failed, start, isolated=self._replayable if isolate else 0)
        live = self._validate(live, failed, start)
        rest = self._replayable - len(pre) if isolate else 0
        live = self._run_hooks("post", post, live, failed, start, isolated=rest)
        return sorted(live, key=_POSITION)

    def _run_hooks(
        self, stage: str, hooks: Any, live: list[Entry], failed: list[Entry], start: int, *, isolated: int
    ) -> list[Entry]:
        """What the hooks leave.

        Args:
            stage: `pre` or `post`.
            hooks: the hooks of the stage.
            live: the entries that go on; those that fail go to `failed`.
            failed: takes what fails.
            start: position of the payload's first record.
            isolated: so many hooks may fail with `BatchFailed`.
        """
        begun = perf_counter()
        announce = partial(self._announce, stage, start)
        for index, hook in enumerate(hooks):
            if not live:
                break
            announce(live)
            try:
                left = self._hooks.run(hook, live, isolate=index < isolated, announce=announce)
            except CallsLate as late:
                raise RecordTimeout([(lo - start, hi - start) for lo, hi in sorted(late.spans)], stage) from None
            live = _split(left, failed)
        self._spent(stage, begun)
        return live

    def _announce(self, stage: str, start: int, live: list[Entry]) -> None:
        """These records begin now, unless the run is aborted; without any, those named last do, overlapping."""
        if self._context.stopped:
            raise RecordsCancelled
        cell = self._context.cell
        if cell is None:
            return
        if not live:
            cell.overlap()
        else:
            first = min(map(_POSITION, live)) - start  # hooks may have reordered them
            cell.record(stage, first) if len(live) == 1 else cell.batch(stage, first)

    def _validate(self, live: list[Entry], failed: list[Entry], start: int) -> list[Entry]:
        begun = perf_counter()
        rejected: Rejected = {}
        rows = list(map(self._json_of if self._by_json_rules else _RAW_DATA, live))
        cell, rest = self._context.cell, self._context.until_cancelled(rows, slow=self._plan.calls_code)
        self._announce("validate", start, live)
        if cell is None or not self._exact:
            values = self._plan.validate_batch(rows, rejected, rest)
        else:
            rest = cell.track(rest, "validate", [entry["position"] - start for entry in live])
            values = self._plan.validate_rows(rows, rejected, rest)
            self._announce("validate", start, live)
        if rejected:
            live = self._without_rejected(live, values, rejected, failed)
        live = self._accept(live, values, failed)
        self._spent("validate", begun)
        return live

    def _json_of(self, entry: Entry) -> Any:
        """What the schema gets to see: the record as JSON text where it is JSON, for its JSON rules to apply."""
        text = self._texts.pop(entry["position"], None)
        return _as_json(entry["raw_data"]) if text is None else text

    def _without_rejected(
        self, live: list[Entry], values: list[Any], rejected: Rejected, failed: list[Entry]
    ) -> list[Entry]:
        """The entries that have a value; `values` gets those that only JSON rules accept."""
        good: list[Entry] = []
        for index, entry in enumerate(live):
            if index not in rejected:
                good.append(entry)
            elif self._by_json_rules and (value := self._values_as_json(entry)):
                values[len(good) : len(good)] = value
                good.append(entry)
            else:
                reject(entry, rejected[index])
                failed.append(entry)
        return good

    def _accept(self, entries: list[Entry], values: list[Any], failed: list[Entry]) -> list[Entry]:
        """The entries with their values; those that a serializer cannot make a dict of go to `failed`."""
        if self._to_dict is not same:
            unfit: Rejected = {}
            values = map_all(self._to_dict, values, unfit)
            for index, error in unfit.items():
                reject(entries[index], error)
            entries = _split(entries, failed) if unfit else entries
        for entry, value in zip(entries, values, strict=True):
            entry["validated_data"] = value
            entry["status"] = EntryStatus.VALIDATED
        return entries

    def _values_as_json(self, entry: Entry) -> list[Any]:
        """The one value, if any: a strict schema takes a date from a text only in JSON, and hooks may mix the two."""
        try:
            return self._plan.validate_rows([to_json(entry["raw_data"])], {})
        except PASSING:
            raise
        except BaseException:  # noqa: BLE001  # as the schema raised it before
            return []

    def _entries(self, rows: list[Any], start: int) -> list[Entry]:
        """Pending entries, failed ones for rows that cannot be read.

        Args:
            rows: dicts, bytes of JSON, or `BadRow`s.
            start: position of the first.
        """
        pending = EntryStatus.PENDING
        entries: list[Entry] = [
            {
                "id": position,
                "position": position,
                "status": pending,
                "raw_data": row,
                "validated_data": None,
                "errors": [],
                "metadata": {},
            }
            for position, row in enumerate(rows, start)
        ]
        if self._context.id_generator is not None:
            for entry in entries:
                _name(entry, self._context.id_generator)
        if not _DICT.issuperset(map(type, rows)):
            for entry in entries:
                self._read(entry)
        return entries

    def _read(self, entry: Entry) -> None:
        row = entry["raw_data"]
        if isinstance(row, BadRow):
            entry["raw_data"] = row.raw
            entry["status"] = EntryStatus.FAILED
            entry["errors"].append(row.error)
        elif type(row) is bytes:
            try:
                entry["raw_data"] = load_json(row)
            except Exception as error:  # noqa: BLE001  # it says why
                reject(entry, error)
            else:
                if not self._context.pre_hooks:  # who else could change it
                    self._texts[entry["position"]] = row

    def _spent(self, stage: str, begun: float) -> None:
        self.stages[stage] = self.stages.get(stage, 0.0) + perf_counter() - begun


def _name(entry: Entry, make_id: Callable[[int], Any]) -> None:
    try:
        entry["id"] = make_id(entry["position"])
    except PASSING:
        raise
    except BaseException as error:  # noqa: BLE001  # it may raise anything
        reject(entry, error)


def _replayable(hooks: list[BaseHook]) -> int:
    """How many hooks stand before the first that must not run twice: their failures can be isolated by a replay."""
    return next((index for index, hook in enumerate(hooks) if not hook.replay), len(hooks))


def map_all(
    function: Callable[[Any], Any], values: list[Any], failed: Rejected, tracked: Iterable[Any] | None = None
) -> list[Any]:
    """What the function makes of the values.

    Args:
        function: what to call.
        values: with what.
        failed: takes, by index, the exceptions of those that it does not take.
        tracked: the same values through an iterator that tells where it is.
    """
    parts: list[Any] = []
    rest = iter(values if tracked is None else tracked)
    while True:
        error: BaseException = StopIteration("raised by a serializer")  # it ends extend() as if the values had ended
        try:
            parts.extend(map(function, rest))
        except PASSING:
            raise
        except BaseException as caught:  # noqa: BLE001  # serializers may raise anything
            error = caught.with_traceback(None)  # it would keep the values in a reference cycle
        place = len(parts) + len(failed)
        if place == len(values):
            return parts
        failed[place] = error if isinstance(error, RecordError) else EncodeError(f"no JSON form: {error}")


def _as_json(row: Any) -> Any:
    """The row as JSON text if it holds nothing else than JSON does, otherwise as it is: a hook put it there."""
    try:
        return to_json(row, inf_nan_mode="constants") if _is_json(row) else row
    except (ValueError, RecursionError):  # half a surrogate pair, an object that holds itself
        return row


def _is_json(value: Any) -> bool:
    if type(value) is dict:
        return _STR.issuperset(map(type, value)) and _are_json(value.values())
    return _are_json(value) if type(value) is list else type(value) in _JSON_SCALARS


def _are_json(values: Collection[Any]) -> bool:
    return _JSON_SCALARS.issuperset(map(type, values)) or all(map(_is_json, values))


def reject(entry: Entry, error: BaseException) -> None:
    """Mark the entry failed, with what the exception says."""
    entry["status"] = EntryStatus.FAILED
    entry["errors"].extend(describe(error))


def _split(entries: list[Entry], failed: list[Entry]) -> list[Entry]:
    """The entries that go on; the failed ones are moved aside."""
    out = [entry for entry in entries if entry["status"] == EntryStatus.FAILED]
    if not out:
        return entries
    failed += out
    return [entry for entry in entries if entry["status"] != EntryStatus.FAILED]
