"""Measurements of sound quality."""
