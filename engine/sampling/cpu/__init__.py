"""The sampling loop on a CPU: tiles that sweep over time."""
