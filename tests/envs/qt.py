"""Procgen needs libraries that no wheel brings."""

from ctypes.util import find_library

import pytest

NEEDS_QT = pytest.mark.skipif(
    find_library("Qt5Gui") is None, reason="Procgen needs Qt 5: apt-get install libqt5gui5"
)
