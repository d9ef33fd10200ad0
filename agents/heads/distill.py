"""Distillation: imitate a frozen teacher on the student's own states.

The loss is the cross-entropy H(pi_T, pi) of the student's policy relative to the
teacher's, at every state the student visits: "on-policy distill" of Czarnecki et
al. 2019 (arXiv 1902.02186, Table 1), the auxiliary of Du et al. 2018 (arXiv
1812.02224, Atari) and the term of kickstarting (Schmitt et al. 2018, arXiv
1803.03835).  It is not the gradient of any function, since the states depend on
the student; Du et al.'s Proposition 1 requires only a vector field.  The option
`loss` offers the table's other losses on the student's states.
"""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from agents.heads.base import (
    AuxiliaryHead,
    HeadContext,
    HeadLoss,
    Rehearsal,
    Schedule,
    Targets,
)
from agents.heads.components.answers import WrongAnswers, mirrored
from agents.heads.components.delay import LONGEST, Delay
from agents.heads.components.imitation import DistillLoss, cross_entropy, distill_loss
from agents.heads.components.masks import FixedMask
from agents.heads.components.trust import TeacherAdvantage, Trial
from agents.networks.actor_critic import ActorCritic
from agents.statistics import masked_mean
from agents.teachers import ChangedTeacherError, Teacher
from agents.trajectory import AgentOutput, Trajectory
from gridworld.options import OptionError, at_least, mention, require

Where = Literal["everywhere", "better", "advantage", "ahead"]


@dataclass(frozen=True)
class DistillConfig:
    """Imitates a frozen teacher on the student's own states."""

    teacher: str = ""
    """A run directory, an exported policy, or the name of a shipped teacher; empty: the usual one
    of the environment (gridworld: optimal; others: q-learning, redraw, swap, remove)."""
    temperature: float = 1.0
    """The teacher's policy is softmax(logits / temperature); 0 = greedy."""
    smoothing: float = 0.0
    """Share of the uniform policy mixed into the teacher's."""
    mirror: bool = False
    """Exchange LEFT and RIGHT in what the teacher says, for a teacher that misleads."""
    random_answers: float = 0.0
    """Share of states, drawn anew at every step, at which the teacher's answer is dealt out to the
    actions at random."""
    mask: float = 0.0
    """Share of what the teacher observes that is hidden from it: the same places for the whole
    run."""
    delay: int = 0
    """The teacher answers to what it observed so many agent steps earlier in the episode."""
    loss: DistillLoss = "student"
    """Cross-entropy to the teacher, or another loss of Czarnecki et al. (docs/heads/distill.md)."""
    where: Where = "everywhere"
    """better: only where the teacher expects a higher return than the student does; advantage: as
    far as the teacher's actions are estimated to be better than the student's; ahead: as long as
    the teacher's return, tried before the run, is above the student's."""
    coefficient: float = 1.0
    """Weight of the loss (1 in Du et al.)."""
    coefficient_end: float | None = None
    """Weight at the end of the schedule; none: constant."""
    coefficient_steps: int = 0
    """Agent steps over which the weight moves to its end."""
    coefficient_schedule: Literal["linear", "exponential"] = "linear"
    """How the weight moves: by equal differences, or by equal factors."""

    def __post_init__(self) -> None:
        finite = 0 <= self.temperature < float("inf")
        require(self, "temperature", finite, "0 (greedy) or more")
        require(self, "smoothing", 0 <= self.smoothing < 1, "0 or more and below 1")
        for share in ("random_answers", "mask"):
            require(self, share, 0 <= getattr(self, share) <= 1, "from 0 to 1")
        require(self, "delay", 0 <= self.delay <= LONGEST, f"from 0 to {LONGEST} agent steps")
        if "entropy" in self.loss and self.temperature == self.smoothing == 0:
            raise OptionError(
                "loss",
                f"{self.loss} takes the logarithm of the teacher's policy, "
                f"which is 0 where a greedy teacher does not go: give {mention('smoothing')} "
                f"0.01, or a {mention('temperature')} above 0.",
            )
        self._check_coefficients()

    def _check_coefficients(self) -> None:
        at_least(self, 0, "coefficient", "coefficient_end", "coefficient_steps")
        ends, lasts = self.coefficient_end is not None, self.coefficient_steps > 0
        if ends != lasts:
            given, missing = "coefficient_end", f"a positive {mention('coefficient_steps')}"
            if lasts:
                given, missing = "coefficient_steps", f"a {mention('coefficient_end')}"
            raise OptionError(
                given, f"is half of a schedule of the coefficient: give {missing} too."
            )
        if self.coefficient_schedule == "exponential" and not (
            self.coefficient > 0 and self.coefficient_end
        ):
            raise OptionError(
                "coefficient_schedule",
                f"exponential needs {mention('coefficient')} "
                f"and {mention('coefficient_end')} above 0: end at 0.001, say, or go linearly.",
            )

    def build(self, context: HeadContext) -> "Distill":
        """Makes the head; loads the teacher.

        Raises:
            ValueError: the teacher knows no values, and they are asked for; it does not observe,
                and observations are to be hidden; or there is no LEFT and RIGHT to exchange.
        """
        spec = context.spec
        # Before anything else that draws from the same generator: places depend on the seed alone.
        mask = FixedMask(self.mask, spec) if self.mask else None
        teacher = context.load_teacher(self.teacher)
        if mask is not None and not teacher.observes:
            raise OptionError(
                "mask",
                f"hides observations, but a teacher of {spec.name}'s own knows the world's state "
                f"and needs none: give an exported policy as the {mention('teacher')}, or use "
                f"{mention('delay')} or {mention('random_answers')}.",
            )
        if self.where == "better" and not teacher.logits_are_values:
            raise OptionError(
                "where",
                "better compares values, and an exported policy has none: use one of the "
                f"gridworld's own teachers, or {mention('where')} everywhere.",
            )
        end = self.coefficient if self.coefficient_end is None else self.coefficient_end
        schedule = Schedule(
            self.coefficient, end, self.coefficient_steps, self.coefficient_schedule
        )
        return Distill(
            teacher,
            self.temperature,
            schedule,
            smoothing=self.smoothing,
            loss=self.loss,
            where=self.where,
            advantage=TeacherAdvantage(context.num_features, context.discount)
            if self.where == "advantage"
            else None,
            trial=Trial(spec.num_envs, context.device) if self.where == "ahead" else None,
            mask=mask,
            delay=Delay(self.delay, spec.num_envs, spec.num_actions) if self.delay else None,
            wrong=self._wrong(context),
        )

    def _wrong(self, context: HeadContext) -> WrongAnswers | None:
        if not self.mirror and not self.random_answers:
            return None
        order = None
        if self.mirror:
            names = context.action_names()
            order = mirrored(names)
            if order is None:
                actions = f"has {', '.join(names)}" if names else "does not name its actions"
                raise OptionError(
                    "mirror",
                    f"exchanges LEFT and RIGHT, but {context.spec.name} {actions}: drop it, or "
                    "choose an environment that has both.",
                )
        stream = context.stream("answers") if self.random_answers else None
        return WrongAnswers(order, self.random_answers, stream)


