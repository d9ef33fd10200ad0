from configs.programs import SweepConfig
from experiments.sweep.arms import MAIN, SweepArm, Teaching, arms, teachings

CONFIG = SweepConfig(settings=("cross", "same"), temperatures=(0.0, 1.0), gates=("sum", "nash"))


def test_each_setting_has_a_teacher_of_each_temperature():
    assert teachings(CONFIG) == (
        Teaching("cross", 0.0),
        Teaching("cross", 1.0),
        Teaching("same", 0.0),
        Teaching("same", 1.0),
    )


def test_main_only_learns_once_and_each_gate_with_each_teacher():
    everyone = arms(CONFIG)
    assert everyone[0] == SweepArm(MAIN, None)
    # 2 gates x 2 settings x 2 temperatures.
    assert len(everyone) == len(set(everyone)) == 9
    assert [arm.gate for arm in everyone[1:]] == ["sum"] * 4 + ["nash"] * 4
    assert [arm.teaching for arm in everyone[5:]] == list(teachings(CONFIG))


def test_the_default_sweep_has_the_five_arms_of_the_figure():
    assert {arm.gate for arm in arms(SweepConfig())} == {
        MAIN,
        "sum",
        "cosine",
        "cosine_unweighted",
        "projection",
    }
    # 1 + 4 gates x 2 settings x 4 temperatures.
    assert len(arms(SweepConfig())) == 33
