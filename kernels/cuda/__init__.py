"""The parts that the CUDA kernels share: compilation by NVRTC, groups of layers, numbers, noise, the ends of a step.

NVRTC compiles them when a network is loaded. NVRTC and `cuda.bindings` come with PyTorch's CUDA builds.
"""
