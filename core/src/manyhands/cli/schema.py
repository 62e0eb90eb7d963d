"""`manyhands schema`: the JSON schema of job files."""

from __future__ import annotations

import json
import sys

from manyhands.config.schema import job_schema


def print_schema() -> None:
    """Print the schema; what is left out of it is said on stderr."""
    print(json.dumps(job_schema(_complain), indent=2, ensure_ascii=False))


def _complain(what: str) -> None:
    print(f"manyhands: {what}", file=sys.stderr)
