"""The same job as people write it for Ray: a dataset.

python ray_data.py SOURCE OUTPUT BLOCKS

OUTPUT is a folder of parts. Writes to out/seconds how long it took: from a program that is connected, with workers that
are up and have imported what they need, to the last part.
"""

import sys
from pathlib import Path
from typing import Any

from rows import Row
from warm import clock
from warm import ray as connected

MODULES = ("ray.data", "pandas", "pyarrow.csv", "pyarrow.json", "rows")


def validate(batch: Any) -> Any:
    """A table of rows to one of validated rows."""
    import pyarrow as pa

    return pa.Table.from_pylist([Row.model_validate(row).model_dump() for row in batch.to_pylist()])


def main(source: str, output: str, blocks: str) -> None:
    """Run the job."""
    with connected(*MODULES) as ray:
        ray.data.DataContext.get_current().enable_progress_bars = False
        with clock():
            rows = ray.data.read_csv(source, override_num_blocks=int(blocks) or None)
            rows.map_batches(validate, batch_format="pyarrow").write_json(str(Path(output).absolute()))


if __name__ == "__main__":
    main(*sys.argv[1:])
