"""What the metapackage requires: core and the plugins beside it.

In a checkout these are file URIs, so that `pip install .` installs the folders themselves. In a release
(`MANYHANDS_RELEASE=1`) they are pinned to the metapackage's own version.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

HEAVY = ("dask", "ray")  # not for everybody: each is an extra of its own name


class SiblingsHook(MetadataHookInterface):
    """Fills in `dependencies` and `optional-dependencies`."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Require core and every light plugin; offer the heavy ones as extras.

        An extra lists only plugins whose folder is here, so it may be empty: its name is reserved, and nothing that
        cannot be had is ever required.
        """
        if "dependencies" in metadata:  # an sdist already carries the answer in its PKG-INFO, and has no siblings
            return
        root = Path(self.root)
        plugins = sorted(file.parent for file in root.glob("plugins/*/pyproject.toml"))
        extras = {name: [self._require(p, metadata) for p in plugins if p.name == name] for name in HEAVY}
        light = [root / "core", *(plugin for plugin in plugins if plugin.name not in HEAVY)]
        metadata["dependencies"] = [self._require(folder, metadata) for folder in light]
        metadata["optional-dependencies"] = extras | {"all": [r for group in extras.values() for r in group]}

    @staticmethod
    def _require(folder: Path, metadata: dict[str, Any]) -> str:
        name = f"manyhands-{folder.name}"
        if os.environ.get("MANYHANDS_RELEASE") == "1":
            return f"{name}=={metadata['version']}"
        return f"{name} @ {folder.as_uri()}"
