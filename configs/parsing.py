"""Flags into dataclasses by tyro, and whatever is wrong with them in one sentence.

tyro reads copies of the dataclasses that check nothing.  The real ones are made afterwards, so
that it is known whose option a complaint is about (see `configs.errors.in_flags`).  What tyro
itself refuses comes as an event of `tyro._errors`, which is not part of its public interface:
hence the exact version that `constraints.txt` asks for and the least one in `pyproject.toml`.
"""

import ast
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, make_dataclass, replace
from itertools import pairwise
from typing import Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

import tyro
from tyro import _errors as complaints
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from configs.errors import UsageError, flag, naming
from configs.numbers import check_numbers, whole_number
from configs.spellings import meant

Options = TypeVar("Options")

HELP_ALL = "--help-all"

_Argument: Any = type(tyro.conf.arg())
"""What `tyro.conf.arg` returns, which has no public name."""


def read(
    kind: type[Options],
    arguments: Sequence[str],
    prog: str,
    description: str | None = None,
    common: Collection[str] = (),
) -> Options:
    """Reads flags into a dataclass.

    Args:
        kind: the dataclass; those in it are groups of flags.
        arguments: of the command line.
        prog: the script's name, for the help.
        description: of what it does, for the help.
        common: names of the fields that `--help` shows, where it does not show all; `--help-all`
            does.

    Raises:
        UsageError: with one sentence for the user.
        SystemExit: after printing the help.
    """
    for path in ("--output", "--video", "--resume"):
        # Without the flag there is a default; an empty shell variable does not mean that.
        if f"{path}=" in arguments or (path, "") in pairwise(arguments):
            raise UsageError(f"{path} is empty: name a file or folder, or leave {path} out.")
    everything = HELP_ALL in arguments
    asked = not everything and any(word in ("-h", "--help") for word in arguments)
    shown = _unchecked(kind, common if asked else ())
    if everything:
        arguments = ["--help" if word == HELP_ALL else word for word in arguments]

    def refuse(event: complaints.ParseErrorEvent) -> None:
        _suggest(kind, arguments)
        raise UsageError(_sentence(event, arguments))

    numbers = _numbers()
    with complaints.on_parse_error(refuse):
        given = tyro.cli(
            shown, args=arguments, prog=prog, description=description, registry=numbers
        )
    made: Options = _checked(kind, given)
    return made


@dataclass(frozen=True)
class Option:
    """A flag of a dataclass: where its value lies and what it may be."""

    path: tuple[str, ...]
    """Names of fields, from the dataclass to the value."""
    component: str
    """Whose option it is, as `algo.ppo`; empty for the options of every run."""
    kind: Any
    """The type of its value."""
    matters: bool
    """Whether another value is another experiment; number of threads, for instance, is not."""

    def value(self, instance: Any) -> Any:
        """The value that an instance of the dataclass has."""
        for name in self.path:
            instance = getattr(instance, name)
        return instance

    def read(self, flag: str, words: Sequence[str]) -> tuple[Any, ...]:
        """Reads several values at once: a call of tyro costs much more than a value.

        Args:
            flag: the flag's name, without dashes.
            words: one text for each value; the entries of a list are separated by spaces.

        Raises:
            UsageError: one of them is no value of this option.
        """
        if self.kind is bool:
            known = {"true": True, "false": False}
            wrong = next((word for word in words if word.lower() not in known), None)
            if wrong is not None:
                raise UsageError(f"--{flag}: '{wrong}' is neither true nor false.")
            return tuple(known[word.lower()] for word in words)
        if get_origin(self.kind) is tuple:
            return tuple(_read_one(flag, self.kind, (), word.split()) for word in words)
        try:
            several: Any = tuple.__class_getitem__((self.kind, ...))
            found: tuple[Any, ...] = _read_one(flag, several, (), words)
        except UsageError:
            for word in words:  # says which
                _read_one(flag, self.kind, tyro.MISSING, [word])
            raise
        return found


