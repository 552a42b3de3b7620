"""The CUDA kernel for GPUs whose tensor cores take their operands from registers: Ampere (8.0) and every later one."""
