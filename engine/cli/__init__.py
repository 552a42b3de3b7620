"""The command `engine`."""
