"""The CUDA kernel for Hopper (compute capability 9.0), whose tensor cores read their operands from shared memory."""