@dataclass(frozen=True)
class DistillTargets(Targets):
    """The teacher's policy at the student's states."""

    probabilities: Float[Tensor, "T B A"]
    entropy: Float[Tensor, "T B"]
    value: Float[Tensor, "T B"] | None = None
    """The return that the teacher expects there, with `where` better."""
    weight: Float[Tensor, "T B"] | None = None
    """How far it is followed, with `where` ahead."""
    lead: Float[Tensor, "T B"] | None = None
    """Its return less the student's, with `where` ahead."""


class Distill(AuxiliaryHead):
    """-sum_a pi_T(a | x_t) log pi(a | x_t); trains torso, core, policy.

    It owns parameters only where it estimates the teacher's advantage.

    Args:
        teacher: frozen; not saved with the head.
        temperature: of its softmax; 0 = greedy.
        coefficient: weight of the loss, by agent steps.
        smoothing: share of the uniform policy mixed into the teacher's.
        loss: of `components.imitation`'s table.
        where: everywhere, or only where the teacher expects more (`better`); the other choices of
            the option are `advantage` and `trial`.
        advantage: estimates where the teacher's actions are better; None: they count everywhere.
        trial: compares the teacher's return with the student's; None: it is not tried.
        mask: hides parts of the teacher's observations; None: it sees all.
        delay: makes its answers late; None: they come at once.
        wrong: changes what the teacher says; None: it is heard as it is.
    """

    trains = ("torso", "core", "policy")
    capturable = True

    def __init__(
        self,
        teacher: Teacher,
        temperature: float,
        coefficient: Schedule,
        *,
        smoothing: float = 0.0,
        loss: DistillLoss = "student",
        where: Where = "everywhere",
        advantage: TeacherAdvantage | None = None,
        trial: Trial | None = None,
        mask: FixedMask | None = None,
        delay: Delay | None = None,
        wrong: WrongAnswers | None = None,
    ) -> None:
        super().__init__()
        # In a tuple, so that the teacher is no submodule: it is not trained, not saved.
        self._teacher = (teacher,)
        self.temperature = temperature
        self.coefficient = coefficient
        self.non_negative = loss == "student"
        self._smoothing = smoothing
        self._loss: DistillLoss = loss
        self._compares = where == "better"
        self.advantage = advantage
        self.trial = trial
        self.mask = mask
        self.delay = delay
        self.wrong = wrong

    def before_training(self, rehearsal: Rehearsal, generator: torch.Generator) -> None:
        """Tries the teacher, where it is followed only while it is ahead."""
        if self.trial is not None:
            with rehearsal() as env:
                self.remark = self.trial.hold(
                    self._teacher[0],
                    lambda moment: self._policy(self._heard(moment)),
                    env,
                    generator,
                )

    def get_extra_state(self) -> dict[str, Any]:
        """Returns the teacher's digest and memory, for checkpoints; its weights are not saved."""
        return {"teacher": self._teacher[0].digest, "memory": self._teacher[0].memory}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Restores the teacher's memory.

        Raises:
            ChangedTeacherError: it is not the same teacher.
        """
        if state["teacher"] != self._teacher[0].digest:
            raise ChangedTeacherError("the teacher is not the one that the run began with")
        self._teacher[0].memory = state["memory"]

    def _heard(self, trajectory: Trajectory) -> Float[Tensor, "T B A"]:
        """What the student hears: the teacher's logits of what it is shown, late and changed."""
        shown = trajectory if self.mask is None else self.mask(trajectory)
        logits: Tensor = self._teacher[0](shown)
        if self.delay is not None:
            logits = self.delay(logits, trajectory.reset)
        return logits if self.wrong is None else self.wrong(logits)

    def _policy(self, heard: Float[Tensor, "T B A"]) -> Float[Tensor, "T B A"]:
        return teacher_policy(heard, self.temperature, self._smoothing)

    @torch.no_grad()
    def prepare(self, agent: ActorCritic, trajectory: Trajectory) -> DistillTargets:
        """Runs the teacher, once per trajectory."""
        logits = self._heard(trajectory)
        probabilities = self._policy(logits)
        entropy = -probabilities.xlogy(probabilities).sum(-1)
        value = (probabilities * logits).sum(-1) if self._compares else None
        weight = lead = None
        if self.trial is not None:
            # Of the whole trajectory, in a shape that minibatches can be taken of.
            weight, lead = (number.expand_as(entropy) for number in self.trial(trajectory))
        return DistillTargets(probabilities, entropy, value, weight, lead)

    def forward(
        self, agent: ActorCritic, output: AgentOutput, trajectory: Trajectory, targets: Targets
    ) -> HeadLoss:
        """Computes the loss of every step, and metrics of the distance to the teacher."""
        assert isinstance(targets, DistillTargets)
        log_policy = output.logits[:-1].log_softmax(-1)
        loss = distill_loss(self._loss, targets.probabilities, log_policy, trajectory)
        distance = cross_entropy(targets.probabilities, log_policy.detach()) - targets.entropy
        valid = trajectory.valid
        agrees = log_policy.argmax(-1) == targets.probabilities.argmax(-1)
        metrics = {
            "kl": masked_mean(distance, valid),
            "agreement": masked_mean(agrees.to(loss.dtype), valid),
            "teacher_entropy": masked_mean(targets.entropy, valid),
        }
        if targets.value is not None:
            better = targets.value > output.value[:-1].detach()
            loss = torch.where(better, loss, 0.0)
            metrics["teacher_better"] = masked_mean(better.to(loss.dtype), valid)
        if self.advantage is not None:
            weight, error = self.advantage(output, trajectory, targets.probabilities)
            loss = weight * loss + error
            metrics["followed"] = masked_mean(weight, valid)
        if targets.weight is not None and targets.lead is not None:
            loss = targets.weight * loss
            metrics["followed"] = targets.weight[0, 0]
            metrics["lead"] = targets.lead[0, 0]
        return HeadLoss(loss, valid, metrics)


def teacher_policy(
    logits: Float[Tensor, "*batch A"], temperature: float, smoothing: float = 0.0
) -> Float[Tensor, "*batch A"]:
    """Returns softmax(logits / temperature); at 0 uniform over the largest logits.

    Args:
        logits: the teacher's.
        temperature: of the softmax.
        smoothing: share of the uniform policy that is mixed in.
    """
    if temperature == 0:
        best = (logits == logits.amax(-1, keepdim=True)).to(logits.dtype)
        policy = best / best.sum(-1, keepdim=True)
    else:
        policy = (logits / temperature).softmax(-1)
    if smoothing == 0:
        return policy
    return (1 - smoothing) * policy + smoothing / logits.shape[-1]
