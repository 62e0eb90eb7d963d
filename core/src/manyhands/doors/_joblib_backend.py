"""The joblib backend `manyhands`: batches of `joblib.Parallel`, each a call by the workers of one of our backends."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any, Final

from joblib import cpu_count
from joblib.parallel import AutoBatchingMixin, FallbackToBackend, ParallelBackendBase, SequentialBackend

from manyhands.doors.futures import FuturesExecutor, as_futures_executor
from manyhands.doors.limits import Limited
from manyhands.errors import OptionsError, UsageError
from manyhands.plugins.registry import find

_JOBLIBS_OWN: Final = {"context", "max_nbytes", "mmap_mode", "prefer", "require", "temp_folder", "verbose"}
"""What `Parallel` tells every backend; here it means nothing: arrays travel as they are."""

_QUIET: Final = SimpleNamespace(verbose=0)
"""What is asked of a `Parallel` that is gone."""


class ManyhandsBackend(AutoBatchingMixin, ParallelBackendBase):  # type: ignore[misc]  # joblib ships no types
    """Workers start with the first call of `Parallel` and stay for the next: as long as the `parallel_config`.

    Several calls may be open at once, where they give generators. Then the end of one before its time kills no worker:
    what has begun for it goes on, for nobody.

    Args:
        executor: name of a backend.
        nesting_level: how many calls of `Parallel` this one is in; from joblib.
        inner_max_num_threads: threads that numerical libraries may start in a worker process; None: their share of
            the CPUs.
        options: of the backend.

    Raises:
        BackendError: there is no such backend.
        OptionsError: the number of workers is among the options: it is joblib's `n_jobs`.
    """

    supports_retrieve_callback: bool = True
    default_n_jobs: int = -1

    def __init__(
        self,
        executor: str = "multiprocessing",
        *,
        nesting_level: int | None = None,
        inner_max_num_threads: int | None = None,
        **options: Any,
    ) -> None:
        super().__init__(nesting_level=nesting_level, inner_max_num_threads=inner_max_num_threads)
        self._parallel: Callable[[], Any] = lambda: None
        self._lock = threading.Lock()  # held while workers are exchanged, or given a batch by another call's thread
        self._open_calls = 0
        self._futures: FuturesExecutor | None = None
        self._choice: tuple[str, int, dict[str, Any]] | None = None
        self._choose(executor, options)

    @property
    def parallel(self) -> Any:
        """The last to come; it holds this, so that nothing would end the workers if this held it."""
        parallel = self._parallel()
        return _QUIET if parallel is None else parallel

    def _choose(self, executor: Any, options: dict[str, Any]) -> None:
        if not isinstance(executor, str):
            raise UsageError(f"executor must be the name of a backend, not {executor!r}")
        backend = find(executor)
        if not options.keys().isdisjoint(("workers", "max_workers")):
            raise OptionsError("the number of workers is what joblib calls n_jobs; leave max_workers out")
        self._name, self._options, self._capabilities = executor, options, backend.capabilities
        self._has_workers = "max_workers" in backend.options.model_fields
        self.supports_inner_max_num_threads: bool = self._capabilities.crosses_process
        self.supports_sharedmem: bool = not self._capabilities.crosses_process
        self.uses_threads: bool = not self._capabilities.crosses_process

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """How many batches run at a time; -1 means all CPUs, -2 all but one.

        Raises:
            ValueError: `n_jobs` is 0.
        """
        if n_jobs == 0:
            raise ValueError("n_jobs must not be 0")
        if n_jobs is None or not self._capabilities.concurrent:
            return 1
        return n_jobs if n_jobs > 0 else max(int(cpu_count()) + 1 + n_jobs, 1)

    def configure(self, n_jobs: int = 1, parallel: Any = None, **settings: Any) -> int:
        """Be ready for a call of `Parallel`, whose own arguments may be options too.

        Raises:
            FallbackToBackend: there is one worker: joblib makes the calls itself.
        """
        options = {key: value for key, value in settings.items() if key not in _JOBLIBS_OWN}
        if options:
            self._choose(options.pop("executor", self._name), {**self._options, **options})
        n_jobs = self.effective_n_jobs(n_jobs)
        if n_jobs == 1:
            raise FallbackToBackend(SequentialBackend(nesting_level=self.nesting_level))
        self._parallel = weakref.ref(parallel) if parallel is not None else lambda: None
        self._limits = self._prepare_worker_env(n_jobs) if self._capabilities.crosses_process else None
        self._staff((self._name, n_jobs, self._options))
        return n_jobs

    def submit(self, func: Callable[[], Any], callback: Callable[[Future[Any]], None] | None = None) -> Future[Any]:
        """Run a batch."""
        call: Any = func if self._limits is None else Limited(func, self._limits, func.items[0][0])  # type: ignore[attr-defined]  # it is a batch
        with self._lock:
            assert self._futures is not None  # noqa: S101  # for type checkers: joblib calls `configure` first
            future: Future[Any] = self._futures.submit(call)
        if callback is not None:
            future.add_done_callback(callback)
        return future

    apply_async = submit  # what joblib before 1.5 calls

    def retrieve_result_callback(self, out: Future[Any]) -> Any:
        """What the batch returned, or raised."""
        return out.result()

    def start_call(self) -> None:
        """A call of `Parallel` begins."""
        self._open_calls += 1

    def stop_call(self) -> None:
        """A call of `Parallel` is through."""
        self._open_calls -= 1

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """Kill the workers, unless other calls need them; leave behind threads that do not end soon."""
        if self._open_calls > 1:
            return
        with self._lock:
            futures, self._futures = self._futures, None
        if futures is not None:
            futures.kill_workers()
            futures.shutdown()
        if ensure_ready and self._choice is not None:
            self._staff(self._choice)

    def terminate(self) -> None:
        """A call of `Parallel` is through. Workers stay for the next; they end when this backend is forgotten."""
        self.reset_batch_stats()

    def _staff(self, choice: tuple[str, int, dict[str, Any]]) -> None:
        """Have the workers that are wanted. Others do what they have, and end."""
        if self._futures is not None and choice == self._choice:
            return
        name, n_jobs, options = choice
        futures = as_futures_executor(name, n_jobs if self._has_workers else None, **options)
        with self._lock:
            before, self._futures, self._choice = self._futures, futures, choice
        if before is not None:
            before.shutdown(wait=False)
