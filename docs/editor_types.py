"""`python -m docs.editor_types`: the types of the API for the editor, written from the schemas of the OpenAPI document.

A test compares the file with what this would write, so the editor cannot speak of an API that is not there.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

TARGET = Path(__file__).resolve().parent.parent / "web" / "editor" / "src" / "api" / "schema.ts"
HEAD = "// Written by `python -m docs.editor_types` from the OpenAPI document. Do not edit.\n\n"


def text() -> str:
    """The whole file: one interface per schema, and every path with its methods."""
    from web.routes import TABLE
    from web.routes.openapi import document

    api = document(TABLE)
    parts = [f"export type {name} = {of(schema)};\n" for name, schema in api["components"]["schemas"].items()]
    paths = [
        f"  {json.dumps(path)}: {' | '.join(json.dumps(method) for method in sorted(methods))};\n"
        for path, methods in sorted(api["paths"].items())
        if path.startswith("/api/")
    ]
    return HEAD + "\n".join(parts) + "\nexport interface Paths {\n" + "".join(paths) + "}\n"


def of(schema: dict[str, Any], indent: str = "") -> str:
    """One JSON schema as a TypeScript type."""
    if "$ref" in schema:
        return str(schema["$ref"].rsplit("/", 1)[-1])
    if "const" in schema:
        return json.dumps(schema["const"])
    if "enum" in schema:
        return " | ".join(json.dumps(word) for word in schema["enum"])
    for key in ("anyOf", "oneOf"):
        if key in schema:
            return " | ".join(of(part, indent) for part in schema[key])
    kind = schema.get("type")
    if isinstance(kind, list):
        return " | ".join(of({**schema, "type": one}, indent) for one in kind)
    if kind == "array":
        item = of(schema.get("items", {}), indent)
        return f"({item})[]" if " " in item and not item.startswith("{") else f"{item}[]"
    if kind == "object":
        return _object(schema, indent)
    return {"string": "string", "integer": "number", "number": "number", "boolean": "boolean", "null": "null"}.get(
        str(kind), "unknown"
    )


def _object(schema: dict[str, Any], indent: str) -> str:
    inner = indent + "  "
    required = set(schema.get("required", ()))
    lines = []
    for name, part in schema.get("properties", {}).items():
        key = name if re.fullmatch(r"[A-Za-z_]\w*", name) else json.dumps(name)
        lines.append(f"{inner}{key}{'' if name in required else '?'}: {of(part, inner)};\n")
    more = schema.get("additionalProperties", True)
    if isinstance(more, dict) and not lines:
        return f"Record<string, {of(more, indent)}>"
    if more is True and not lines:
        return "Record<string, unknown>"
    if more is True:
        lines.append(f"{inner}[more: string]: unknown;\n")
    return "{\n" + "".join(lines) + indent + "}"


if __name__ == "__main__":
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    TARGET.write_text(text(), encoding="utf-8")
    print(TARGET)
