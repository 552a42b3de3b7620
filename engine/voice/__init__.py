"""A loaded network, and the functions of the package that load one and use it."""

from engine.voice.voice import Voice as Voice
