"""Read the public objects of the package from its source, without importing it.

The text of a signature is taken from the source itself, so that it is the same under every version of Python.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SECTIONS = ("Args", "Attributes", "Returns", "Yields", "Raises", "Example", "Examples", "Note")
ITEMS = ("Args", "Attributes", "Raises")  # sections of "name: text"; the others are prose
WIDTH = 100  # of a signature that stands in one line

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Docstring:
    """A docstring of the google convention in its parts.

    Attributes:
        summary: the first line.
        body: the paragraphs between the summary and the first section.
        sections: the text of each section by its name, without indentation.
    """

    summary: str
    body: str
    sections: dict[str, str]

    def items(self, section: str) -> list[tuple[str, str]]:
        """Return the pairs (name, text) of a section such as Args; a text may have several lines."""
        entries: list[tuple[str, str]] = []
        for line in self.sections.get(section, "").splitlines():
            if line and not line.startswith(" "):
                name, _, text = line.partition(":")
                entries.append((name.strip(), text.strip()))
            elif entries:
                name, text = entries[-1]
                entries[-1] = (name, f"{text}\n{line.strip()}".strip())
        return entries


@dataclass(frozen=True)
class Member:
    """A function, method, property, class or constant.

    Attributes:
        name: "vocode" or "Voice.vocode".
        path: the source file, from the root of the repository.
        kind: "function", "property", "class" or "constant".
        signatures: source text of the signature; several for overloads.
        fields: (name, annotation, default) of a dataclass.
        doc: the docstring in its parts.
    """

    name: str
    path: str
    kind: str
    signatures: tuple[str, ...]
    fields: tuple[tuple[str, str, str], ...]
    doc: Docstring


def parse(text: str | None) -> Docstring:
    """Split a docstring of the google convention."""
    lines = inspect.cleandoc(text or "").splitlines()
    sections: dict[str, list[str]] = {"": []}
    section = ""
    for line in lines[1:]:
        heading = re.fullmatch(r"(\w+):", line)
        if heading and heading[1] in SECTIONS:
            section = heading[1]
            sections[section] = []
        else:
            sections[section].append(line)
    parts = {name: inspect.cleandoc("\n" + "\n".join(content)).strip("\n") for name, content in sections.items()}
    return Docstring(lines[0] if lines else "", parts.pop("").strip(), parts)


@cache
def _module(dotted: str) -> tuple[Path, str, ast.Module] | None:
    base = ROOT / dotted.replace(".", "/")
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.is_file():
            source = path.read_text()
            return path, source, ast.parse(source)
    return None


def exported(dotted: str) -> list[str]:
    """Return the names in `__all__` of a module."""
    parsed = _module(dotted)
    assert parsed is not None, f"{dotted}: expected a module"
    for node in parsed[2].body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets):
            return [str(name) for name in ast.literal_eval(node.value)]
    raise LookupError(f"{dotted}: expected __all__")


def _definitions(dotted: str, name: str) -> tuple[str, list[ast.stmt]]:
    """Follow imports to the module that defines a name; return that module and the definitions."""
    parsed = _module(dotted)
    if parsed is None:
        raise LookupError(f"{dotted}: expected a module of the project")
    statements: list[ast.stmt] = []
    origin: tuple[str, str] | None = None
    for node in _statements(parsed[2].body):
        if name in _defined(node):
            statements.append(node)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    origin = (node.module, alias.name)
    if statements:
        return dotted, statements
    if origin is None:
        raise LookupError(f"{dotted}: expected a definition or an import of {name}")
    return _definitions(*origin)


def _defined(node: ast.stmt) -> set[str]:
    """Return the names that a statement defines."""
    if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
        return {node.name}
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return {target.id for target in targets if isinstance(target, ast.Name)}


def _statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    for node in body:
        yield node
        if isinstance(node, (ast.If, ast.Try)):
            yield from _statements(node.body)


def members(dotted: str) -> list[Member]:
    """Return a public object, and after a class its public methods and properties, in the order of the source."""
    module, _, name = dotted.rpartition(".")
    module, nodes = _definitions(module, name)
    node = nodes[0]
    if isinstance(node, ast.ClassDef):
        return _class(module, node)
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        return [_function(module, name, [n for n in nodes if isinstance(n, Function)])]
    _, source, _ = _existing_module(module)
    value = " ".join((ast.get_source_segment(source, node) or "").split())
    comment = _comment_above(source, node.lineno) or _comment_beside(source, node.lineno)
    doc = parse(comment and f"{comment[0].upper()}{comment[1:].rstrip('.')}.")
    return [Member(name, _path(module), "constant", (value,), (), doc)]


def _comment_above(source: str, line: int) -> str:
    """Return the comment that ends on the line before this one."""
    comment: list[str] = []
    for text in reversed(source.splitlines()[: line - 1]):
        if not text.startswith("# "):
            break
        comment.insert(0, text.removeprefix("# "))
    return " ".join(comment)


def _comment_beside(source: str, line: int) -> str:
    """Return the comment that ends this line."""
    return source.splitlines()[line - 1].partition("  # ")[2]


def _existing_module(module: str) -> tuple[Path, str, ast.Module]:
    parsed = _module(module)
    assert parsed is not None
    return parsed


def _path(module: str) -> str:
    path = _existing_module(module)[0].relative_to(ROOT).as_posix()
    return path.removeprefix("engine/") if path.startswith("engine/kernels/") else path


def _class(module: str, node: ast.ClassDef) -> list[Member]:
    source = _existing_module(module)[1]
    fields = []
    if any("dataclass" in ast.dump(decorator) for decorator in node.decorator_list):
        for item in node.body:
            if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name) and item.target.id[0] != "_":
                fields.append((item.target.id, _text(source, item.annotation), _text(source, item.value)))
    bases = [_text(source, base) for base in node.bases]
    signature = f"class {node.name}" + (f"({', '.join(bases)})" if bases else "")
    doc = parse(ast.get_docstring(node, clean=False))
    listed = [Member(node.name, _path(module), "class", (signature,), tuple(fields), doc)]
    for owner, body in [(module, node.body), *_bases(module, node)]:
        groups: dict[str, list[Function]] = {}
        for item in body:
            if isinstance(item, Function) and not item.name.startswith("_"):
                groups.setdefault(item.name, []).append(item)
        listed += [_function(owner, f"{node.name}.{name}", group) for name, group in groups.items()]
    return listed


def _bases(module: str, node: ast.ClassDef) -> Iterator[tuple[str, list[ast.stmt]]]:
    """Yield the modules and bodies of the base classes that the project defines."""
    for base in node.bases:
        if isinstance(base, ast.Name):
            try:
                owner, (definition, *_) = _definitions(module, base.id)
            except LookupError:  # a class of Python or of another package
                continue
            if isinstance(definition, ast.ClassDef):
                yield owner, definition.body
                yield from _bases(owner, definition)


def _function(module: str, name: str, nodes: list[Function]) -> Member:
    source = _existing_module(module)[1]
    overloads = [node for node in nodes if "overload" in _decorators(node)]
    final = nodes[-1]
    property_like = {"property", "cached_property"} & _decorators(final)
    signatures = tuple(_signature(source, node) for node in overloads or [final])
    doc = next((text for node in reversed(nodes) if (text := ast.get_docstring(node, clean=False))), None)
    return Member(name, _path(module), "property" if property_like else "function", signatures, (), parse(doc))


def _decorators(node: Function) -> set[str]:
    return {ast.unparse(decorator).rpartition(".")[2] for decorator in node.decorator_list}


def _text(source: str, node: ast.expr | None) -> str:
    """Return the source of an expression in one line."""
    text = "" if node is None else ast.get_source_segment(source, node) or ""
    return re.sub(r",? ([\])}])", r"\1", re.sub(r"([\[({]) ", r"\1", " ".join(text.split())))


def _signature(source: str, node: Function) -> str:
    arguments = node.args
    listed: list[str] = []
    positional = [*arguments.posonlyargs, *arguments.args]
    defaults: list[ast.expr | None] = [None] * (len(positional) - len(arguments.defaults))
    defaults += arguments.defaults
    for number, (argument, default) in enumerate(zip(positional, defaults, strict=True)):
        if number or argument.arg not in ("self", "cls"):
            listed.append(_argument(source, argument, default))
        if number + 1 == len(arguments.posonlyargs):
            listed.append("/")
    if arguments.vararg:
        listed.append("*" + _argument(source, arguments.vararg, None))
    elif arguments.kwonlyargs:
        listed.append("*")
    for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        listed.append(_argument(source, argument, default))
    if arguments.kwarg:
        listed.append("**" + _argument(source, arguments.kwarg, None))
    returns = f" -> {_text(source, node.returns)}" if node.returns else ""
    line = f"{node.name}({', '.join(listed)}){returns}"
    if len(line) <= WIDTH:
        return line
    return f"{node.name}(\n" + "".join(f"    {argument},\n" for argument in listed) + f"){returns}"


def _argument(source: str, argument: ast.arg, default: ast.expr | None) -> str:
    text = argument.arg + (f": {_text(source, argument.annotation)}" if argument.annotation else "")
    if default is None:
        return text
    return f"{text} = {_text(source, default)}" if argument.annotation else f"{text}={_text(source, default)}"
