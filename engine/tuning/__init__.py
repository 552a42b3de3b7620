"""Measurements on recordings that become constants of a checkpoint."""
