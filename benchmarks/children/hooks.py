"""The post hook of the manyhands jobs."""

from rows import add_domain

from manyhands import BaseHook, Entry, HookStore


class Domain(BaseHook):
    """Adds the mail domain."""

    def execute(self, entries: list[Entry], store: HookStore) -> list[Entry]:
        """Add it to each entry."""
        for entry in entries:
            add_domain(entry["validated_data"])
        return entries
