"""The Atari games, their reference scores, and the emulators that can play them here."""

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Literal, get_args


@dataclass(frozen=True)
class Reference:
    """Mean raw scores of a random and of a human player in one game.

    From Wang et al. 2016 (https://arxiv.org/abs/1511.06581, appendix): games open with up to
    30 no-ops and last at most 108,000 frames.  The numbers agree with those in DQN Zoo's
    `atari_data.py` and in DreamerV3's `baselines.yaml`, game by game.
    """

    random: float
    human: float

    def normalised(self, score: float) -> float:
        """0 for the random player, 1 for the human one."""
        return (score - self.random) / (self.human - self.random)


REFERENCES = {
    "Alien": Reference(227.8, 7127.7),
    "Amidar": Reference(5.8, 1719.5),
    "Assault": Reference(222.4, 742.0),
    "Asterix": Reference(210.0, 8503.3),
    "Asteroids": Reference(719.1, 47388.7),
    "Atlantis": Reference(12850.0, 29028.1),
    "BankHeist": Reference(14.2, 753.1),
    "BattleZone": Reference(2360.0, 37187.5),
    "BeamRider": Reference(363.9, 16926.5),
    "Berzerk": Reference(123.7, 2630.4),
    "Bowling": Reference(23.1, 160.7),
    "Boxing": Reference(0.1, 12.1),
    "Breakout": Reference(1.7, 30.5),
    "Centipede": Reference(2090.9, 12017.0),
    "ChopperCommand": Reference(811.0, 7387.8),
    "CrazyClimber": Reference(10780.5, 35829.4),
    "Defender": Reference(2874.5, 18688.9),
    "DemonAttack": Reference(152.1, 1971.0),
    "DoubleDunk": Reference(-18.6, -16.4),
    "Enduro": Reference(0.0, 860.5),
    "FishingDerby": Reference(-91.7, -38.7),
    "Freeway": Reference(0.0, 29.6),
    "Frostbite": Reference(65.2, 4334.7),
    "Gopher": Reference(257.6, 2412.5),
    "Gravitar": Reference(173.0, 3351.4),
    "Hero": Reference(1027.0, 30826.4),
    "IceHockey": Reference(-11.2, 0.9),
    "Jamesbond": Reference(29.0, 302.8),
    "Kangaroo": Reference(52.0, 3035.0),
    "Krull": Reference(1598.0, 2665.5),
    "KungFuMaster": Reference(258.5, 22736.3),
    "MontezumaRevenge": Reference(0.0, 4753.3),
    "MsPacman": Reference(307.3, 6951.6),
    "NameThisGame": Reference(2292.3, 8049.0),
    "Phoenix": Reference(761.4, 7242.6),
    "Pitfall": Reference(-229.4, 6463.7),
    "Pong": Reference(-20.7, 14.6),
    "PrivateEye": Reference(24.9, 69571.3),
    "Qbert": Reference(163.9, 13455.0),
    "Riverraid": Reference(1338.5, 17118.0),
    "RoadRunner": Reference(11.5, 7845.0),
    "Robotank": Reference(2.2, 11.9),
    "Seaquest": Reference(68.4, 42054.7),
    "Skiing": Reference(-17098.1, -4336.9),
    "Solaris": Reference(1236.3, 12326.7),
    "SpaceInvaders": Reference(148.0, 1668.7),
    "StarGunner": Reference(664.0, 10250.0),
    "Surround": Reference(-10.0, 6.5),
    "Tennis": Reference(-23.8, -8.3),
    "TimePilot": Reference(3568.0, 5229.2),
    "Tutankham": Reference(11.4, 167.6),
    "UpNDown": Reference(533.4, 11693.2),
    "Venture": Reference(0.0, 1187.5),
    "VideoPinball": Reference(16256.9, 17667.9),
    "WizardOfWor": Reference(563.5, 4756.5),
    "YarsRevenge": Reference(3092.9, 54576.9),
    "Zaxxon": Reference(32.5, 9173.3),
}


Backend = Literal["envpool", "ale"]

PACKAGES: dict[Backend, str] = {"envpool": "envpool", "ale": "ale_py"}
"""What each backend imports."""

# The 57 games of Wang et al. 2016 (https://arxiv.org/abs/1511.06581), on which
# human-normalised scores are reported: recognised even where no game can be played.
STANDARD_GAMES = (
    *("Alien", "Amidar", "Assault", "Asterix", "Asteroids", "Atlantis", "BankHeist"),
    *("BattleZone", "BeamRider", "Berzerk", "Bowling", "Boxing", "Breakout", "Centipede"),
    *("ChopperCommand", "CrazyClimber", "Defender", "DemonAttack", "DoubleDunk", "Enduro"),
    *("FishingDerby", "Freeway", "Frostbite", "Gopher", "Gravitar", "Hero", "IceHockey"),
    *("Jamesbond", "Kangaroo", "Krull", "KungFuMaster", "MontezumaRevenge", "MsPacman"),
    *("NameThisGame", "Phoenix", "Pitfall", "Pong", "PrivateEye", "Qbert", "Riverraid"),
    *("RoadRunner", "Robotank", "Seaquest", "Skiing", "Solaris", "SpaceInvaders"),
    *("StarGunner", "Surround", "Tennis", "TimePilot", "Tutankham", "UpNDown", "Venture"),
    *("VideoPinball", "WizardOfWor", "YarsRevenge", "Zaxxon"),
)


FULL_ACTIONS = (
    *("NOOP", "FIRE", "UP", "RIGHT", "LEFT", "DOWN"),
    *("UPRIGHT", "UPLEFT", "DOWNRIGHT", "DOWNLEFT"),
    *("UPFIRE", "RIGHTFIRE", "LEFTFIRE", "DOWNFIRE"),
    *("UPRIGHTFIRE", "UPLEFTFIRE", "DOWNRIGHTFIRE", "DOWNLEFTFIRE"),
)
"""The console's actions in the order of the Arcade Learning Environment; games have some or all."""
FULL_SET = f"Atari:full{len(FULL_ACTIONS)}"
"""The name of all 18, also where they are a game's own."""


def minimal_set(game: str, num_actions: int) -> str:
    """Names the set of actions that a game uses.

    Args:
        game: as envpool spells it.
        num_actions: how many these are.
    """
    return f"{game}:minimal{num_actions}"


def action_names(game: str, num_actions: int) -> tuple[str, ...]:
    """What the actions of a game do; empty where only ale-py, which is not installed, knows.

    Args:
        game: as envpool spells it.
        num_actions: how many the game is played with.
    """
    if num_actions == len(FULL_ACTIONS):
        return FULL_ACTIONS
    if "ale" not in installed_backends():
        return ()
    from envs.atari.ale import minimal_actions

    names = minimal_actions(game)
    return names if len(names) == num_actions else ()


def installed_backends() -> tuple[Backend, ...]:
    """The backends that can play here, the preferred one first."""
    return tuple(name for name in get_args(Backend) if find_spec(PACKAGES[name]) is not None)


def atari_games() -> tuple[str, ...]:
    """Lists the games by plain name: all that can be played, or the standard 57 if none can."""
    match installed_backends():
        case ("envpool", *_):
            from envs.atari.envpool import games
        case ("ale", *_):
            from envs.atari.ale import games
        case _:
            return STANDARD_GAMES
    return games()
