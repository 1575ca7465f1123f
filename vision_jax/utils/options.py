"""An option: its default, its meaning, and what is wrong with a value of it."""

import dataclasses
import math
import types
import typing
from typing import Any

from vision_jax.utils.text import closest


class ConfigError(ValueError):
    """A config that cannot run; the message says which option, what was found and what is allowed."""


@dataclasses.dataclass(frozen=True)
class Between:
    """The range of a number, both ends included; for `Annotated[float, Between(0, 1)]`."""

    low: float | None = None
    high: float | None = None


@dataclasses.dataclass(frozen=True)
class OneOf:
    """The values that a text may have; for `Annotated[str, OneOf(("max", "avg"))]`."""

    choices: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Option:
    """One option.

    Attributes:
        default: its value where a config says nothing; None means "not set" and needs `kind`.
        meaning: one sentence, with the unit.
        kind: the type of a value as annotations write it; taken from the default where there is one.
        low, high: the allowed range, both included.
        choices: the allowed values.
        neutral: changing it cannot change what a run computes, so that a resumed run may differ in it.
    """

    default: Any
    meaning: str
    kind: Any = None
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] | None = None
    neutral: bool = False

    @classmethod
    def of_field(cls, annotation: Any, default: Any, meaning: str) -> "Option":
        """Returns the option that a dataclass's field is; `Between` and `OneOf` are read from its annotation."""
        limits: dict[str, Any] = {}
        if typing.get_origin(annotation) is typing.Annotated:
            annotation, *found = typing.get_args(annotation)
            for limit in found:
                limits |= dataclasses.asdict(limit)
        return cls(default, meaning, annotation, **limits)

    @property
    def type(self) -> Any:
        """The type that values have; where a float is expected, an int will do."""
        return type(self.default) if self.kind is None else self.kind

    def problem(self, value: Any) -> str | None:
        """Returns what is wrong with `value`, or None."""
        if value is None:
            return None if self.default is None else f"must be set; its default is {self.default!r}"
        if not is_of(value, self.type):
            return f"is {value!r} ({type(value).__name__}), expected {type_name(self.type)}"
        if self.choices and value not in self.choices:
            return f"is {value!r}, expected one of {', '.join(self.choices)}{closest(str(value), self.choices)}"
        numbers = value if isinstance(value, tuple | list) else (value,)
        if any(isinstance(number, float) and not math.isfinite(number) for number in numbers):
            return f"is {value!r}, expected a finite number"
        limited = self.low is not None or self.high is not None
        if limited and not all(isinstance(number, int | float) for number in numbers):
            return f"is {value!r}, expected numbers"
        below = self.low is not None and any(number < self.low for number in numbers)
        above = self.high is not None and any(number > self.high for number in numbers)
        if below or above:
            low = "" if self.low is None else f"from {self.low:g} "
            high = "upwards" if self.high is None else f"to {self.high:g}"
            return f"is {value!r}, allowed is {low}{high}"
        return None


def is_of(value: Any, kind: Any) -> bool:
    """Whether a value is of a type as annotations write it; lists pass for tuples and ints for floats."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return any(is_of(value, argument) for argument in arguments)
    if origin is tuple:
        if not isinstance(value, tuple | list):
            return False
        if arguments[-1] is not Ellipsis:
            return len(value) == len(arguments) and all(map(is_of, value, arguments))
        return all(is_of(item, arguments[0]) for item in value)
    if isinstance(value, bool):
        return kind is bool
    if kind is tuple:
        return isinstance(value, tuple | list)
    return isinstance(value, (int, float) if kind is float else kind)


def type_name(kind: Any) -> str:
    """Returns a type as annotations write it."""
    return kind.__name__ if isinstance(kind, type) and not typing.get_args(kind) else str(kind).replace("typing.", "")
