"""Which Atari games there are, and by which emulators they can be played here."""

from importlib.util import find_spec
from typing import Literal, get_args

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


def installed_backends() -> tuple[Backend, ...]:
    """The backends that can play here, the preferred one first."""
    return tuple(name for name in get_args(Backend) if find_spec(PACKAGES[name]) is not None)


def atari_games() -> tuple[str, ...]:
    """Lists the games by plain name: all that can be played, or the standard 57 if none can."""
    match installed_backends():
        case ("envpool", *_):
            from envs.atari_envpool import games
        case ("ale", *_):
            from envs.atari_ale import games
        case _:
            return STANDARD_GAMES
    return games()
