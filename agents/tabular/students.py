"""`Students`: S softmax policies as tables over observations, each in one world."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Float32, Float64, Int64
from torch import Tensor

from gridworld import NUM_ACTIONS, Worlds, cell_policy, evaluate


@dataclass(frozen=True)
class Students:
    """S students side by side; their tables change in place.

    `O` is the largest number of observations of any world.  Actions come before
    observations, so that what is done to each action is done to long rows of memory.
    """

    worlds: Worlds
    world: Int64[Tensor, " S"]
    """The world of each."""
    teacher: Float32[Tensor, "S A cells"]
    """What each one's teacher does on each cell: unlike its student it sees where it is."""
    logits: Float32[Tensor, "S A O"]
    """The policies, before the softmax."""
    value: Float32[Tensor, "S O"]
    """The critics, which see what the policies see."""

    @staticmethod
    def fresh(
        worlds: Worlds, world: Int64[Tensor, " S"], teacher: Float[Tensor, "S cells A"]
    ) -> "Students":
        """Makes students that know nothing: uniform policies, values of zero.

        Args:
            worlds: the pool.
            world: the number of each student's world in the pool.
            teacher: the policy of each student's teacher.
        """
        # Before any update: the one wait for the device.
        observations = int(worlds.num_observations.amax())
        shape = (len(world), NUM_ACTIONS, observations)
        return Students(
            worlds=worlds,
            world=world,
            teacher=teacher.float().transpose(1, 2).contiguous(),
            logits=torch.zeros(shape, device=worlds.device),
            value=torch.zeros(shape[0], observations, device=worlds.device),
        )

    def __len__(self) -> int:
        return len(self.world)

    @property
    def num_observations(self) -> int:
        """O, the rows of every student's tables."""
        return self.value.shape[1]

    @property
    def num_parameters(self) -> int:
        """P, the entries of one policy."""
        return NUM_ACTIONS * self.num_observations

    def policy(self) -> Float32[Tensor, "S A O"]:
        """Returns the probabilities of actions at each observation."""
        return self.logits.softmax(1)

    def descend(self, direction: Float[Tensor, "S P"], learning_rate: float) -> None:
        """Moves every policy against its direction."""
        self.logits.sub_(direction.view_as(self.logits), alpha=learning_rate)

    def cell_policy(self) -> Float32[Tensor, "S cells A"]:
        """Returns the probabilities of actions on each cell, as the exact solvers want them."""
        policy = self.policy().transpose(1, 2).contiguous()
        return cell_policy(self.worlds, policy, self.world)

    def expected_return(self) -> Float64[Tensor, " S"]:
        """Solves for the exact expected return of every student, at its worlds' discount."""
        policy, discount = self.cell_policy(), self.worlds.config.discount
        return evaluate(self.worlds, policy, discount, self.world).expected_return
