"""The gridworld behind the environment contract."""
