"""The T-step sampling loop."""
