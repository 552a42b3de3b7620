"""Benchmarks that need a GPU, and the roofline that predicts one."""