def _read_one(flag: str, kind: Any, default: Any, words: Sequence[str]) -> Any:
    # The field has the option's name, which says how large a number may be.
    name = flag.rpartition(".")[2].replace("-", "_")
    hint = Annotated[kind, tyro.conf.arg(name=flag)]
    holder = make_dataclass("Values", [(name, hint, field(default=default))], frozen=True)
    return getattr(read(holder, [f"--{flag}", *words], prog="study.py"), name)


def options(kind: Any, component: str = "", path: tuple[str, ...] = ()) -> dict[str, Option]:
    """The flags of a dataclass and of those in it, without dashes.

    Args:
        kind: the dataclass.
        component: its place on the command line.
        path: from the outermost dataclass to it.
    """
    found: dict[str, Option] = {}
    compared = {each.name: bool(each.compare) for each in fields(kind)}
    for name, hint in _hints(kind).items():
        if is_dataclass(hint.kind):
            found |= options(hint.kind, _within(component, hint.place), (*path, name))
        else:
            key = flag(hint.place, component).removeprefix("--")
            found[key] = Option((*path, name), component, hint.kind, compared[name])
    return found


def replaced(instance: Any, values: Mapping[Option, Any]) -> Any:
    """A copy of a dataclass with other values for some options, which the owners check.

    Args:
        instance: of the dataclass that the options belong to.
        values: by option.

    Raises:
        UsageError: an owner refuses a value; it names the flag.
    """
    owners: dict[tuple[str, ...], dict[str, Any]] = {}
    components = {option.path[:-1]: option.component for option in values}
    for option, value in values.items():
        owners.setdefault(option.path[:-1], {})[option.path[-1]] = value
    for owner, changes in owners.items():
        instance = _put(instance, owner, changes, components[owner])
    return instance


def _put(instance: Any, path: Sequence[str], changes: Mapping[str, Any], component: str) -> Any:
    if not path:
        with naming(instance, component):
            return replace(instance, **changes)
    inner = _put(getattr(instance, path[0]), path[1:], changes, component)
    return replace(instance, **{path[0]: inner})


def _unchecked(kind: type, common: Collection[str] = ()) -> Any:
    """A copy of a dataclass, and of those in it, that takes any values of the right types.

    Args:
        kind: the dataclass.
        common: names of the fields that it has flags for; none for all.
    """
    nested = []
    if common:
        for option, hint in _hints(kind).items():
            if option not in common and not is_dataclass(hint.kind):
                hidden: Any = Annotated[hint.kind, tyro.conf.Suppress, *hint.notes]
                default = next(each.default for each in fields(kind) if each.name == option)
                nested.append((option, hidden, field(default=default)))
    for option, hint in _groups(kind).items():
        # The options of every run have no place of their own; those of a component have.
        hides = bool(common) and bool(hint.place) and option not in common
        copy = _unchecked(hint.kind, () if hides or option in common else common)
        default = next(each.default for each in fields(kind) if each.name == option)
        notes = (tyro.conf.Suppress, *hint.notes) if hides else hint.notes
        noted = Annotated[copy, *notes] if notes else copy
        nested.append((option, noted, field(default=_as(copy, default))))
    return make_dataclass(
        kind.__name__,
        nested,
        bases=(kind,),
        namespace={"__post_init__": _accept, "__doc__": kind.__doc__},
        frozen=True,
    )


def _accept(self: object) -> None:
    """Stands in the place of the checks."""


def _as(kind: Any, value: Any) -> Any:
    """The options of an instance, in another dataclass with the same fields."""
    values = {option.name: getattr(value, option.name) for option in fields(value)}
    inner = {name: _as(hint.kind, values[name]) for name, hint in _groups(kind).items()}
    return kind(**values | inner)


def _checked(kind: type, given: Any, component: str = "") -> Any:
    """The real dataclass with the options of its copy, which it checks."""
    values = {option.name: getattr(given, option.name) for option in fields(kind)}
    for option, hint in _groups(kind).items():
        values[option] = _checked(hint.kind, values[option], _within(component, hint.place))
    with naming(kind, component):
        made = kind(**values)
        check_numbers(made, component)
    return made


@dataclass(frozen=True)
class _Hint:
    """What the annotation of a field says."""

    kind: Any
    notes: tuple[Any, ...]
    """For tyro."""
    place: str
    """On the command line, within the dataclass; empty for one whose flags are the run's own."""


