"""The numbers of a log line, and the terminal that shows them.

`Progress` holds what a log line says and names each number for TensorBoard and `metrics.csv`.
`Terminal` shows a live line where someone watches, and plain lines now and then where not.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import nan

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from envs.episodes import EpisodeSummary

RETURN_TAG = "1_return/episode_return"

TAGS = {
    "evaluation/mean": "1_evaluation/return",
    "evaluation/interval_low": "1_evaluation/interval_low",
    "evaluation/interval_high": "1_evaluation/interval_high",
    "evaluation/episodes": "1_evaluation/num_episodes",
    "evaluation/unfinished": "1_evaluation/num_unfinished",
    "evaluation/median": "1_evaluation/median",
    "evaluation/length": "1_evaluation/length",
    "evaluation/optimum": "1_evaluation/optimum",
    "evaluation/human_normalised": "1_evaluation/human_normalised",
    "evaluation/best": "1_evaluation/best",
    "return": RETURN_TAG,
    "length": "1_return/length",
    "episodes": "1_return/num_episodes",
    "{head}/cosine": "2_cosine/{head}",
    "cosines": "2_cosine/all",
    "{head}/passed": "3_passed/{head}",
    "{head}/weight": "4_weight/{head}",
    "{head}/open": "5_open/{head}",
    "{head}/norm_ratio": "6_norm_ratio/{head}",
    "{head}/cosine_all": "6_reference/cosine_all_{head}",
    "{head}/sign_differs": "6_reference/sign_differs_{head}",
    "{head}/known": "6_reference/known_{head}",
    "{head}/apart": "6_reference/apart_{head}",
    "{head}/preference": "6_reference/preference_{head}",
    "{head}/loss": "7_{head}/loss",
    "{head}/coefficient": "7_{head}/coefficient",
    "{head}/kl": "7_{head}/kl",
    "{head}/agreement": "7_{head}/agreement",
    "{head}/teacher_entropy": "7_{head}/teacher_entropy",
    "{head}/gradient_norm": "7_{head}/gradient_norm",
    "{head}/dropped": "7_{head}/dropped",
    "policy_loss": "8_training/policy_loss",
    "value_loss": "8_training/value_loss",
    "entropy": "8_training/entropy",
    "explained_variance": "8_training/explained_variance",
    "approximate_kl": "8_training/approximate_kl",
    "clipped": "8_training/clipped",
    "gradient_norm": "8_training/gradient_norm",
    "policy_gradient": "8_training/policy_gradient",
    "value_gradient": "8_training/value_gradient",
    "policy_value_cosine": "8_training/policy_value_cosine",
    "value_mean": "8_training/value_mean",
    "value_scale": "8_training/value_scale",
    "skipped": "8_training/skipped",
    "learning_rate": "8_training/learning_rate",
    "sps": "9_speed/sps",
    "environment": "9_speed/environment",
    "acting": "9_speed/acting",
    "learning": "9_speed/learning",
    "seconds": "9_speed/seconds",
    "evaluation/seconds": "9_speed/evaluation_seconds",
    "evaluation/share": "9_speed/evaluation",
}
"""From a metric's name (its column in `metrics.csv`) to its tag in TensorBoard, in the order
of importance; the digits make TensorBoard keep it.  `docs/metrics.md` explains each."""


@dataclass(frozen=True)
class Split:
    """Where the time went, as fractions that add up to one."""

    environment: float
    acting: float
    learning: float


@dataclass(frozen=True)
class Progress:
    """The numbers of one log line."""

    step: int
    """Agent steps so far."""
    seconds: float
    """Since this process began to train."""
    steps_per_second: float
    """Agent steps a second since the last log line."""
    split: Split
    episodes: EpisodeSummary
    learning_rate: float
    metrics: Mapping[str, float]
    """Means since the last log line, by name; NaN = not measured."""
    gate: str | None = None
    """Its name; none without auxiliary heads."""

    @staticmethod
    def unknown(step: int) -> "Progress":
        """Before the first log line: nothing is measured yet."""
        return Progress(
            step=step,
            seconds=0.0,
            steps_per_second=0.0,
            split=Split(nan, nan, nan),
            episodes=EpisodeSummary(0, 0, nan, nan),
            learning_rate=nan,
            metrics={},
        )

    def numbers(self) -> dict[str, float]:
        """All numbers of the line but the step, by name."""
        return {
            "return": self.episodes.mean_return,
            "length": self.episodes.mean_length,
            "episodes": float(self.episodes.finished),
            **self.metrics,
            "learning_rate": self.learning_rate,
            "sps": self.steps_per_second,
            "environment": self.split.environment,
            "acting": self.split.acting,
            "learning": self.split.learning,
            "seconds": self.seconds,
        }

    def heads(self) -> list[str]:
        """Names of the auxiliary heads."""
        parts = (name.rpartition("/") for name in self.metrics)
        return list(dict.fromkeys(head for head, _, _ in parts if head))


def tag(name: str) -> str:
    """The TensorBoard tag of a metric; one that is new to the table joins its kin."""
    if name in TAGS:
        return TAGS[name]
    head, _, metric = name.rpartition("/")
    if head and metric == "return":  # of an arm of a sweep
        return f"1_return/{head}"
    pattern = "{head}/" + metric if head else metric
    kin = f"7_{{head}}/{metric}" if head else f"8_training/{metric}"
    return TAGS.get(pattern, kin).format(head=head)


def importance(name: str) -> tuple[int, str]:
    """Sorts metrics as the table does, heads by their names; new ones come last."""
    head, _, metric = name.rpartition("/")
    pattern = name if name in TAGS else "{head}/" + metric if head else metric
    order = list(TAGS)
    return (order.index(pattern) if pattern in TAGS else len(order), name)


PLAIN_SECONDS = 10.0
"""Between two plain lines."""
LIVE_SECONDS = 0.5
"""Between two pictures of the live line."""


class Terminal:
    """Shows log lines; the last one stays on the screen."""

    def __init__(
        self, total_steps: int, console: Console | None = None, start_step: int = 0
    ) -> None:
        """Prepares to show; nothing is printed yet.

        Args:
            total_steps: agent steps of the whole run.
            console: where to; the standard output by default.
            start_step: agent steps at which this process begins.
        """
        self._total = total_steps
        self._console = console or Console()
        self._watched = self._console.is_terminal and not self._console.is_dumb_terminal
        self._live: Live | None = None
        self._printed_at = -math.inf
        self._pending: Progress | None = None
        self._last = Progress.unknown(start_step)
        self._pictured_at = -math.inf

    def show(self, progress: Progress) -> None:
        """Shows one log line, or keeps it where a plain line was printed just before."""
        self._last = progress
        if self._watched:
            self._draw(progress)
        elif progress.seconds - self._printed_at >= PLAIN_SECONDS:
            self._print(progress)
        else:
            self._pending = progress

    def tick(self, step: int, seconds: float) -> None:
        """Shows how far the run has come since the last log line, at its speed."""
        if not self._watched or seconds - self._pictured_at < LIVE_SECONDS:
            return
        last = self._last
        speed = last.steps_per_second or (step - last.step) / max(seconds, 1e-9)
        self._draw(replace(last, step=step, seconds=seconds, steps_per_second=speed))

    def _draw(self, progress: Progress) -> None:
        if self._live is None:
            self._live = Live(console=self._console, auto_refresh=False)
            self._live.start()
        self._live.update(self._picture(progress), refresh=True)
        self._pictured_at = progress.seconds

    def note(self, text: str) -> None:
        """Prints a line of text, above the live line where there is one."""
        # Wrapping is left to the terminal, so that a copied line is still one line.
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def close(self) -> None:
        """Leaves the last log line on the screen."""
        if self._pending is not None:
            self._print(self._pending)
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _print(self, progress: Progress) -> None:
        self.note(plain_line(progress, self._total))
        self._printed_at = progress.seconds
        self._pending = None

    def _picture(self, progress: Progress) -> Table:
        """Draws one line, and a second one for the gate if there are auxiliary heads."""
        facts = Text.assemble(
            (f"{_percent(progress.step, self._total):>5}", "bold"),
            f"  {progress.step:,}/{self._total:,}",
            ("  return ", "dim"),
            (_number(progress.episodes.mean_return), "bold"),
            f"  {_speed(progress)}",
            ("  ETA ", "dim"),
            _eta(progress, self._total),
            no_wrap=True,
            overflow="ellipsis",
        )
        bar = ProgressBar(self._total, progress.step, complete_style="cyan", finished_style="green")
        line = Table.grid(expand=True)
        line.add_column(ratio=1)
        line.add_column(no_wrap=True)
        # Where the screen is too narrow for both, the numbers matter more.
        if self._console.width >= facts.cell_len + 8:
            line.add_row(bar, facts)
        else:
            line.add_row(facts)
        picture = Table.grid(expand=True)
        picture.add_row(line)
        if progress.gate is not None:
            heads = (_head_text(progress, head) for head in progress.heads())
            gate = Text("   ").join(heads)
            gate.no_wrap, gate.overflow = True, "ellipsis"
            picture.add_row(gate)
        return picture


def plain_line(progress: Progress, total_steps: int) -> str:
    """A log line as text."""
    episodes = progress.episodes
    parts = [
        f"step {progress.step:,}/{total_steps:,} ({_percent(progress.step, total_steps)})",
        _speed(progress),
        f"ETA {_eta(progress, total_steps)}",
        f"return {_number(episodes.mean_return)} ({_plural(episodes.averaged, 'episode')})",
    ]
    if progress.gate is not None:
        for head in progress.heads():
            cosine, passed = _cosine_and_passed(progress, head)
            parts.append(f"cosine {head} {cosine}  passed {passed}")
            if f"{head}/return" in progress.metrics:  # another task
                parts.append(f"return {_number(progress.metrics[f'{head}/return'])}")
    return "  ".join(parts)


def _head_text(progress: Progress, head: str) -> Text:
    cosine, passed = _cosine_and_passed(progress, head)
    colour = {"+": "green", "-": "red"}.get(cosine[:1], "") if len(cosine) > 1 else ""
    text = Text.assemble(
        (head, "cyan"), ("  cosine ", "dim"), (cosine, colour), ("  passed ", "dim"), passed
    )
    if f"{head}/return" in progress.metrics:  # another task
        text.append("  return ", "dim").append(_number(progress.metrics[f"{head}/return"]))
    return text


def _cosine_and_passed(progress: Progress, head: str) -> tuple[str, str]:
    cosine = progress.metrics.get(f"{head}/cosine", math.nan)
    passed = progress.metrics.get(f"{head}/passed", math.nan)
    return (
        "-" if math.isnan(cosine) else f"{cosine:+.2f}",
        "-" if math.isnan(passed) else f"{passed:.2f}",
    )


def _percent(step: int, total_steps: int) -> str:
    # Rounded down: 100% is said at the end only.  The last update may overshoot.
    return f"{min(100, 100 * step // max(total_steps, 1))}%"


def _speed(progress: Progress) -> str:
    return f"{progress.steps_per_second:,.0f} steps/s"


def _number(value: float) -> str:
    """Formats a number briefly at any scale of rewards; `-` where nothing was measured."""
    if math.isnan(value):
        return "-"
    size = abs(value)
    return f"{value:,.0f}" if size >= 1000 else f"{value:.1f}" if size >= 10 else f"{value:.2f}"


def _eta(progress: Progress, total_steps: int) -> str:
    if not progress.steps_per_second > 0:
        return "-"
    left = max(total_steps - progress.step, 0) / progress.steps_per_second
    return duration(left) if math.isfinite(left) else "-"


def duration(seconds: float) -> str:
    """`7:45`, `2:07:45` or `3d 02:07`."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    if days:
        return f"{days}d {hour:02}:{minute:02}"
    return f"{hour}:{minute:02}:{second:02}" if hour else f"{minute}:{second:02}"


def _plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
