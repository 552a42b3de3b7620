"""The command `engine bench`: speed and memory on this machine as the work grows."""
