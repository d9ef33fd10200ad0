"""Gates made by name."""

import pytest

from agents.gates import make


def test_hyphens_and_underscores_name_the_same_gate() -> None:
    assert type(make("cosine-unweighted")) is type(make("cosine_unweighted"))


def test_an_unknown_gate_is_refused_with_the_nearest_names_first() -> None:
    with pytest.raises(ValueError, match=r"gate must be one of projection, .*, not projektion"):
        make("projektion")


def test_an_unknown_option_is_refused_with_the_valid_ones() -> None:
    with pytest.raises(ValueError, match="gate projection has no option decai; it has decay"):
        make("projection", decai=0.9)
    with pytest.raises(ValueError, match=r"gate pcgrad: seed must be of type int, not 1\.5"):
        make("pcgrad", seed=1.5)
    with pytest.raises(ValueError, match=r"auxinash: preference must be of type tuple.*, not 0\.5"):
        make("auxinash", preference=0.5)
    with pytest.raises(ValueError, match="gate cosine has no option decay; it has none"):
        make("cosine", decay=0.9)


def test_a_bad_value_is_refused() -> None:
    with pytest.raises(ValueError, match="decay must be"):
        make("projection", decay=1.5)
