"""Where `evaluate.py` writes, and whether it can: known before hours of play, not after."""

from pathlib import Path
from tempfile import TemporaryFile

from configs.errors import UsageError
from configs.evaluate import EvaluateOptions
from configs.rundir import CONFIG

EVALUATION = "evaluation.json"


def destination(run: str, options: EvaluateOptions) -> Path | None:
    """The file for a run's scores: `--output`, or one in its folder.

    None in the folder of a shipped teacher: what is there belongs to its card.
    """
    if options.output:
        return Path(options.output)
    return Path(run) / EVALUATION if (Path(run) / CONFIG).is_file() else None


def check_writable(path: Path, cure: str) -> None:
    """Refuses a file that cannot be written, by making one beside it that is gone at once.

    Args:
        path: of the file.
        cure: the option that chooses another one.

    Raises:
        UsageError: it cannot be written.
    """
    try:
        if path.is_dir():
            raise UsageError(f"{path} is a folder: choose a file by {cure}.")
        TemporaryFile(dir=path.parent).close()
    except OSError as error:
        raise UsageError(
            f"{path} cannot be written ({error.strerror or error}): choose another file by {cure}."
        ) from error
