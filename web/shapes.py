"""The words that JSON schemas are written in."""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]


def ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def record(properties: Schema, *required: str, more: bool = False, description: str = "") -> Schema:
    """An object; every property is required unless `required` names some."""
    schema: Schema = {"type": "object", "properties": properties, "required": list(required or properties)}
    if not more:
        schema["additionalProperties"] = False
    if description:
        schema["description"] = description
    return schema


def listing(name: str, item: Schema) -> Schema:
    return record({name: {"type": "array", "items": item}})


TEXT: Schema = {"type": "string"}
INTEGER: Schema = {"type": "integer"}
NUMBER: Schema = {"type": "number"}
BOOLEAN: Schema = {"type": "boolean"}
ANY: Schema = {}
SECONDS: Schema = {"type": ["number", "null"], "description": "unix seconds"}
OBJECT: Schema = {"type": "object"}
