"""The program `train.py`: trains a run from its command line, and says how it ended."""

import sys
from collections.abc import Callable, Sequence

from agents.runtime.distributed import leave
from configs.cli import SHORT_HELP, lists_teachers
from configs.errors import UsageError, blame, quoted
from envs.base import EnvironmentFailedError, is_out_of_memory
from experiments.training.build import USUAL, Parts
from experiments.training.endings import LeaderFailedError, culprit, ruin, skipped, trouble
from experiments.training.evaluating import best_so_far
from experiments.training.lock import VanishedError
from experiments.training.teachers import teacher_table
from experiments.training.trainer import DIVERGED, DONE, MISTAKEN, STOPPED, Run, Trainer, prepare


def farewell(run: Run, code: int) -> None:
    """Prints how the run ended and which command comes next.

    Args:
        run: that was trained.
        code: what `Trainer.train` returned.
    """
    steps = run.session.learner.steps
    if not run.session.processes.leads:
        return
    learner, folder = run.session.learner, run.folder
    if run.config.run.eval_every:
        print(best_so_far(folder))
    if code == DIVERGED:
        print(f"train.py: {ruin(learner, folder, run.config.run.max_skipped)}", file=sys.stderr)
        return
    if skipped(learner):
        print(f"{skipped(learner)}, because {culprit(learner)[0]}.")
    if code == STOPPED:
        print(f"Stopped at step {steps:,}. Go on with:")
        print(f"  python train.py --resume {quoted(folder)}")
    else:
        for sentence in run.session.learner.gating.admissions.sentences():
            print(sentence)
        print(f"Done: {steps:,} steps. Score the policy with:")
        print(f"  python evaluate.py {quoted(run.folder)}")


def main(
    arguments: Sequence[str] | None = None,
    parts: Parts = USUAL,
    trainer: Callable[[Run], Trainer] = Trainer,
) -> int:
    """Runs `train.py`: parses, builds or resumes, trains.

    Args:
        arguments: of the command line, without the name of the program; by default those of
            this process.
        parts: the classes of collector and learner.
        trainer: makes the trainer of the run.

    Returns:
        The exit code; a user's mistake prints one sentence and returns `MISTAKEN`.
    """
    given = sys.argv[1:] if arguments is None else arguments
    if not given:
        print(SHORT_HELP, end="")
        return MISTAKEN
    try:
        if lists_teachers(given):
            print(teacher_table())
            return DONE
        run = prepare(given, parts)
        try:
            code = trainer(run).train()
            farewell(run, code)
            return code
        finally:
            run.session.close()
    except UsageError as error:
        print(f"train.py: {error}", file=sys.stderr)
    except VanishedError as error:
        print(f"train.py: {error}", file=sys.stderr)
        return DIVERGED
    except LeaderFailedError as error:
        return DIVERGED if error.vanished else MISTAKEN
    except OSError as error:  # not the environment's: those come as EnvironmentFailedError
        print(f"train.py: {trouble(error)}", file=sys.stderr)
    except EnvironmentFailedError as error:
        blame("train.py", error, "What was saved before can be continued by --resume.")
        return DIVERGED
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        print(
            "train.py: the device has too little memory: use fewer --num-envs or a smaller "
            "--unroll-length, or another --device.",
            file=sys.stderr,
        )
    except KeyboardInterrupt:  # before the first update, or a second time while it saves
        return STOPPED
    finally:
        leave()
    return MISTAKEN
