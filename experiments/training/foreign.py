"""Policies that other libraries trained, as this project's network with the same logits.

Two kinds of files can be read.  A Stable-Baselines3 model (`model.save`) is a zip with the weights
in `policy.pth` and a description in `data`; CleanRL and others save `agent.state_dict()` by
`torch.save`.  Weights are read by `torch.load(weights_only=True)`, which makes tensors and nothing
else; the pickles inside `data` are left alone, and only its plain JSON is read.

What must agree for a policy to play as it did:

- **Scaling.** Both libraries divide bytes by 255, as the torsos here do.  A policy that
  Stable-Baselines3 made with `normalize_images=False` reads raw bytes: its first weights are
  multiplied by 255.
- **Frames.** Both libraries stack the newest frame last, as here.
- **Actions.** They are counted and compared; their order is the game's own in all libraries.
  Where a student has all 18 of the console, fewer are taken for those of its game.
- Statistics of a `VecNormalize` are in another file and cannot be read.
"""

import ast
import io
import json
import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from agents.networks.actor_critic import ActorCritic, Precision
from agents.runtime.checkpoint import DamagedFileError
from agents.teachers import NONSENSE, OtherActionsError, PolicyCard, policy_from
from envs import EnvSpec
from envs.atari.games import FULL_SET, minimal_set


@dataclass(frozen=True)
class Layout:
    """How a library names the weights of a network that this project has too."""

    name: str
    torso: str
    renames: tuple[tuple[str, str], ...]
    """Pattern of a weight's name there, and its name here."""
    ignored: str
    """Pattern of what is no part of the policy: the value."""


_MODEL = r"(?:pi_)?features_extractor\."
"""Policies of Stable-Baselines3 have it under one or both names, with the same weights."""

LAYOUTS = (
    Layout(
        "Stable-Baselines3 CnnPolicy",
        "nature",
        (
            (rf"{_MODEL}cnn\.([024])\.", r"torso.convolutions.\1."),
            (rf"{_MODEL}linear\.0\.", "torso.dense."),
            (r"action_net\.", "policy."),
        ),
        r"vf_features_extractor\.|value_net\.",
    ),
    Layout(
        "Stable-Baselines3 MlpPolicy",
        "mlp",
        (
            (r"mlp_extractor\.policy_net\.(\d+)\.", r"torso.layers.\1."),
            (r"action_net\.", "policy."),
        ),
        r"mlp_extractor\.value_net\.|value_net\.",
    ),
    Layout(
        "CleanRL ppo_atari",
        "nature",
        (
            (r"network\.([024])\.", r"torso.convolutions.\1."),
            (r"network\.7\.", "torso.dense."),
            (r"actor\.", "policy."),
        ),
        r"critic\.",
    ),
    Layout(
        "CleanRL ppo",
        "mlp",
        ((r"actor\.([02])\.", r"torso.layers.\1."), (r"actor\.4\.", "policy.")),
        r"critic\.",
    ),
)
"""The networks that can be read; another one is an entry here."""

LARGEST = 2**30
"""Bytes of a file of weights: more is refused before it is unpacked."""
SUFFIXES = (".zip", ".pt", ".pth", ".cleanrl_model")
TANH = "torch.nn.modules.activation.Tanh"


def is_foreign(path: Path) -> bool:
    """Whether a file is, or is called as, one that another library saved."""
    return path.is_file() and (path.suffix in SUFFIXES or zipfile.is_zipfile(path))


