"""The calls of other DiffWave packages, computed by this engine: `lmnt`, `speechbrain` and `philsyn`."""
