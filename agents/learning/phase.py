"""The auxiliary phase of an algorithm: its loss passes a gate like a head's."""

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from agents.algorithms import Algorithm, PhaseBatch
from agents.gates import Gate
from agents.heads import AuxiliaryHead, HeadLoss, Targets
from agents.learning.gating import Gating, GatingConfig
from agents.learning.optimizer import OwnerOptimizer
from agents.learning.step_loss import MainTerms, step_losses
from agents.networks.actor_critic import ActorCritic
from agents.runtime.distributed import ALONE, Processes
from agents.runtime.graphs import Scalar
from agents.runtime.random import derived_seed
from agents.trajectory import AgentOutput, Trajectory

PHASE = "phase"
"""Names the phase's loss in the log."""


class PhaseShare(AuxiliaryHead):
    """Declares which parts of the agent the phase's loss trains; the algorithm computes it."""

    non_negative = False

    def __init__(self, trains: tuple[str, ...]) -> None:
        super().__init__()
        self.trains = trains

    def forward(
        self, agent: ActorCritic, output: AgentOutput, trajectory: Trajectory, targets: Targets
    ) -> HeadLoss:
        """Is never called: the algorithm computes the loss.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError("the algorithm computes the loss of its phase")


class PhaseGating:
    """Weighs the loss of an auxiliary phase against the main loss on the same data.

    The phase's gradient is compared with that of the main loss, which is not descended again: its
    data has been learnt from already. The
    phase has a gate with a memory apart from that of the other updates.
    """

    def __init__(
        self,
        agent: ActorCritic,
        algorithm: Algorithm,
        gate: Gate,
        config: GatingConfig,
        optimizer: OwnerOptimizer,
        processes: Processes = ALONE,
        seed: int = 0,
    ) -> None:
        """Makes a gate for the phase.

        Args:
            agent: that learns.
            algorithm: whose phase.
            gate: of the run, not used yet: the phase gets a copy.
            config: when gradients are weighed, and how they are compared.
            optimizer: of the agent.
            processes: that make every update together.
            seed: of random combinations of losses that a gate may ask for.

        Raises:
            ValueError: the gate's method acts on the network, which it can only do once.
        """
        if gate.needs_network:
            raise ValueError(
                f"the auxiliary phase of {type(algorithm).__name__} cannot use the gate "
                f"{type(gate).__name__}, which acts on the network: take another gate."
            )
        self._agent = agent
        self._algorithm = algorithm
        self._processes = processes
        self._updates = 0
        self.gating = Gating(
            agent,
            {PHASE: PhaseShare(algorithm.phase_trains)},
            copy.deepcopy(gate),
            replace(config, main="all"),
            optimizer,
            processes,
            derived_seed(seed, PHASE),
            others=list(algorithm.parameters()),
        )

    def backward(
        self, batch: PhaseBatch, progress: Scalar, learning_rate: float
    ) -> tuple[Bool[Tensor, " L"], dict[str, Tensor]]:
        """Adds the gated gradient of one update to `.grad`.

        Args:
            batch: what it learns from.
            progress: how much of the run is over, from 0 to 1.
            learning_rate: of this update.

        Returns:
            Which losses and gradients are finite, and what is to be logged.
        """
        trajectory, valid = batch.trajectory, batch.trajectory.valid
        view = self.gating.view(trajectory, self._updates, learning_rate)
        result = self._algorithm.phase_loss(view.outputs[0], trajectory, batch.targets, progress)
        parts = (result.main, result.auxiliary, *result.metrics.values())
        (main, auxiliary, *others), _ = step_losses(
            [(steps, valid) for steps in parts], self._processes
        )
        zero, zeros = torch.zeros_like(main.mean), torch.zeros_like(main.steps)
        nothing = replace(main, share=zero, mean=zero, steps=zeros)
        finite, metrics = self.gating.backward(
            view,
            MainTerms(main, nothing, nothing),
            [auxiliary],
            self._updates,
            fresh=False,
            descend_main=False,
        )
        self._updates += 1
        metrics[f"{PHASE}/loss"] = auxiliary.mean
        for name, loss in zip(result.metrics, others, strict=True):
            metrics[f"{PHASE}/{name}"] = loss.mean
        return finite, metrics

    def state_dict(self) -> dict[str, Any]:
        """What the next update of the phase depends on."""
        return {"gating": self.gating.state_dict(), "updates": self._updates}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continues from `state_dict`."""
        self.gating.load_state_dict(state["gating"])
        self._updates = state["updates"]
