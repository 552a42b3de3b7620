"""Sound quality of the bundled networks."""
