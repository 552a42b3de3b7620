"""A stand-in for torchaudio, which the packages of DiffWave import and their vocoders do not call."""

from __future__ import annotations

import importlib
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType


def install() -> None:
    """Put the stand-in into sys.modules, unless torchaudio itself can be imported.

    It cannot where it was built for another version of torch: the extra `bench` installs one without its own torch.
    """
    try:
        importlib.import_module("torchaudio")
    except (ImportError, OSError):
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchaudio"]:
            del sys.modules[name]
    else:
        return
    names = ("torchaudio", "torchaudio.transforms", "torchaudio.functional")
    modules = {name: ModuleType(name) for name in names}
    for name, module in modules.items():
        module.__spec__ = ModuleSpec(name, None)
        module.__version__ = "2.9.0"  # type: ignore[attr-defined]
        parent, _, child = name.rpartition(".")
        if parent:
            setattr(modules[parent], child, module)
    sys.modules.update(modules)
