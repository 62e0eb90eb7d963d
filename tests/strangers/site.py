"""An installed distribution, as a fake: what pip writes of it, in a folder for `sys.path`."""

from pathlib import Path


def install(site: Path, module: str, *names: str) -> Path:
    """Make the backends of a plugin module known to whoever has the folder on its path."""
    info = site / f"{module.rpartition('.')[2]}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {info.stem.partition('-')[0]}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[manyhands]\n" + "".join(f"{name} = {module}\n" for name in names))
    return site