def load_foreign(
    path: Path,
    spec: EnvSpec,
    device: torch.device,
    precision: Precision = "fp32",
    env_options: Mapping[str, Any] | None = None,
) -> tuple[ActorCritic, PolicyCard, str]:
    """Reads another library's policy as one for environments of `spec`.

    Args:
        path: of the file.
        spec: of the environment, which the file does not name.
        device: where the weights go.
        precision: of the torso's arithmetic.
        env_options: of the environment, for the card.

    Returns:
        The agent, whose value head is NaN; its card; and a sentence on what was read and how.

    Raises:
        OtherActionsError: it has another number of actions.
        ValueError: the file cannot be read safely, holds another network, or does not fit `spec`.
    """
    try:
        state, about = _read(path)
        layout, weights = _renamed(state)
        _check(about, layout, spec)
        if about.get("policy_kwargs", {}).get("normalize_images") in (False, "False"):
            weights["torso.convolutions.0.weight"] = 255 * weights["torso.convolutions.0.weight"]
        num_actions = len(weights["policy.weight"])
        action_set = spec.action_set
        if num_actions != spec.num_actions and action_set == FULL_SET:
            action_set = minimal_set(spec.name, num_actions)
        steps = about.get("num_timesteps")
        card = PolicyCard(
            env=spec.name,
            action_set=action_set,
            num_actions=num_actions,
            observation_shape=spec.observation_shape,
            observation_dtype=str(spec.observation_dtype),
            protocol=spec.protocol,
            torso=layout.torso,
            torso_options=_options(layout, weights),
            steps=steps if type(steps) is int and steps >= 0 else 0,
            env_options=env_options or {},
        )
        agent = policy_from(weights, card, precision)
    except NONSENSE as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path} cannot be read as another library's policy: {reason}") from error
    if num_actions != spec.num_actions:
        raise OtherActionsError(
            f"it has {num_actions} actions, but {spec.name} has {spec.num_actions} "
            f"({spec.action_set})",
            card,
        )
    return agent.to(device), card, _said(path, layout, spec)


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The weights of a file, and what a Stable-Baselines3 model says of itself in plain JSON."""
    if not zipfile.is_zipfile(path):
        return _tensors(path.read_bytes()), {}  # `torch.save` of before PyTorch 1.6
    with zipfile.ZipFile(path) as file:
        members = {member.filename: member.file_size for member in file.infolist()}
        if sum(members.values()) > LARGEST:
            raise DamagedFileError(f"it unpacks to more than {LARGEST:,} bytes")
        if "policy.pth" not in members:
            return _tensors(path.read_bytes()), {}
        try:
            about = json.loads(file.read("data")) if "data" in members else None
            if not isinstance(about, dict):
                raise DamagedFileError("it has no data in JSON, by which observations are checked")
            return _tensors(file.read("policy.pth")), about
        except zipfile.BadZipFile as error:
            raise DamagedFileError(f"the zip is damaged ({error})") from error


def _tensors(content: bytes) -> dict[str, Tensor]:
    try:
        with warnings.catch_warnings():  # of pickles that are refused anyway
            warnings.simplefilter("ignore")
            state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise DamagedFileError(
            "it holds more than weights, which would run code of the file when loaded: save "
            "agent.state_dict() alone"
        ) from error
    except EOFError as error:
        raise DamagedFileError("it is cut off or empty") from error
    if not isinstance(state, Mapping) or not all(
        isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in state.items()
    ):
        raise DamagedFileError("it is no state dict: save agent.state_dict() alone")
    return dict(state)


def _renamed(state: Mapping[str, Tensor]) -> tuple[Layout, dict[str, Tensor]]:
    """The layout that has every weight of a state dict, and the weights by their names here."""
    for layout in LAYOUTS:
        found: dict[str, Tensor] = {}
        for name, tensor in state.items():
            for pattern, ours in layout.renames:
                match = re.match(pattern, name)
                if match:
                    found[match.expand(ours) + name[match.end() :]] = tensor
                    break
            else:
                if not re.match(layout.ignored, name):
                    break
        else:
            if "policy.weight" in found and any(name.startswith("torso.") for name in found):
                return layout, found
    some, known = ", ".join(list(state)[:3]), ", ".join(each.name for each in LAYOUTS)
    raise DamagedFileError(f"its weights ({some}, ...) are laid out as in none of {known}")


def _options(layout: Layout, weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """The options of the torso, which the sizes of the weights tell."""
    if layout.torso == "nature":
        return {"width": len(weights["torso.dense.weight"])}
    layers = sorted(
        (int(name.split(".")[2]), len(tensor))
        for name, tensor in weights.items()
        if name.startswith("torso.layers.") and name.endswith(".weight")
    )
    return {"widths": tuple(width for _, width in layers)}


def _check(about: Mapping[str, Any], layout: Layout, spec: EnvSpec) -> None:
    """Refuses another kind of observation, other actions, or another activation."""
    image = layout.torso == "nature"
    if spec.num_symbols or (spec.observation_dtype == torch.uint8) != image:
        kind = "images in bytes" if image else "numbers"
        shown = "symbols" if spec.num_symbols else f"{spec.observation_dtype}"
        raise DamagedFileError(f"a {layout.name} sees {kind}, but {spec.name} shows {shown}")
    if not about:
        return
    observations, actions = (_space(about, f"{name}_space") for name in ("observation", "action"))
    if "discrete.Discrete" not in actions[":type:"] or str(actions.get("start", "0")) != "0":
        raise DamagedFileError("its actions are not discrete, from 0 on")
    if "box.Box" not in observations[":type:"]:
        raise DamagedFileError("its observations are no Box of numbers")
    shape = tuple(ast.literal_eval(str(observations.get("_shape", "()"))))
    if shape != spec.observation_shape:
        raise DamagedFileError(f"it sees {shape}, but {spec.name} shows {spec.observation_shape}")
    activation = str(about.get("policy_kwargs", {}).get("activation_fn", TANH))
    if not image and TANH not in activation:
        raise DamagedFileError(f"it has the activation {activation}, and here it must be tanh")


def _space(about: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    space = about.get(name)
    if not isinstance(space, dict) or not isinstance(space.get(":type:"), str):
        raise DamagedFileError(f"its data says nothing of its {name}")
    return space


def _said(path: Path, layout: Layout, spec: EnvSpec) -> str:
    seen = "observations as they are"
    if layout.torso == "nature":
        seen = f"bytes divided by 255, the newest of {spec.num_frames} frames last"
    return (
        f"{path} is a {layout.name}: {seen}, {spec.num_actions} actions in the order of "
        f"{spec.action_set}."
    )
