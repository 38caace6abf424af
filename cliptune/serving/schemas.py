"""Bodies that are read by hand, in the words of OpenAPI."""

from __future__ import annotations

from typing import Any

_FILES = {"type": "array", "items": {"type": "string", "format": "binary"}}
_TEXTS = {"type": "array", "items": {"type": "string", "format": "byte", "description": "a picture in base64"}}
_ERROR = {
    "content": {
        "application/json": {"schema": {"type": "object", "properties": {"error": {"type": "string"}}}},
    }
}


def _refusals(*codes: tuple[str, str]) -> dict[str, Any]:
    return {code: {"description": why, **_ERROR} for code, why in codes}


PREDICT: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {"schema": {"type": "object", "properties": {"image": _FILES}}},
            "application/json": {
                "schema": {"type": "object", "properties": {"images": _TEXTS, "image": _TEXTS["items"]}},
            },
            "image/*": {"schema": {"type": "string", "format": "binary"}},
        },
    },
    "responses": _refusals(
        ("400", "no JSON, or no form"),
        ("404", "no such model"),
        ("413", "too large"),
        ("415", "another kind of body"),
        ("422", "no such picture"),
        ("503", "busy, or too slow"),
    ),
}
CLASSES: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["classes"],
                    "properties": {
                        "classes": {"type": "array", "items": {"type": "string"}},
                        "template": {"type": "string", "description": "sentence with {} for the name"},
                    },
                }
            }
        },
    },
    "responses": _refusals(("409", "the classes are decided"), ("422", "no such classes")),
}
