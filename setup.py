"""Builds the wheel: the packages of the checkout, placed under `auxgate`.

Why, and what an editable install does instead: docs/decisions/0008-one-name-when-installed.md.
"""

import ast
import io
import re
import shutil
import tokenize
from collections.abc import Iterator
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
HOME, SCRIPTS = "auxgate", "auxgate._scripts"
ONLY_IN_A_CHECKOUT = {"setup.py", "_checkout.py"}

PACKAGES = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {HOME}
PROGRAMS = {path.stem for path in ROOT.glob("*.py") if path.name not in ONLY_IN_A_CHECKOUT}
PLACES = dict.fromkeys(PACKAGES, HOME) | dict.fromkeys(PROGRAMS, SCRIPTS)
"""Under what each name at the top of the checkout is placed."""

_OURS, _PROGRAM = ("|".join(sorted(names)) for names in (PACKAGES, PROGRAMS))
_SPLIT_COMMAND = re.compile(rf"python ([\"'])(\s+)([rf]*[\"'])({_PROGRAM})\.py\b")
_COMMAND = re.compile(rf"(?:\bpython )?(?<![\w/.])({_PROGRAM})\.py\b")
_MODULE_COMMAND = re.compile(rf"(?<=-m )(?=(?:{_OURS})\b)")
_IMPORT_LINE = re.compile(rf"^(\s*)(from|import) (?=(?:{_OURS})\b)", re.MULTILINE)
_MODULE_NAME = re.compile(rf"(?:{_OURS})(?:\.\w+)+")

Edit = tuple[int, int, str]
"""Start, end and new text, in characters of a file."""


def installed(source: str) -> str:
    """Rewrites a module of the checkout into the same module under `auxgate`.

    Import statements name the new places.  So do strings that name a module (an entry point, a
    `-m` of a subprocess), and sentences that tell the user to type `python train.py`, which is
    `auxgate train` where there is no such file.

    Args:
        source: text of the module in the checkout.
    """
    # A sentence may go on in the next literal.
    source = _SPLIT_COMMAND.sub(rf"\1\2\3{HOME} \4", source)
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    edits = [*_imports(source, starts), *_strings(source, starts)]
    for start, end, text in sorted(edits, reverse=True):
        source = source[:start] + text + source[end:]
    return source


def _at(source: str, starts: list[int], line: int, column: int) -> int:
    """The character at a position of `ast`, whose columns are bytes of UTF-8."""
    start = starts[line - 1]
    return start + len(source[start:].encode()[:column].decode(errors="ignore"))


def _imports(source: str, starts: list[int]) -> Iterator[Edit]:
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Import | ast.ImportFrom):
            continue
        start = _at(source, starts, node.lineno, node.col_offset)
        end = _at(source, starts, node.end_lineno or 0, node.end_col_offset or 0)
        if isinstance(node, ast.ImportFrom):
            if node.level == 0 and node.module is not None and _is_ours(node.module):
                at = source.index(node.module, start + len("from"))
                yield at, at + len(node.module), _placed(node.module)
        elif any(_is_ours(alias.name) for alias in node.names):
            yield start, end, "; ".join(map(_import, node.names))


def _import(alias: ast.alias) -> str:
    """An `import` that binds the name which the checkout's import binds."""
    name = _placed(alias.name)
    if alias.asname is not None:
        return f"import {name} as {alias.asname}"
    if not _is_ours(alias.name):
        return f"import {name}"
    top, dot, _ = alias.name.partition(".")
    return f"import {name}; " * bool(dot) + f"from {PLACES[top]} import {top}"


def _strings(source: str, starts: list[int]) -> Iterator[Edit]:
    words = {
        (element.lineno, element.col_offset)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.List | ast.Tuple)
        for element in node.elts
        if isinstance(element, ast.Constant) and isinstance(element.value, str)
    }
    for first, last in _literals(source):
        start, end = starts[first[0] - 1] + first[1], starts[last[0] - 1] + last[1]
        text = source[start:end]
        content = text.strip("\"'")
        program = content.removesuffix(".py")
        if first in words and content != program and program in PROGRAMS:
            yield start, end, f'"-m", "{HOME}", "{program}"'
            continue
        new = _COMMAND.sub(rf"{HOME} \1", _MODULE_COMMAND.sub(f"{HOME}.", text))
        new = _IMPORT_LINE.sub(_placed_line, new)
        module = content.partition(":")[0]
        if _MODULE_NAME.fullmatch(module) and _exists(module):
            new = new.replace(content, _placed(content))
        if new != text:
            yield start, end, new


def _literals(source: str) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """Where each string begins and ends; an f-string as a whole, in every version of Python."""
    begins = getattr(tokenize, "FSTRING_START", None)
    ends = getattr(tokenize, "FSTRING_END", None)
    depth, first = 0, (0, 0)
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == begins:
            first = token.start if depth == 0 else first
            depth += 1
        elif token.type == ends:
            depth -= 1
            if depth == 0:
                yield first, token.end
        elif token.type == tokenize.STRING and depth == 0:
            yield token.start, token.end


def _placed_line(match: re.Match[str]) -> str:
    """The start of an import in an example: `import envs` is `from auxgate import envs`."""
    indent, word = match.groups()
    return f"{indent}from {HOME}." if word == "from" else f"{indent}from {HOME} import "


def _is_ours(module: str) -> bool:
    return module.partition(".")[0] in PLACES


def _placed(module: str) -> str:
    return f"{PLACES[module.partition('.')[0]]}.{module}" if _is_ours(module) else module


def _exists(module: str) -> bool:
    path = ROOT / module.replace(".", "/")
    return path.is_dir() or path.with_suffix(".py").is_file()


def sources() -> dict[Path, Path]:
    """All files of a wheel, by their path in it (below `auxgate`)."""
    found: dict[Path, Path] = {}
    for name in (HOME, *sorted(PACKAGES)):
        below = Path() if name == HOME else Path(name)
        for path in sorted((ROOT / name).rglob("*")):
            if path.name not in ONLY_IN_A_CHECKOUT and path.suffix in (".py", ".typed"):
                found[below / path.relative_to(ROOT / name)] = path
    found |= {Path("_scripts") / f"{name}.py": ROOT / f"{name}.py" for name in sorted(PROGRAMS)}
    for path in sorted((ROOT / "teachers").glob("*/**/*")):
        if path.is_file():
            found[path.relative_to(ROOT)] = path
    return found


class BuildPackage(build_py):
    """Places the packages under `auxgate`; an editable install has them where they are."""

    def run(self) -> None:
        """Copies and rewrites every file."""
        if self.editable_mode:
            return
        # What an earlier build left there would be in the wheel too.
        shutil.rmtree(self.build_lib, ignore_errors=True)
        home = Path(self.build_lib) / HOME
        for place, path in sources().items():
            target = home / place
            target.parent.mkdir(parents=True, exist_ok=True)
            if path.suffix == ".py":
                target.write_text(installed(path.read_text("utf-8")), "utf-8")
            else:
                shutil.copyfile(path, target)
        (home / "_scripts" / "__init__.py").write_text(
            '"""What `auxgate train`, `evaluate`, `sweep` and `study` run."""\n', "utf-8"
        )

    def get_source_files(self) -> list[str]:
        """What a source distribution needs to build the same wheel."""
        found = [*sources().values(), ROOT / HOME / "_checkout.py"]
        return sorted(str(path.relative_to(ROOT)) for path in found)

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        """All files that `run` writes."""
        return [] if self.editable_mode else [f"{self.build_lib}/{HOME}/{p}" for p in sources()]


setup(cmdclass={"build_py": BuildPackage})
