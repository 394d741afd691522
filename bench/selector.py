"""Selectors `name[param=value,param=[v1,v2]]`: a name with a grid of parameters, as benchopt's users know them."""

import ast
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from bench.errors import UserError

Value = bool | int | float | str
SHAPE = re.compile(r"^(?P<name>[^\[\]=,\s]+)\s*(\[(?P<body>.*)\])?$", re.DOTALL)


@dataclass(frozen=True)
class Selector:
    """A name and, for each parameter, the values to cross."""

    name: str
    grid: dict[str, tuple[Value, ...]] = field(default_factory=dict)

    def points(self) -> Iterator[dict[str, Value]]:
        """Yield every combination of the parameters' values."""
        for values in itertools.product(*self.grid.values()):
            yield dict(zip(self.grid, values, strict=True))


def split_outside(text: str, separator: str = ",") -> list[str]:
    """Return the pieces of `text` between separators that stand outside brackets, parentheses and quotes."""
    pieces, depth, quote, current = [], 0, "", ""
    for character in text:
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        depth += (character in "[(") - (character in "])")
        if character == separator and not depth and not quote:
            pieces.append(current)
            current = ""
        else:
            current += character
    return [*pieces, current] if current.strip() else pieces


def parse_value(text: str) -> Value:
    """Return the number, truth value or string that `text` stands for; `0.5/L` stays a string, an expression."""
    text = text.strip()
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            continue
    if text[:1] in ("'", '"'):
        try:
            return str(ast.literal_eval(text))
        except (SyntaxError, ValueError):
            raise UserError(f"cannot read {text}: close the quote, or write no quotes") from None
    return text


def parse_selector(text: str) -> Selector:
    """Return the selector written as `text`.

    Raises:
        UserError: the text has not the shape `name[param=value,param=[v1,v2]]`.
    """
    match = SHAPE.match(text.strip())
    if match is None:
        raise UserError(f"cannot read the selector '{text}': write name[param=value,param=[v1,v2]]")
    grid: dict[str, tuple[Value, ...]] = {}
    for piece in split_outside(match["body"] or ""):
        name, equals, value = piece.partition("=")
        name, value = name.strip(), value.strip()
        if not equals or not name or not value:
            raise UserError(f"cannot read '{piece.strip()}' in the selector '{text}': write param=value")
        if name in grid:
            raise UserError(f"parameter '{name}' stands twice in the selector '{text}'")
        listed = value.startswith("[") and value.endswith("]")
        values = split_outside(value[1:-1]) if listed else [value]
        if not values:
            raise UserError(f"parameter '{name}' has an empty list in the selector '{text}'")
        grid[name] = tuple(parse_value(v) for v in values)
    return Selector(match["name"], grid)


def render(name: str, parameters: dict[str, Value]) -> str:
    """Return `name[param=value,...]` with the parameters in alphabetical order: the one text for one choice."""
    body = ",".join(f"{key}={parameters[key]}" for key in sorted(parameters))
    return f"{name}[{body}]" if body else name
