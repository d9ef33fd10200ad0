from agents.gates import AttittudConfig, Gates
from examples.arms import MAIN, arms


def test_every_registered_gate_is_there_or_said_to_be_left_out(capsys):
    makers = arms(AttittudConfig())
    left_out = {line.split()[0] for line in capsys.readouterr().out.splitlines()}
    assert next(iter(makers)) == MAIN
    assert makers[MAIN] is None
    assert set(makers) | left_out == {MAIN, *vars(Gates())}
    assert set(makers) & left_out == set()
    assert {"sum", "cosine", "nash", "gradnorm", "attittud"} <= set(makers)
    assert {"rotograd", "significant"} <= left_out


def test_gates_are_made_anew():
    makers = arms(AttittudConfig(rank=3))
    assert makers["attittud"]().sample_rows == 3
    assert makers["ol_aux"]() is not makers["ol_aux"]()
