"""The operations of the API, as its own description lists them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from drf_spectacular.generators import SchemaGenerator

METHODS = ("get", "post", "put", "patch", "delete")
FORM = "application/x-www-form-urlencoded"


@dataclass(frozen=True)
class Operation:
    """One method of one path. ``example`` is a body that is right, None where there is none."""

    method: str
    path: str
    parameters: tuple[str, ...]  # in the path
    queries: tuple[str, ...]
    statuses: frozenset[int]
    is_open: bool  # needs no sign-in
    is_signed: bool  # the body is signed with a webhook secret instead
    content_types: tuple[str, ...]
    example: Any
    body: Mapping[str, Any]  # schema of the body, references resolved

    def __str__(self) -> str:
        return f"{self.method} {self.path}"

    def at(self, values: Mapping[str, str]) -> str:
        """Return the address with ``values`` for what stands in braces."""
        return self.path.format_map(values)


@cache
def operations() -> tuple[Operation, ...]:
    schema = SchemaGenerator().get_schema(request=None, public=True)
    components = schema["components"]["schemas"]
    return tuple(
        _operation(method, path, item[method], components)
        for path, item in schema["paths"].items()
        for method in METHODS
        if method in item
    )


def _operation(
    method: str, path: str, described: dict[str, Any], components: dict[str, Any]
) -> Operation:
    content = described.get("requestBody", {}).get("content", {})
    media = content.get("application/json", {})
    examples = [example["value"] for example in media.get("examples", {}).values()]
    parameters = described.get("parameters", [])
    return Operation(
        method=method.upper(),
        path=path,
        parameters=tuple(p["name"] for p in parameters if p["in"] == "path"),
        queries=tuple(p["name"] for p in parameters if p["in"] == "query"),
        statuses=frozenset(map(int, described["responses"])),
        is_open={} in described.get("security", [{}]),
        is_signed={"brokerSignature": []} in described.get("security", []),
        content_types=tuple(content),
        example=examples[0] if examples else None,
        body=_resolved(media.get("schema", {}), components),
    )


def _resolved(node: Any, components: dict[str, Any]) -> Any:
    if isinstance(node, list):
        return [_resolved(part, components) for part in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        return _resolved(components[node["$ref"].rpartition("/")[2]], components)
    return {key: _resolved(value, components) for key, value in node.items()}
