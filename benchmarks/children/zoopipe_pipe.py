"""The same job by the published zoopipe release.

python zoopipe_pipe.py csv|jsonl SOURCE OUTPUT ERRORS PROCESSES [--hook]

With several processes it cuts the file into as many parts, one for each, and joins what they wrote. No rows travel, so
there is no size of chunks to choose. The error output is dropped then.
"""

import sys
from typing import Any

from rows import Row, add_domain
from zoopipe import (
    BaseHook,
    CSVInputAdapter,
    JSONInputAdapter,
    JSONOutputAdapter,
    Pipe,
    PipeManager,
    PipeReport,
    PipeStatus,
)


class Domain(BaseHook):  # type: ignore[misc,unused-ignore]  # where zoopipe is not installed it is Any
    """Adds the mail domain."""

    def execute(self, entries: list[dict[str, Any]], store: dict[str, Any]) -> list[dict[str, Any]]:
        """Add it to each entry that is valid."""
        for entry in entries:
            if entry["validated_data"] is not None:
                add_domain(entry["validated_data"])
        return entries


def run(pipe: Pipe) -> PipeReport:
    """Run it here."""
    pipe.start(wait=True)
    return pipe.report


def run_parallel(pipe: Pipe, processes: int) -> PipeReport:
    """Run it in parts, by its default engine: processes of multiprocessing."""
    manager = PipeManager.parallelize_pipe(pipe, workers=processes)
    manager.run(on_report_update=None)
    return manager.report


def main(kind: str, source: str, output: str, errors: str, processes: str, *flags: str) -> None:
    """Run the job; exit with what went wrong, because a failed pipe does not raise."""
    pipe = Pipe(
        input_adapter=CSVInputAdapter(source) if kind == "csv" else JSONInputAdapter(source),
        output_adapter=JSONOutputAdapter(output, format="jsonl"),
        error_output_adapter=JSONOutputAdapter(errors, format="jsonl"),
        schema_model=Row,
        post_validation_hooks=[Domain()] if "--hook" in flags else [],
    )
    report = run(pipe) if processes == "1" else run_parallel(pipe, int(processes))
    if report.status is not PipeStatus.COMPLETED:
        sys.exit(f"zoopipe: {report.status}: {report.exception}")


if __name__ == "__main__":
    main(*sys.argv[1:])
