"""Actor-critic agents, auxiliary heads and the gates between their gradients."""
