"""Options, the errors that name them, and the components that have them.

A config checks its own options and says what is wrong in the words of the library: "clip
must be above 0, not -1."  It does not know under which flag of a command line an option was
given; `configs` does, and puts the flag in the place of the name.  This module is in the
lowest layer, since all layers above it have options.  `agents.gates`, which is useful without
any of them, raises plain `ValueError`s that begin with the option's name, and has a registry
of its own.
"""

import ast
from collections.abc import Callable
from dataclasses import MISSING, fields
from math import inf
from typing import Any, Protocol, runtime_checkable

_MARK = "\0"
"""On either side of an option's name in a text; no argument of a command line can hold it."""


class OptionError(ValueError):
    """An option has a value that makes no sense; reads as one sentence.

        raise OptionError("clip", "must be above 0, not -1.")

    Other options in the sentence are written by `mention`, so that they are renamed with it:

        raise OptionError("ahead", f"is too long: use a longer {mention('unroll_length')}.")
    """

    def __init__(self, option: str, text: str) -> None:
        """Joins the name of an option and what is wrong with it into one sentence.

        Args:
            option: the name of the field, with which the sentence starts; empty if it starts with
                `text`.
            text: how the sentence goes on.
        """
        super().__init__(option, text)  # both, so that it can be sent to another process
        self._text = f"{mention(option)} {text}" if option else text

    def __str__(self) -> str:
        """The sentence, with the options' own names."""
        return self.sentence(str)

    def sentence(self, name: Callable[[str], str]) -> str:
        """Writes the sentence with other names for its options.

        Args:
            name: from an option's field to what the reader knows it by.
        """
        parts = self._text.split(_MARK)
        parts[1::2] = map(name, parts[1::2])
        return "".join(parts)


def mention(option: str) -> str:
    """Marks an option's name within the text of an `OptionError`."""
    return f"{_MARK}{option}{_MARK}"


def require(config: object, option: str, holds: bool, what: str) -> None:
    """Refuses a value unless a condition holds.

    Args:
        config: whose option it is.
        option: the name of the field.
        holds: the condition.
        what: completes "must be ...".

    Raises:
        OptionError: it does not hold.
    """
    if not holds:
        raise OptionError(option, f"must be {what}, not {getattr(config, option)}.")


def at_least(config: object, least: int, *options: str) -> None:
    """Refuses numbers that are too small, infinite or not a number; none is no number.

    Args:
        config: whose options they are.
        least: the smallest number that will do.
        options: names of fields.

    Raises:
        OptionError: about the first of them that is refused.
    """
    what = f"at least {least}" if least else "0 or more"
    for option in options:
        value = getattr(config, option)
        require(config, option, value is None or least <= value < inf, what)


def in_brackets(text: str) -> dict[str, Any]:
    """Reads options in Python's notation, as those of `projection(decay=0.99)`.

    Args:
        text: what follows the opening bracket, the closing one included.

    Raises:
        ValueError: they cannot be read; the caller says how they are written.
    """
    try:
        call = ast.parse(f"_({text}", mode="eval").body
        if isinstance(call, ast.Call) and not call.args:
            pairs = [(option.arg, ast.literal_eval(option.value)) for option in call.keywords]
            options = {name: value for name, value in pairs if name is not None}
            if len(options) == len(pairs):
                return options
    except (SyntaxError, RecursionError, MemoryError) as error:
        raise ValueError(str(error)) from error
    raise ValueError("only options with names are taken")


@runtime_checkable
class Component(Protocol):
    """The config of a component: a frozen dataclass, each of whose fields has a default."""

    build: Callable[..., Any]
    """Makes the component; what it is given depends on the kind of component."""


class Registry:
    """Components by their command-line names: the package's own, and those of plugins."""

    def __init__(
        self,
        kind: str,
        own: object,
        reserved: tuple[str, ...] = (),
        contract: type = Component,
    ) -> None:
        """Starts with the package's own components.

        Args:
            kind: what they are called in errors, as `head`.
            own: a dataclass instance with a default config for each of them.
            reserved: names that mean something else on the command line.
            contract: the protocol that every config follows.
        """
        self._kind, self._reserved, self._contract = kind, reserved, contract
        self._own: dict[str, Any] = dict(vars(own))
        self._added: dict[str, Any] = {}

    def registered(self) -> dict[str, Any]:
        """The default config of every component, by name; plugins' after the package's own."""
        return {**self._own, **self._added}

    def register(self, name: str, config: Any) -> None:
        """Adds a component, which then can be chosen on the command line.

        Args:
            name: in lower case, with underscores.
            config: an instance of a frozen dataclass with a `build`; its values are the defaults.

        Raises:
            ValueError: the name is taken or no name, or the config is not such an instance.
        """
        self.check(name, config)
        self._added[name] = config

    def check(self, name: str, config: Any) -> None:
        """Refuses what `register` refuses.

        Args:
            name: of the component.
            config: its default options.

        Raises:
            ValueError: the name is taken or no name, or the config is not such an instance.
        """
        what = f"{self._kind} {name}"
        if not name.isidentifier() or name != name.lower():
            raise ValueError(f"{what} needs a name in lower case, with underscores.")
        if name in self.registered() or name in self._reserved:
            raise ValueError(f"{what} is taken: choose another name.")
        kind: Any = type(config)
        parameters: Any = getattr(kind, "__dataclass_params__", None)
        if parameters is None or not parameters.frozen or not isinstance(config, self._contract):
            raise ValueError(
                f"{what} must be registered with an instance of a frozen dataclass that has what "
                f"{self._contract.__name__} asks for, not {config!r}."
            )
        for option in fields(kind):
            if option.default is MISSING and option.default_factory is MISSING:
                raise ValueError(f"{what} has no default for its option {option.name}: give one.")
