"""Benchmarks: speed, sound quality and the reports of both."""
