"""Games of envpool other than Atari: Procgen, MiniGrid, and what else fits the agent."""
