"""Facts of several replicates become those of the cell: nothing is overwritten, and nothing that differs is hidden."""

from __future__ import annotations

from types import NoneType, UnionType
from typing import Annotated, Union, get_args, get_origin

import pytest
from pydantic import ValidationError

from nsa.bench.tune.job import TuneFacts
from nsa.records.decode import DecodeFacts
from nsa.records.facts import CheckFacts, RooflineFacts
from nsa.records.merge import Disagreement, Merge, Model, merge

MERGED = (DecodeFacts, CheckFacts, RooflineFacts, TuneFacts)
FIELDS = [(model, name) for model in MERGED for name in model.model_fields]


class Size(Model):
    """A nested model."""

    rows: int


class Facts(Model):
    """One field of each rule."""

    size: Annotated[Size, Merge.SAME] = Size(rows=4)
    dtype: Annotated[str, Merge.SAME] = "float16"
    bandwidth: Annotated[tuple[float, ...], Merge.EACH] = ()
    others: Annotated[tuple[int, ...], Merge.UNITED] = ()
    finite: Annotated[bool, Merge.ALL] = True
    fault: Annotated[str | None, Merge.FIRST] = None


@pytest.mark.parametrize(
    ("field", "values", "expected"),
    [
        ("dtype", ["float16"] * 3, "float16"),
        ("size", [Size(rows=8), Size(rows=8)], Size(rows=8)),
        ("bandwidth", [(1.0, 2.0), (), (1.0,)], (1.0, 2.0, 1.0)),  # equal ones count as often as they were measured
        ("others", [(7, 8), (8,), (9, 7)], (7, 8, 9)),
        ("finite", [True, True], True),
        ("finite", [True, False, True], False),
        ("fault", [None, None], None),
        ("fault", [None, "wrong blocks", "others"], "wrong blocks"),
    ],
)
def test_each_rule(field: str, values: list[object], expected: object) -> None:
    """A field of the whole is made of every replicate's as its rule says, and no other field changes."""
    merged = merge([Facts.model_validate({field: value}) for value in values])
    assert getattr(merged, field) == expected
    others = set(Facts.model_fields) - {field}
    assert merged.model_dump(include=others) == Facts().model_dump(include=others)


def test_notes_that_are_equal_in_content_are_one() -> None:
    """Lists and mappings, which cannot be hashed, are united by what they hold."""

    class Noted(Model):
        notes: Annotated[tuple[dict[str, list[int]], ...], Merge.UNITED]

    parts = [Noted(notes=({"a": [1]},)), Noted(notes=({"a": [1]}, {"a": [2]}))]
    assert merge(parts).notes == ({"a": [1]}, {"a": [2]})


@pytest.mark.parametrize(
    ("field", "values", "message"),
    [
        ("dtype", ["float16", "float16", "float32"], "dtype: 'float16' in process 1, 'float32' in process 3"),
        ("size", [Size(rows=4), Size(rows=8)], 'size: {"rows":4} in process 1, {"rows":8} in process 2'),
    ],
)
def test_what_must_be_the_same_and_is_not_is_an_error(field: str, values: list[object], message: str) -> None:
    """The field, both values and both processes are named."""
    with pytest.raises(Disagreement, match=f"^the replicates disagree on {message}$"):
        merge([Facts.model_validate({field: value}) for value in values])


@pytest.mark.parametrize(("model", "name"), FIELDS, ids=lambda value: getattr(value, "__name__", value))
def test_every_field_of_the_facts_has_one_rule_that_fits_its_type(model: type[Model], name: str) -> None:
    """Tuples are joined, truth values are and-ed, and only what may be missing takes the first that is there."""
    field = model.model_fields[name]
    (rule,) = [each for each in field.metadata if isinstance(each, Merge)]
    if rule in (Merge.EACH, Merge.UNITED):
        assert get_origin(field.annotation) is tuple
    if rule is Merge.ALL:
        assert field.annotation is bool
    if rule is Merge.FIRST:
        assert get_origin(field.annotation) in (Union, UnionType) and NoneType in get_args(field.annotation)


def test_a_field_without_a_rule_is_our_mistake() -> None:
    """A field that does not say how it is merged, or says it twice, is never merged by chance."""

    class Silent(Model):
        seen: int

    class Twice(Model):
        seen: Annotated[int, Merge.SAME, Merge.FIRST]

    with pytest.raises(TypeError, match=r"Silent.seen has 0 rules of merging, expected one"):
        merge([Silent(seen=1)])
    with pytest.raises(TypeError, match=r"Twice.seen has 2 rules"):
        merge([Twice(seen=1)])


def test_a_recorded_value_is_of_its_type_and_stays() -> None:
    """Models take no unknown key and convert nothing, and nobody changes them afterwards."""
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        Size.model_validate({"rows": 4, "columns": 5})
    with pytest.raises(ValidationError, match="valid integer"):
        Size.model_validate({"rows": "4"})
    with pytest.raises(ValidationError, match="frozen"):
        Size(rows=4).rows = 5
