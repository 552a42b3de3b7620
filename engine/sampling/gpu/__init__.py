"""The sampling loop on a GPU: plans of launches in CUDA graphs."""
