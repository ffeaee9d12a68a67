"""Two kinds of keys that only config.yaml has: the name of a backend, and a word that stands for a whole list."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import AfterValidator, GetCoreSchemaHandler, GetJsonSchemaHandler, ValidatorFunctionWrapHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from nsa import backends
from nsa.settings import Counts, refuse


@dataclass(frozen=True)
class Known:
    """The name of a backend that there is, which depends on what is installed: for an editor any text."""

    def check(self, value: object) -> str:
        """The name, or an error."""
        if isinstance(value, str) and value in backends.broken():
            raise refuse(value, f"a backend that can be used: {backends.broken()[value].why}")
        if not isinstance(value, str) or value not in backends.names():
            raise refuse(value, f"one of {', '.join(backends.names())}")
        return value

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self.check)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"type": "string", "description": "the name of a backend"}


GUIDE_CONTEXTS = (128, 256, 512, 1024)  # the guide's; with its n and l' every block of them is selected
LONG_CONTEXTS = (4096, 16384, 65536)  # beyond n x l', where the share says something of longer contexts
AUTO = "auto"

Ascending = Annotated[Counts, AfterValidator(lambda contexts: tuple(sorted(contexts)))]


@dataclass(frozen=True)
class WordOrContexts:
    """One of some words, or a list of contexts.

    Attributes:
        words: those that stand for a whole list.
        stands_for: the list that a word is replaced by; None where it stays a word.
    """

    words: tuple[str, ...]
    stands_for: tuple[int, ...] | None = None

    @property
    def said(self) -> str:
        """What a message expects."""
        return f"{', '.join(self.words)}, or a list of contexts"

    def check(self, value: object, inner: ValidatorFunctionWrapHandler) -> object:
        """The value, or an error."""
        if not isinstance(value, str):
            return inner(value)
        if value not in self.words:
            raise refuse(value, self.said)
        return self.stands_for or value

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        as_it_is = core_schema.plain_serializer_function_ser_schema(lambda value: value)
        return core_schema.no_info_wrap_validator_function(
            self.check, handler.generate_schema(Ascending), serialization=as_it_is
        )

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"anyOf": [*({"const": word} for word in self.words), handler(schema)], "description": self.said}


Contexts = Annotated[tuple[int, ...], WordOrContexts((AUTO,), GUIDE_CONTEXTS)]
Targets = Annotated[Literal["auto", "all"] | tuple[int, ...], WordOrContexts((AUTO, "all"))]
BackendName = Annotated[str, Known()]
