"""Training of DiffWave networks for the engine: ``python -m engine.training fit RECIPE --data DIR`` (extra `train`)."""
