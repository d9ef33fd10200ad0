"""The card of a small policy of Catch, and what is said where a policy is refused."""

import pytest
import torch

from agents.teachers import PolicyCard

CPU = torch.device("cpu")


def card_of(spec, **changes):
    return PolicyCard(
        **{
            "env": spec.name,
            "action_set": spec.action_set,
            "num_actions": spec.num_actions,
            "observation_shape": spec.observation_shape,
            "observation_dtype": str(spec.observation_dtype),
            "protocol": spec.protocol,
            "torso": "mlp",
            "torso_options": {"widths": (7, 5)},
            "steps": 123,
            "env_options": {"rows": 3},
        }
        | changes
    )


def refusal(action):
    """Returns the message of a refusal, which must be one line."""
    with pytest.raises(ValueError, match=r"^[^\n]+$") as caught:
        action()
    return str(caught.value)
