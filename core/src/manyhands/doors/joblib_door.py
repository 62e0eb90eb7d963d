"""joblib's door; joblib itself is imported when it is opened."""

from __future__ import annotations

from manyhands.errors import UsageError


def register_joblib() -> None:
    """Make `manyhands` a backend of joblib, for `joblib.Parallel` and all that is built on it, as scikit-learn is.

    It is chosen by `joblib.parallel_config("manyhands", n_jobs=2, executor="multiprocessing")`, where `executor` is the
    name of a backend, by default `multiprocessing`; other arguments are options of it.

    Raises:
        UsageError: joblib is not installed.
    """
    try:
        from joblib import register_parallel_backend
    except ModuleNotFoundError as error:
        if error.name != "joblib":
            raise
        raise UsageError("register_joblib() needs joblib, which is not installed: pip install joblib") from None
    from manyhands.doors._joblib_backend import ManyhandsBackend

    register_parallel_backend("manyhands", ManyhandsBackend)
