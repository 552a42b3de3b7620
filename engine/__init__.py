"""DiffWave inference with custom kernels."""
