"""Gates as text, `projection(decay=0.99)`, and which of them a sweep can use."""

import ast
from typing import Any

from agents.gates import Gate, make


def parse_gate(text: str) -> Gate:
    """Builds the gate that a text names, with its options.

    Raises:
        ValueError: if it names none, or one that needs more than gradients.
    """
    name, options = _read(text)
    try:
        gate = make(name, **options)
    except (TypeError, ValueError) as error:
        raise ValueError(f"--gates {text}: {error}") from error
    needs = {
        "a network": gate.needs_network,
        "the values of losses": gate.needs_losses,
        "gradients of single steps": gate.sample_rows > 0,
        "gradients of slices of environments": gate.slices > 0,
    }
    wanted = next((what for what, needed in needs.items() if needed), None)
    if wanted is not None:
        raise ValueError(
            f"--gates {text} needs {wanted}, which tabular students do not have: choose another "
            "gate, or train a network with it by train.py."
        )
    return gate


def _read(text: str) -> tuple[str, dict[str, Any]]:
    name, bracket, rest = text.partition("(")
    name = name.strip()
    if not bracket:
        return name, {}
    try:
        call = ast.parse(f"_({rest}", mode="eval").body
        if not isinstance(call, ast.Call) or call.args:
            raise ValueError
        return name, {
            _named(option.arg): ast.literal_eval(option.value) for option in call.keywords
        }
    except (SyntaxError, ValueError) as error:
        raise ValueError(
            f'--gates {text} cannot be read: write options as in "projection(decay=0.99)".'
        ) from error


def _named(option: str | None) -> str:
    if option is None:
        raise ValueError
    return option
