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


Contexts = Annotated[Counts, AfterValidator(lambda contexts: tuple(sorted(contexts)))]


@dataclass(frozen=True)
class AllOrContexts:
    """The word "all", or a list of contexts."""

    words: str = "all, or a list of contexts"

    def check(self, value: object, inner: ValidatorFunctionWrapHandler) -> object:
        """The value, or an error."""
        if isinstance(value, str) and value != "all":
            raise refuse(value, self.words)
        return value if value == "all" else inner(value)

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        as_it_is = core_schema.plain_serializer_function_ser_schema(lambda value: value)
        return core_schema.no_info_wrap_validator_function(
            self.check, handler.generate_schema(Contexts), serialization=as_it_is
        )

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"anyOf": [{"const": "all"}, handler(schema)], "description": self.words}


BackendName = Annotated[str, Known()]
Targets = Annotated[Literal["all"] | tuple[int, ...], AllOrContexts()]
