import pytest

from agents.gates.methods.cosine import Cosine
from agents.gates.methods.projection import Projection
from configs.programs import parse_gate


def test_a_name_is_a_gate_with_its_defaults():
    assert isinstance(parse_gate("cosine"), Cosine)
    assert parse_gate("projection").num_references == 0


@pytest.mark.parametrize("text", ["projection(decay=0.99)", "projection( decay = 0.99 )"])
def test_options_stand_in_brackets(text):
    gate = parse_gate(text)
    assert isinstance(gate, Projection)
    # With a moving average there is a row to compare with.
    assert gate.num_references == 1


def test_where_a_teacher_is_followed_is_not_the_gates_affair():
    assert parse_gate("projection(decay=0.99) where advantage").num_references == 1
    with pytest.raises(ValueError, match="cannot be read"):
        parse_gate("projection(decay=0.99) where it helps")


def test_hyphens_and_underscores_are_the_same():
    assert type(parse_gate("cosine-unweighted")) is type(parse_gate("cosine_unweighted"))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("cosin", "--gates cosin: gate must be one of cosine"),
        ("cosine(decay=1)", "has no option decay"),
        ("projection(decay=2.0)", "--gates projection\\(decay=2.0\\): decay must be"),
        ("projection(decay=0.9", "cannot be read"),
        ("projection(0.9)", "cannot be read"),
        ("projection(**{})", "cannot be read"),
        ("projection(decay=min(0, 1))", "cannot be read"),
        ("gradnorm", "needs the values of losses"),
        ("ol_aux(log='all')", "needs the values of losses"),
        ("attittud", "needs gradients of single steps"),
        ("significant", "needs gradients of slices of environments"),
        ("rotograd", "--gates rotograd needs a network, which tabular students do not have"),
        ("auxinash(learn_every=2)", "needs a network, which tabular students do not have"),
    ],
)
def test_what_cannot_be_used_is_refused(text, sentence):
    with pytest.raises(ValueError, match=sentence):
        parse_gate(text)
