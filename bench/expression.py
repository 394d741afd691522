"""Hyper-parameters as expressions in the problem's constants: `"0.5/L"`, `"2/(L+mu)"`, `"sqrt(mu/L)"`."""

import ast
import operator
from collections.abc import Mapping
from typing import Any

import numpy as np

from bench.errors import UserError

OPERATORS = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
    ast.USub: operator.neg,
}
FUNCTIONS = {"sqrt": np.sqrt, "log": np.log, "exp": np.exp, "min": np.minimum, "max": np.maximum, "ceil": np.ceil}


def evaluate(text: str, names: Mapping[str, Any]) -> Any:
    """Return the value of the arithmetic expression `text` in the named numbers (arrays compute elementwise).

    Raises:
        UserError: the text is no arithmetic, or a name in it is not stated by this problem.
    """

    def value(node: ast.AST) -> Any:
        match node:
            case ast.Constant(value=int() | float() as number):
                return float(number)
            case ast.Name(id=name):
                if names.get(name) is None:
                    stated = ", ".join(sorted(key for key, known in names.items() if known is not None))
                    raise UserError(f"'{name}' in '{text}' is not known for this problem; stated are: {stated}")
                return names[name]
            case ast.BinOp(left, op, right) if type(op) in OPERATORS:
                return OPERATORS[type(op)](value(left), value(right))
            case ast.UnaryOp(ast.USub(), operand):
                return -value(operand)
            case ast.Call(func=ast.Name(id=name), args=arguments) if name in FUNCTIONS:
                return FUNCTIONS[name](*map(value, arguments))
        raise UserError(
            f"cannot read the expression '{text}': numbers, constants, + - * / ** and {', '.join(FUNCTIONS)}"
        )

    try:
        with np.errstate(all="ignore"):
            number = value(ast.parse(text.strip(), mode="eval").body)
    except SyntaxError as error:
        raise UserError(f"cannot read the expression '{text}': {error.msg}") from None
    except (ArithmeticError, TypeError, ValueError) as error:
        raise UserError(f"the expression '{text}' has no value: {error}") from None
    if np.iscomplexobj(number):
        raise UserError(f"the expression '{text}' is not a real number")
    return number