def _hints(kind: type) -> dict[str, _Hint]:
    """The annotations of a dataclass's fields."""
    hints, found = get_type_hints(kind, include_extras=True), {}
    for option in fields(kind):
        hint = hints[option.name]
        base, *notes = get_args(hint) if get_origin(hint) is Annotated else [hint]
        names = [note.name for note in notes if isinstance(note, _Argument)]
        names = [name for name in names if name is not None]
        found[option.name] = _Hint(base, tuple(notes), names[0] if names else option.name)
    return found


def _groups(kind: type) -> dict[str, _Hint]:
    """The fields that are dataclasses themselves."""
    return {name: hint for name, hint in _hints(kind).items() if is_dataclass(hint.kind)}


def _flags(kind: Any, component: str = "") -> list[str]:
    """All flags of a dataclass and of those in it."""
    found = []
    for hint in _hints(kind).values():
        if is_dataclass(hint.kind):
            found += _flags(hint.kind, _within(component, hint.place))
        elif hint.kind is bool:
            found += [flag(hint.place, component), flag(f"no-{hint.place}", component)]
        else:
            found.append(flag(hint.place, component))
    return found


def _within(component: str, place: str) -> str:
    return ".".join(filter(None, (component, place)))


def _numbers() -> ConstructorRegistry:
    """How numbers are read: as Python does, but complaining about them in plain words."""
    registry = ConstructorRegistry()

    @registry.primitive_rule
    def rule(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
        kind: Any = info.type
        if kind not in (int, float):
            return None

        def read_number(words: list[str]) -> Any:
            if kind is int:
                return whole_number(words[0])
            try:
                return float(words[0])
            except ValueError as error:
                raise ValueError(f"'{words[0]}' is not a number") from error

        return PrimitiveConstructorSpec(
            nargs=1,
            metavar=kind.__name__.upper(),
            instance_from_str=read_number,
            # A default may be a whole number where any is allowed.
            is_instance=lambda value: isinstance(value, int | kind) and type(value) is not bool,
            str_from_instance=lambda value: [str(value)],
        )

    return registry


def _suggest(kind: type, arguments: Sequence[str]) -> None:
    """Refuses the first flag that does not exist.

    Raises:
        UsageError: there is one; it names the nearest that does.
    """
    known = [*_flags(kind), "--help", HELP_ALL]
    for argument in arguments:
        given = argument.partition("=")[0].replace("_", "-")
        if given.startswith("--") and given not in known:
            likely = meant(given, known)
            cure = f"did you mean {likely}?" if likely else f"{HELP_ALL} lists them."
            raise UsageError(f"{given} is not an option here: {cure}")


def _sentence(event: complaints.ParseErrorEvent, arguments: Sequence[str]) -> str:
    match event:
        case complaints.UnrecognizedArgs(tokens=[first, *_]):
            before = arguments[max(arguments.index(first) - 1, 0)] if first in arguments else ""
            if before.startswith("--") and before != first:
                return f"{before} takes no {first}: drop it, or see {HELP_ALL}."
            return f"{first} is no option: {HELP_ALL} lists them."
        case complaints.BadValue(argument=argument):
            return f"{argument.display_name()} needs a value."
        case complaints.InvalidChoice(argument=argument, value=value, choices=choices):
            known = ", ".join(map(repr, choices))
            return f"{argument.display_name()} {value} is unknown: choose one of {known}."
        case complaints.InstantiationFailure(argument=argument, message=message):
            text = " ".join(str(message).split()).rstrip(".")
            _, several, words = text.partition("valid parse for arguments: ")
            if several and argument is not None:
                words = " ".join(ast.literal_eval(words))
                return f"{argument.display_name()} takes no {words}: {HELP_ALL} shows its values."
            return f"{argument.display_name()}: {text}." if argument is not None else f"{text}."
        case complaints.MissingArgs(missing_arguments=[first, *_]):
            return f"{first.arg.display_name()} is missing: {HELP_ALL} explains it."
    return f"The options cannot be read: {HELP_ALL} explains them."
