"""Names in a pickle that stand for code: what would run a program, import a module or reach the system.

The unpickler calls nothing, whatever a file names. A file that names one of these was made to attack another reader, so
it is refused as a whole.
"""

from __future__ import annotations

# Modules of which every name is refused, with their submodules.
_MODULES = frozenset(
    (
        *("os", "posix", "nt", "sys", "subprocess", "_posixsubprocess", "commands", "shutil", "pty", "signal"),
        *("importlib", "_frozen_importlib", "_frozen_importlib_external", "imp", "runpy", "pkgutil", "zipimport"),
        *("code", "codeop", "pdb", "bdb", "trace", "timeit", "profile", "cProfile", "doctest", "pydoc", "idlelib"),
        *("ctypes", "_ctypes", "cffi", "gc", "inspect", "marshal", "pickle", "_pickle", "cPickle", "shelve"),
        *("socket", "_socket", "ssl", "asyncio", "multiprocessing", "webbrowser", "urllib", "requests", "http"),
        *("ftplib", "smtplib", "telnetlib", "xmlrpc", "pip", "ensurepip", "setuptools", "distutils"),
    )
)
_BUILTINS = frozenset(
    (
        *("eval", "exec", "execfile", "compile", "open", "file", "__import__", "input", "raw_input", "breakpoint"),
        *("globals", "locals", "vars", "setattr", "delattr", "apply", "reload", "exit", "quit"),
    )
)
# Names of other modules.
_NAMES = {
    "builtins": _BUILTINS,
    "__builtin__": _BUILTINS,
    "types": frozenset({"CodeType", "FunctionType", "LambdaType", "MethodType", "ModuleType"}),
    "torch": frozenset({"load"}),
    "torch.serialization": frozenset({"load", "_load", "_legacy_load"}),
    "torch.storage": frozenset({"_load_from_bytes"}),
    "numpy": frozenset({"load", "fromfile", "memmap"}),
}


def runs_code(module: str, name: str) -> bool:
    """Return whether a name stands for code.

    Args:
        module: of the name, with dots.
        name: in the module, with dots for a nested class.
    """
    if module.split(".", 1)[0] in _MODULES or name in _NAMES.get(module, ()):
        return True
    hidden = any(part.startswith("__") and part.endswith("__") for part in name.split("."))
    return hidden and module not in ("copyreg", "copy_reg")
