"""Function maps over the backend: each call's value or exception, in the order of the items."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import count, islice
from typing import TYPE_CHECKING, Any

import pytest

from manyhands.errors import WorkerLost
from manyhands.pool import Pool, Results
from manyhands.testing.calls import Refused, add, die_at, double, refuse_some, slow_at_first
from manyhands.testing.cases.needs import needs
from manyhands.testing.faults import spare_this_process

if TYPE_CHECKING:
    from manyhands.testing.bench import Bench


class MapCases:
    """`Pool` with this backend."""

    @pytest.mark.parametrize("chunksize", [None, 7])
    def test_all_ways_to_map_give_the_same_values(self, bench: Bench, chunksize: int | None) -> None:
        """Two in the order of the items, however long each takes, and two in any."""
        wanted = list(range(20))
        with _pool(bench) as pool:
            found = {
                "map": pool.map(slow_at_first, wanted, chunksize=chunksize),
                "imap": list(pool.imap(slow_at_first, wanted, chunksize=chunksize)),
                "unordered_map": sorted(pool.unordered_map(slow_at_first, wanted, chunksize=chunksize)),
                "unordered_imap": sorted(pool.unordered_imap(slow_at_first, wanted, chunksize=chunksize)),
            }
        for way, values in found.items():
            assert values == wanted, bench.broken("maps", f"{way} gave {values} instead of {wanted}")

    def test_an_endless_iterable_is_mapped_as_it_is_asked_for(self, bench: Bench) -> None:
        """And dropped half way; the pool is not harmed."""
        with _pool(bench) as pool:
            found = list(islice(pool.imap(abs, count()), 30))
            assert found == list(range(30)), bench.broken("maps", f"imap over an endless iterable gave {found}")
            again = pool.map(abs, [-1])
            assert again == [1], bench.broken("maps", f"after a map that was dropped another one gave {again}")

    def test_exceptions_come_in_their_places_and_keep_their_types(self, bench: Bench) -> None:
        """With their arguments; what follows goes on."""
        with _pool(bench) as pool:
            found = _each(pool.imap(refuse_some, range(9), chunksize=4), 9)
        wanted = [(Refused, (k, "no")) if k % 3 == 1 else (SystemExit, (5,)) if k == 5 else k for k in range(9)]
        assert found == wanted, bench.broken("maps", f"imap gave {found} instead of {wanted}")

    def test_a_map_raises_the_first_failure_in_the_order_of_the_items(self, bench: Bench) -> None:
        """Whichever fails first by the clock."""
        with _pool(bench) as pool, pytest.raises(Refused) as caught:
            pool.map(refuse_some, range(9))
        assert caught.value.args == (1, "no"), bench.broken("maps", f"map raised the failure of {caught.value.args}")

    def test_anything_callable_can_be_mapped(self, bench: Bench) -> None:
        """A lambda, a closure, a coroutine function; `star` unpacks items."""
        offset = 3

        def shift(number: int) -> int:
            return number + offset

        with _pool(bench) as pool:
            found: dict[str, Any] = {
                "a lambda": pool.map(lambda number: number + 3, range(5)),
                "a closure": pool.map(shift, range(5)),
                "star": pool.star().map(add, [(k, 3) for k in range(5)]),
                "a coroutine function": [value // 2 + 3 for value in pool.map(double, range(5))],
            }
        for what, values in found.items():
            assert values == [3, 4, 5, 6, 7], bench.broken("maps", f"a map of {what} gave {values}")

    def test_large_values_travel(self, bench: Bench) -> None:
        """There and back."""
        with _pool(bench) as pool:
            found = [len(data) for data in pool.map(lambda data: data + b"!", [b"x" * (3 << 20)] * 3)]
        assert found == [(3 << 20) + 1] * 3, bench.broken("maps", f"values of 3 MiB came back with lengths {found}")

    @needs("crosses_process")
    def test_a_call_that_kills_its_process_is_the_only_one_lost(self, bench: Bench) -> None:
        """It raises WorkerLost in its place."""
        spare_this_process()
        with _pool(bench) as pool:
            found = _each(pool.imap(die_at(4), range(10), chunksize=10), 10)
        lost = [place for place, value in enumerate(found) if value != place]
        assert lost == [4], bench.broken("maps", f"call 4 of 10 kills its process, lost are calls {lost}: {found}")
        assert found[4][0] is WorkerLost, bench.broken("maps", f"a call that kills its process raises {found[4]}")


@contextmanager
def _pool(bench: Bench) -> Iterator[Pool]:
    with Pool(executor=bench.make()) as pool:
        yield pool


def _each(results: Results[Any], number: int) -> list[Any]:
    """The values; of a call that failed the type and the arguments of what it raised."""
    found: list[Any] = []
    with closing(results):
        for _ in range(number):
            try:
                found.append(next(results))
            except StopIteration:
                break
            except BaseException as error:  # noqa: BLE001  # SystemExit is one of them
                found.append((type(error), error.args))
    return found
