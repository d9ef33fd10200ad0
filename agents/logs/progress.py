"""What a log line holds, and what each number is called in TensorBoard and `metrics.csv`."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import nan

from envs.episodes import EpisodeSummary

RETURN_TAG = "1_return/episode_return"

TAGS = {
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
    "skipped": "8_training/skipped",
    "learning_rate": "8_training/learning_rate",
    "sps": "9_speed/sps",
    "environment": "9_speed/environment",
    "acting": "9_speed/acting",
    "learning": "9_speed/learning",
    "seconds": "9_speed/seconds",
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
    """One log line."""

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
    head, _, metric = name.rpartition("/")
    pattern = "{head}/" + metric if head else metric
    kin = f"7_{{head}}/{metric}" if head else f"8_training/{metric}"
    return TAGS.get(pattern, kin).format(head=head)


def importance(name: str) -> tuple[int, str]:
    """Sorts metrics as the table does, heads by their names; new ones come last."""
    head, _, metric = name.rpartition("/")
    pattern = "{head}/" + metric if head else metric
    order = list(TAGS)
    return (order.index(pattern) if pattern in TAGS else len(order), name)
