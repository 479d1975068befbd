"""Frozen values that refuse what is wrong all at once, as a RecipeError instead of pydantic's own."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticCustomError

from nova_dpo_sdk.errors import Finding, RecipeError, Severity

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pydantic_core import ErrorDetails

SHOWN = 120
"""Longest piece of a refused value that a message repeats, in characters."""


class Value(BaseModel, frozen=True, extra="forbid", strict=True, allow_inf_nan=False, defer_build=True):
    """A frozen, strict value; constructing a wrong one raises RecipeError with every finding.

    A class below says `frozen=True` again, since type checkers do not inherit it.
    """

    if not TYPE_CHECKING:  # type checkers keep the constructor that pydantic derives from the fields

        def __init__(self, **data: Any) -> None:
            try:
                super().__init__(**data)
            except ValidationError as error:
                found = findings_of(error, tuple(type(self).model_fields))
                # Everything in pydantic's own error is in the findings, readable; its chain would bury them.
                raise RecipeError(f"This {type(self).__name__} cannot be used:", found) from None


def findings_of(error: ValidationError, known: Iterable[str]) -> tuple[Finding, ...]:
    """Turn pydantic's errors into findings.

    Args:
        error: What pydantic raised.
        known: The names that are allowed, for a suggestion beside an unknown one.
    """
    names = tuple(known)
    found = [_finding(each, names) for each in error.errors(include_url=False)]
    return tuple(finding for finding in found if finding is not None)


def nearest(name: str, known: Iterable[str]) -> str:
    """The known name closest to `name`, or an empty string when none is close."""
    return next(iter(difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)), "")


def shown(value: object) -> str:
    """A value as a message repeats it: its repr, cut to a readable length."""
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def _finding(each: ErrorDetails, known: tuple[str, ...]) -> Finding | None:
    kind, value = each["type"], each.get("input")
    where = ".".join(str(part) for part in each["loc"]) or "recipe"
    if kind == "default_factory_not_called":
        return None  # follows from an error that is reported itself
    if kind == "finding":
        return each.get("ctx", {})["finding"]  # type: ignore[no-any-return] # put there by our own validators
    if kind == "missing":
        return Finding("field-missing", Severity.ERROR, where, f"{where} is required.", fix=f"Give {where}.")
    if kind == "extra_forbidden":
        return _unknown_field(where, value, known)
    if kind == "finite_number":
        text = f"{where} is {shown(value)}, which is not a finite number."
        return Finding("not-finite", Severity.ERROR, where, text, value, "a finite number")
    text = f"{where} is {shown(value)}: {each['msg'][:1].lower()}{each['msg'][1:]}."
    return Finding("wrong-type", Severity.ERROR, where, text, value, fix=f"Correct {where}.")


def _unknown_field(where: str, value: object, known: Iterable[str]) -> Finding:
    """The finding for a name that no recipe of this kind has."""
    close = nearest(where, known)
    return Finding(
        code="unknown-key",
        severity=Severity.ERROR,
        where=where,
        message=f"{where} is not a parameter of this recipe.",
        value=value,
        allowed=", ".join(sorted(known)) if not close else f"{close} (the nearest known name)",
        fix=(f"Did you mean {close}? " if close else "")
        + f'A parameter that Nova added since can be carried in extra={{"<path.in.the.yaml>": ...}} (here: {where}).',
    )


def refused(
    code: str, where: str, message: str, value: object, allowed: str = "", fix: str = ""
) -> PydanticCustomError:
    """A finding in the shape that survives pydantic's validators, which swallow other errors."""
    finding = Finding(code, Severity.ERROR, where, message, value, allowed, fix)
    return PydanticCustomError("finding", "{message}", {"message": message, "finding": finding})
