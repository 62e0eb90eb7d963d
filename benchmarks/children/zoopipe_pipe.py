"""The same job by the published zoopipe release, one process.

python zoopipe_pipe.py csv|jsonl SOURCE OUTPUT ERRORS [--hook]
"""

import sys
from typing import Any

from rows import Row, add_domain
from zoopipe import BaseHook, CSVInputAdapter, JSONInputAdapter, JSONOutputAdapter, Pipe, PipeStatus


class Domain(BaseHook):  # type: ignore[misc,unused-ignore]  # where zoopipe is not installed it is Any
    """Adds the mail domain."""

    def execute(self, entries: list[dict[str, Any]], store: dict[str, Any]) -> list[dict[str, Any]]:
        """Add it to each entry that is valid."""
        for entry in entries:
            if entry["validated_data"] is not None:
                add_domain(entry["validated_data"])
        return entries


def main(kind: str, source: str, output: str, errors: str, *flags: str) -> None:
    """Run the job; exit with what went wrong, because a failed pipe does not raise."""
    pipe = Pipe(
        input_adapter=CSVInputAdapter(source) if kind == "csv" else JSONInputAdapter(source),
        output_adapter=JSONOutputAdapter(output, format="jsonl"),
        error_output_adapter=JSONOutputAdapter(errors, format="jsonl"),
        schema_model=Row,
        post_validation_hooks=[Domain()] if "--hook" in flags else [],
    )
    pipe.start(wait=True)
    if pipe.report.status is not PipeStatus.COMPLETED:
        sys.exit(f"zoopipe: {pipe.report.status}: {pipe.report.exception}")


if __name__ == "__main__":
    main(*sys.argv[1:])
