"""Who learns in each world: main-only, and each gate with each teacher."""

from dataclasses import dataclass

from configs.sweep import Setting, SweepConfig

MAIN = "main-only"


@dataclass(frozen=True)
class Teaching:
    """A teacher: of which world, how decided."""

    setting: Setting
    temperature: float


@dataclass(frozen=True)
class Arm:
    """One student of each world."""

    gate: str
    """Its name with its options, or `main-only`."""
    teaching: Teaching | None
    """None: no teacher."""


def teachings(config: SweepConfig) -> tuple[Teaching, ...]:
    """All teachers of one world, settings first."""
    return tuple(
        Teaching(setting, temperature)
        for setting in config.settings
        for temperature in config.temperatures
    )


def arms(config: SweepConfig) -> tuple[Arm, ...]:
    """All students of one world: main-only, then gate by gate.

    Students live in the modified world whatever the setting, so that the settings differ in
    the teacher alone, and main-only learning is the same in both.
    """
    taught = [Arm(gate, teaching) for gate in config.gates for teaching in teachings(config)]
    return (Arm(MAIN, None), *taught)
