"""The narrowed API as an OpenAPI document: what the policy serves at `/openapi.json`.

In: nothing. Out: the document. A test holds it against what the policy does.
"""

from typing import Any

from data.protocol import CONTRACT_HEADER, DROPPED_HEADER, GUARD_FIELD, MODEL_NAME, PINNED_HEADER
from serve.request import STOPS_LIMIT


def document(max_tokens: int) -> dict[str, Any]:
    """OpenAPI 3.1 of the doors, for the largest answer in tokens."""
    answers = {
        "4XX": {"description": "One sentence that says what to mend.", "content": _json("Error")},
        "5XX": {
            "description": "The guard or the model cannot answer now; the same may be asked again.",
            "content": _json("Error"),
        },
    }
    busy = {
        "description": "Over the key's limit; try again after the seconds of Retry-After.",
        "headers": {"Retry-After": {"schema": {"type": "integer"}}},
        "content": _json("Error"),
    }
    chat = {
        "summary": "Answer a conversation",
        "requestBody": {"required": True, "content": _json("Request")},
        "responses": {
            "200": {
                "description": "The answer, or its parts as server-sent events where `stream` is true.",
                "headers": {
                    CONTRACT_HEADER: {"schema": {"type": "string"}, "description": "SHA-256 of the contract"},
                    PINNED_HEADER: {"schema": {"type": "string"}, "description": "fields that had no effect"},
                    DROPPED_HEADER: {"schema": {"type": "integer"}, "description": "messages left out"},
                },
                "content": {**_json("Completion"), "text/event-stream": {"schema": {"type": "string"}}},
            },
            "429": busy,
            **answers,
        },
    }
    plain = {"200": {"description": "It is well."}, **answers}
    return {
        "openapi": "3.1.0",
        "info": {"title": "MindPal", "version": "1", "description": "One model, as it was taught, behind its guard."},
        "security": [{"key": []}, {}],
        "paths": {
            "/v1/chat/completions": {"post": chat},
            "/v1/models": {"get": {"summary": "The one model", "responses": plain}},
            "/health": {"get": {"summary": "Whether the server answers", "security": [], "responses": plain}},
            "/metrics": {
                "get": {"summary": "Prometheus metrics; without keys on this machine only", "responses": plain}
            },
            "/openapi.json": {"get": {"summary": "This document", "responses": plain}},
        },
        "components": {
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
            "schemas": _schemas(max_tokens),
        },
    }


def _json(name: str) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{name}"}}}


def _schemas(max_tokens: int) -> dict[str, Any]:
    part = {
        "type": "object",
        "required": ["type", "text"],
        "properties": {"type": {"const": "text"}, "text": {"type": "string"}},
    }
    message = {
        "type": "object",
        "required": ["role", "content"],
        "properties": {
            "role": {
                "enum": ["user", "assistant", "system", "developer"],
                "description": "the last two have no effect",
            },
            "content": {"anyOf": [{"type": "string"}, {"type": "array", "minItems": 1, "items": part}]},
        },
    }
    tokens = {"type": ["integer", "null"], "minimum": 1, "description": f"at most {max_tokens} are made"}
    request = {
        "type": "object",
        "required": ["messages"],
        "description": "Any other field is accepted and has no effect: the contract decides.",
        "properties": {
            "model": {"type": ["string", "null"], "description": f"always answered by {MODEL_NAME}"},
            "messages": {"type": "array", "minItems": 1, "items": message},
            "stream": {"type": ["boolean", "null"]},
            "stream_options": {
                "type": ["object", "null"],
                "properties": {"include_usage": {"type": ["boolean", "null"]}},
            },
            "max_tokens": tokens,
            "max_completion_tokens": tokens,
            "seed": {"type": ["integer", "null"], "minimum": -(2**63), "maximum": 2**63 - 1},
            "stop": {
                "anyOf": [
                    {"type": "null"},
                    {"type": "string"},
                    {"type": "array", "maxItems": STOPS_LIMIT, "items": {"type": "string", "minLength": 1}},
                ]
            },
            "user": {"type": ["string", "null"], "description": "has no effect and is not kept"},
        },
    }
    acted = {
        "type": "object",
        "required": ["action", "category", "layer"],
        "properties": {
            "action": {"enum": ["crisis", "redirect", "masked", "stopped"]},
            "category": {"type": "string"},
            "layer": {"enum": ["rules", "classifier", "model"]},
        },
    }
    completion = {
        "type": "object",
        "required": ["id", "object", "created", "model", "choices", "usage"],
        "properties": {
            "id": {"type": "string"},
            "object": {"const": "chat.completion"},
            "created": {"type": "integer"},
            "model": {"const": MODEL_NAME},
            "choices": {"type": "array", "minItems": 1, "maxItems": 1, "items": {"type": "object"}},
            "usage": {"type": "object"},
            GUARD_FIELD: acted,
        },
    }
    error = {
        "type": "object",
        "required": ["error"],
        "properties": {
            "error": {
                "type": "object",
                "required": ["message", "type", "param", "code"],
                "properties": {name: {"type": ["string", "null"]} for name in ("message", "type", "param", "code")},
            }
        },
    }
    return {"Request": request, "Completion": completion, "Error": error}
