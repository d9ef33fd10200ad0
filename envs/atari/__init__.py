"""Atari 2600 games, played by envpool or by ale-py."""
