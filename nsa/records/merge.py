"""How facts of several replicates become those of the cell: every field of a model says how it is merged."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from itertools import chain
from typing import TypeVar

from pydantic import BaseModel, ConfigDict

from nsa.errors import NsaError


class Model(BaseModel):
    """What is recorded: frozen, and an unknown or missing key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, defer_build=True)


class Merge(Enum):
    """How the values of one field, one a replicate, become one; written as `Annotated[type, Merge.SAME]`."""

    SAME = "equal in every replicate"
    EACH = "one entry a replicate, in their order"  # of tuples
    UNITED = "what any replicate saw, each once"  # of tuples
    ALL = "true when it is true in every replicate"
    FIRST = "the first replicate that has one"  # of values that may be None, faults among them


class Disagreement(NsaError):
    """Replicates of one cell contradict each other where they must agree."""


M = TypeVar("M", bound=BaseModel)


def merge(parts: Sequence[M]) -> M:
    """Merge the facts of at least one replicate as their model says, field by field.

    Raises:
        Disagreement: a field that must be the same differs, with both values.
        TypeError: a field does not say how it is merged.
    """
    model = type(parts[0])
    merged = {name: _field(model, name, parts) for name in model.model_fields}
    return parts[0].model_copy(update=merged)


def _field(model: type[BaseModel], name: str, parts: Sequence[BaseModel]) -> object:
    how = [rule for rule in model.model_fields[name].metadata if isinstance(rule, Merge)]
    if len(how) != 1:
        raise TypeError(f"{model.__name__}.{name} has {len(how)} rules of merging, expected one")
    values = [getattr(part, name) for part in parts]
    match how[0]:
        case Merge.SAME:
            for place, value in enumerate(values):
                if value != values[0]:
                    raise Disagreement(
                        f"the replicates disagree on {name}: {_shown(values[0])} in process 1, "
                        f"{_shown(value)} in process {place + 1}"
                    )
            return values[0]
        case Merge.EACH:
            return tuple(chain.from_iterable(values))
        case Merge.UNITED:
            united: list[object] = []
            united += (item for item in chain.from_iterable(values) if item not in united)
            return tuple(united)
        case Merge.ALL:
            return all(values)
        case Merge.FIRST:
            return next((value for value in values if value is not None), None)


def _shown(value: object) -> str:
    return value.model_dump_json() if isinstance(value, BaseModel) else repr(value)
