"""What a setting may hold: its bounds and the words for them, once; a wrong one becomes one line that names the key.

A section is a `Settings`; its keys are typed with the kinds below. From the same definition come validation, the
message and the JSON schema for editors (python -m nsa.config).
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Annotated, Literal, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    JsonValue,
    ValidationError,
    ValidationInfo,
    model_validator,
)
from pydantic.config import JsonDict
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from nsa.errors import ConfigError

MAX_INT32 = 2**31 - 1  # whole numbers end up in int32 columns
EXPONENT = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+")  # a number that YAML 1.1 reads as text, such as 1e-3
SHOWN = 120  # characters of a wrong value that a message repeats


class Endless:
    """What a message shows of a number that Python does not print: YAML takes thousands of digits in hexadecimal."""

    def __repr__(self) -> str:
        return "a number of thousands of digits"


def refuse(value: object, expected: str, key: str = "") -> PydanticCustomError:
    """What a validator raises: the value and what was expected, of the validated key or of this one in the section."""
    try:
        repr(value)
    except ValueError:
        value = Endless()
    if isinstance(value, str):  # bytes that are no text, which a shell can give: pydantic takes text alone
        value = value.encode(errors="backslashreplace").decode()
    return PydanticCustomError("setting", "expected {expected}", {"key": key, "value": value, "expected": expected})


def unknown_key(key: object, known: Collection[str]) -> PydanticCustomError:
    """What a validator raises for a key that a section does not have."""
    near = get_close_matches(str(key), known, n=1)
    meant = f"; did you mean {near[0]}?" if near else ""
    says = f"unknown key {key!r} in {{}}; known keys: {_list(known)}{meant}"
    return PydanticCustomError("keys", "unknown", {"says": says})


def _for_editors(schema: JsonDict) -> None:
    """In the JSON schema of a section every key is required, and needs no title beside its name."""
    keys = schema["properties"]
    assert isinstance(keys, dict)
    schema["required"] = list(keys)
    for part in (schema, *keys.values()):
        assert isinstance(part, dict)
        part.pop("title", None)
        part.pop("default", None)


class Settings(BaseModel):
    """A section: frozen, without unknown keys. A file must have every key (see `parse`); in code each has its default.

    Raises:
        ConfigError: a key is unknown or its value is wrong, in one line.
    """

    def __init__(self, **values: object) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise ConfigError(line(error, "the settings")) from None

    # Of a section within a section pydantic then collects the errors itself, with the whole path to the key.
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]  # of pydantic, untyped

    model_config = ConfigDict(frozen=True, extra="forbid", json_schema_extra=_for_editors, defer_build=True)

    @model_validator(mode="before")
    @classmethod
    def _keys(cls, values: object, info: ValidationInfo[str | None]) -> object:
        keys = tuple(cls.model_fields)
        if isinstance(values, cls):
            return values
        if not isinstance(values, Mapping):
            raise refuse(values, f"a mapping with the keys {_list(keys)}")
        for key in values:
            if key not in keys:
                raise unknown_key(key, keys)
        for key in keys if info.context == _COMPLETE else ():
            if key not in values:
                says = f"{{}} lacks the key {key!r}; expected {_list(keys)}"
                raise PydanticCustomError("keys", "missing", {"says": says})
        return dict(values)


_COMPLETE = "every key must be there"
S = TypeVar("S", bound=Settings)


def parse(model: type[S], raw: object, source: str, *, complete: bool = True) -> S:
    """Validate what a file holds.

    Args:
        model: the section.
        raw: its content.
        source: the file, named in the message.
        complete: every key must be there; else those left out have their defaults.

    Raises:
        ConfigError: one line naming the file, the key, its value and what was expected.
    """
    try:
        return model.model_validate(raw, context=_COMPLETE if complete else None)
    except ValidationError as error:
        said = line(error, source)
        raise ConfigError(said if said.startswith(f"{source} ") else f"{source}: {said}") from None


def leaves(section: Mapping[str, JsonValue], prefix: str = "") -> Iterator[tuple[str, JsonValue]]:
    """The values of nested settings, each with its dotted key."""
    for key, value in section.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def line(error: ValidationError, source: str) -> str:
    """The first error as one line."""
    first = error.errors(include_url=False)[0]
    context, path = first.get("ctx", {}), [str(part) for part in first["loc"]]
    match first["type"]:
        case "keys":
            return str(context["says"]).replace("{}", ".".join(path) or source, 1)
        case "setting":
            path += [context["key"]] if context["key"] else []
            value, expected = context["value"], context["expected"]
        case "literal_error":
            value, expected = first["input"], context["expected"].replace("'", "")  # auto, cuda or cpu
        case _:
            value, expected = first["input"], first["msg"].removeprefix("Input should be ")
    return f"{'.'.join(path) or source}: got {value!r:.{SHOWN}}, expected {expected}"


def _list(keys: Collection[str]) -> str:
    return ", ".join(keys)


@dataclass(frozen=True)
class Whole:
    """A whole number in bounds: neither 32.0 nor True nor "32" is one."""

    least: int = 1
    most: int = MAX_INT32
    why: str = ""  # of the bounds

    @property
    def words(self) -> str:
        """What is expected."""
        if self.most == MAX_INT32:
            return f"a whole number of at least {self.least}"
        return f"a whole number from {self.least} to {self.most}{self.why and f' ({self.why})'}"

    def check(self, value: object) -> int:
        """The number, or an error."""
        if type(value) is int and value > self.most == MAX_INT32:
            raise refuse(value, f"a whole number of at most {MAX_INT32}")
        if type(value) is not int or not self.least <= value <= self.most:
            raise refuse(value, self.words)
        return value

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self.check)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"type": "integer", "minimum": self.least, "maximum": self.most, "description": self.words}


@dataclass(frozen=True)
class Number:
    """A finite number in bounds, each of which belongs to it or, with `open`, does not."""

    words: str
    least: float
    most: float = math.inf
    open: bool = False

    def check(self, value: object) -> float:
        """The number, or an error."""
        given = float(value) if isinstance(value, str) and EXPONENT.fullmatch(value) else value
        if type(given) is int and abs(given) < 2**1000:
            given = float(given)
        if type(given) is not float or not math.isfinite(given) or not self.least <= given <= self.most:
            raise refuse(value, self.words)
        if self.open and given in (self.least, self.most):
            raise refuse(value, self.words)
        return given

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self.check)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        low, high = ("exclusiveMinimum", "exclusiveMaximum") if self.open else ("minimum", "maximum")
        bounds = {low: self.least} | ({} if math.isinf(self.most) else {high: self.most})
        return {"type": "number", **bounds, "description": self.words}


@dataclass(frozen=True)
class Distinct:
    """A list in which nothing is twice, as a tuple; what its items may be they say themselves."""

    words: str
    empty: bool = False  # may be

    def check(self, value: object) -> tuple[object, ...]:
        """The list as a tuple, or an error."""
        if not isinstance(value, list | tuple) or not (value or self.empty):
            raise refuse(value, self.words)
        if any(item in value[:place] for place, item in enumerate(value)):
            raise refuse(value, self.words)
        return tuple(value)

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        least = {} if self.empty else {"minItems": 1}
        return {**handler(schema), **least, "uniqueItems": True, "description": self.words}


Count = Annotated[int, Whole()]
Counts = Annotated[tuple[Count, ...], Distinct("a list of distinct whole numbers of at least 1")]
Seed = Annotated[int, Whole(0)]
Positive = Annotated[float, Number("a number above 0", 0, open=True)]
# No longer wait fits the system's timers, which count milliseconds.
Seconds = Annotated[float, Number("a number above 0 and below a million (seconds)", 0, 1e6, open=True)]
Share = Annotated[float, Number("a number from 0 to 1", 0, 1)]
Dtype = Literal["float32", "float16", "bfloat16"]
