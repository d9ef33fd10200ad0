"""Numbers as people type them, and which of them an option can have at all."""

import math
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from decimal import Decimal
from typing import Any

from configs.errors import UsageError, flag

UNITS = {"k": 10**3, "m": 10**6, "g": 10**9, "b": 10**9}
"""What may follow a whole number, in either case: 10k is 10,000."""

MOST_DIGITS = 24
"""A number with more of them is no count of anything, and Python needs long for 1e999999999."""


def whole_number(text: str) -> int:
    """Reads a whole number, written as 10000, 10_000, 1e4 or 10k.

    Raises:
        ValueError: it is none.
    """
    plain = text.strip().replace("_", "")
    unit = UNITS.get(plain[-1:].lower(), 1)
    number = plain if unit == 1 else plain[:-1]
    try:
        value = Decimal(number)
    except ArithmeticError:
        value = Decimal("nan")
    if value.is_finite() and value.adjusted() >= MOST_DIGITS:
        raise ValueError(f"'{text}' is too large")
    if value.is_finite() and value * unit == int(value * unit):
        return int(value * unit)
    raise ValueError(f"'{text}' is not a whole number")


MOST_SEED, MOST_STEPS, MOST_THREADS, MOST = 2**63 - 1, 10**15, 1024, 10**6
"""The largest seed, duration, number of threads or processes, and any other whole number."""

SEEDS = ("seed", "first_world", "without_copies_of", "start_level")
THREADS = ("threads", "workers", "pools")
STEPS = ("steps", "updates", "columns", "eval_every")


def largest(option: str) -> int:
    """The largest whole number that an option can have, by the last words of its name."""
    limits = {SEEDS: MOST_SEED, STEPS: MOST_STEPS, THREADS: MOST_THREADS}
    return next((most for names, most in limits.items() if option.endswith(names)), MOST)


def check_numbers(config: Any, component: str = "") -> None:
    """Refuses numbers that no option can have: NaN, infinity, and sizes that no machine holds.

    Called after the config's own checks, which know more of each option.

    Args:
        config: a dataclass's instance; those in it are checked by themselves.
        component: its place on the command line, as `algo.ppo`.

    Raises:
        UsageError: about the first of them.
    """
    for option in fields(config):
        check_number(flag(option.name, component), option.name, getattr(config, option.name))


def check_number(name: str, option: str, value: Any) -> None:
    """Refuses a value if it is, or holds, a number that no option can have.

    Args:
        name: of the option in the message.
        option: the name of its field, which says how large it may be.
        value: of any type.

    Raises:
        UsageError: it is such a number.
    """
    most = largest(option)
    for number in _numbers_in(value):
        if isinstance(number, float) and not math.isfinite(number):
            raise UsageError(f"{name} must be a finite number, not {number}.")
        if isinstance(number, int) and abs(number) > most:
            raise UsageError(f"{name} must be at most {most:,}, not {number:,}.")


def _numbers_in(value: Any) -> Iterator[int | float]:
    if isinstance(value, int | float) and not isinstance(value, bool):
        yield value
    elif isinstance(value, list | tuple) and not is_dataclass(value):
        for each in value:
            yield from _numbers_in(each)
