"""Every reply that the code can give to a client, read from the code itself."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent / "fwd_mta"
PLACES: tuple[str, ...] = ("inbound", "smtp", "mail/errors.py", "rules/submission.py")
PLACES += ("rules/encoding.py", "rules/verdicts.py")

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_HELPERS = {"_bad", "_refuse"}  # what they are called with is what counts
_Texts = dict[str, list[ast.expr]]


def replies() -> dict[str, str]:
    """Each as "550 5.7.1 text", what varies as "…"; and where it stands."""
    found = {}
    for place in PLACES:
        path = ROOT / place
        for file in sorted(path.glob("*.py")) if path.is_dir() else [path]:
            tree = ast.parse(file.read_text("utf-8"))
            for text in _in(tree, {}):
                found[text] = f"{file.parent.name}/{file.name}"
    return found


def _in(node: ast.AST, texts: _Texts) -> Iterator[str]:
    """All replies below a node; `texts` are the variables of its function."""
    if isinstance(node, _FUNCTIONS):
        if node.name in _HELPERS:
            return
        texts = _variables(node)
    if isinstance(node, ast.Call):
        name = getattr(node.func, "id", getattr(node.func, "attr", ""))
        yield from _call(name, node.args, texts)
    for child in ast.iter_child_nodes(node):
        yield from _in(child, texts)


def _variables(function: ast.AST) -> _Texts:
    found: _Texts = {}
    for node in ast.walk(function):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            found.setdefault(node.targets[0].id, []).append(node.value)
    return found


def _call(name: str, given: list[ast.expr], texts: _Texts) -> Iterator[str]:
    words = [one.value if isinstance(one, ast.Constant) else None for one in given]
    if name in {"Reply", "CommandFault"} and len(given) == 3 and words[0]:
        if words[1] is not None or _is_none(given[1]):
            yield from _written(words[0], words[1], given[2], texts)
    elif name == "_bad" and len(given) == 1:
        yield from _written(501, "5.4", given[0], texts)
    elif name == "_refuse" and len(given) >= 2 and isinstance(words[0], str):
        code = words[2] if len(given) == 3 else 550
        yield from _written(code, words[0], given[1], texts)


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _written(code: Any, detail: Any, text: ast.expr, texts: _Texts) -> Iterator[str]:
    status = f"{code // 100}.{detail} " if detail else ""
    written = texts.get(text.id, [text]) if isinstance(text, ast.Name) else [text]
    for one in written:
        yield f"{code} {status}{_said(one)}"


def _said(node: ast.expr) -> str:
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(map(_said, node.values))
    return "…"
