"""The actor-critic network: torsos, a recurrent core, policy and value heads."""
