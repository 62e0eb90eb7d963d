"""What a case presupposes: nothing else skips one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from typing import Final

import pytest

from manyhands.executor import Capabilities

_NAMES: Final = tuple(field.name for field in fields(Capabilities))


def needs(*capabilities: str, not_: str | None = None) -> pytest.MarkDecorator:
    """A decorator of cases: skipped on backends that do not declare this.

    Args:
        capabilities: names of fields of `Capabilities` that must be declared.
        not_: one that must not be.

    Raises:
        ValueError: there is no such capability.
    """
    for name in (*capabilities, *([not_] if not_ else ())):
        if name not in _NAMES:
            raise ValueError(f"there is no capability {name!r}; there are {', '.join(_NAMES)}")
    return pytest.mark.manyhands_case(capabilities=capabilities, not_=not_)


def why_not(item: pytest.Item, backend: str, declared: Capabilities) -> str | None:
    """Why a case does not apply to a backend; None: it does.

    Args:
        item: the case.
        backend: its name.
        declared: what it declares.
    """
    return next(_reasons(item, backend, declared), None)


def _reasons(item: pytest.Item, backend: str, declared: Capabilities) -> Iterator[str]:
    for mark in item.iter_markers("manyhands_case"):
        for name in mark.kwargs["capabilities"]:
            if not getattr(declared, name):
                yield f"{backend} does not declare {name}"
        if mark.kwargs["not_"] and getattr(declared, mark.kwargs["not_"]):
            yield f"{backend} declares {mark.kwargs['not_']}"
