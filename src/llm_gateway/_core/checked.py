"""The base of every model a caller fills in: a bad value is an `InvalidRequest` that echoes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Self, cast

from pydantic import BaseModel, ConfigDict, ModelWrapValidatorHandler, ValidationError, model_validator

from llm_gateway.errors import InvalidRequest

__all__ = ["CheckedModel", "complaints", "was_validated"]

DEEPEST: Final = 6


class CheckedModel(BaseModel):
    """Frozen, closed to unknown fields, and silent about its input when it refuses one.

    An instance that no validation has made, such as a copy with changes, is told from the others: what holds it is
    not valid before it has been validated too.
    """

    # A slot, because nothing that copies an instance takes it along.
    __slots__ = ("_valid",)
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, allow_inf_nan=False)

    def __new__(cls, *given: object, **_: object) -> Self:
        """Refuse fields without their names, which would be a bare TypeError otherwise."""
        if given:
            message = f"{cls.__name__} takes its fields by name, and {len(given)} came without."
            raise InvalidRequest(message, next_step="Write the name before each value, as in prompt=...")
        return super().__new__(cls)

    @model_validator(mode="wrap")
    @classmethod
    def _refuse_typed(cls, data: object, handler: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            made = handler(_fields(data) if isinstance(data, cls) and not was_validated(data) else data)
        except ValidationError as error:
            message = f"{cls.__name__} is not valid: {complaints(error)}."
        else:
            # Past the frozen fields: it is none of them.
            object.__setattr__(made, "_valid", True)
            return made
        raise InvalidRequest(message)


def was_validated(model: CheckedModel) -> bool:
    """Whether validation made *model*, rather than a copy or a shortcut around validation."""
    return hasattr(model, "_valid")


def _fields(model: BaseModel) -> Mapping[str, object]:
    return cast("Mapping[str, object]", vars(model))


def complaints(error: ValidationError) -> str:
    """Name each bad field and its rule, never its value, nor a name that is no identifier and may be content."""
    problems = error.errors(include_input=False, include_context=False, include_url=False)
    return "; ".join(f"{_place(problem['loc'])}: {problem['msg']}" for problem in problems[:10])


def _place(steps: Sequence[str | int]) -> str:
    shown = [str(step) if isinstance(step, int) or step.isidentifier() else "*" for step in steps[:DEEPEST]]
    return ".".join(shown) or "value"
