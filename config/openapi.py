"""The last touch to the API description: every body without an example of its own gets one.

An example is known by the name of its component: from `openapi_examples`, or from where a view
shows one. Pages and other wrappers are put together from the examples of their parts.
"""

from collections.abc import Iterator
from typing import Any

from config.openapi_examples import EXAMPLES

Schema = dict[str, Any]
METHODS = ("get", "post", "put", "patch", "delete")
TITLE = "Example"


class Unknown(LookupError):
    """No example is known for a part of a schema."""


def fill_examples(result: Schema, **_: Any) -> Schema:
    """Give an example to every request and answer that has none (a hook of drf-spectacular)."""
    components: Schema = result["components"]["schemas"]
    known = dict(EXAMPLES)
    for media in _bodies(result):
        if name := _component(media["schema"]):
            for example in media.get("examples", {}).values():
                known.setdefault(name, example["value"])
    for media in _bodies(result):
        if "examples" not in media:
            try:
                value = _example(media["schema"], components, known)
            except Unknown:
                continue  # the tests of the description name it
            media["examples"] = {TITLE: {"value": value}}
    return result


def _bodies(result: Schema) -> Iterator[Schema]:
    """Yield every request and every answer that is not an error."""
    for path in result["paths"].values():
        for method in METHODS:
            operation = path.get(method, {})
            places = [operation.get("requestBody", {})]
            places += [r for status, r in operation.get("responses", {}).items() if status < "400"]
            for place in places:
                for media in place.get("content", {}).values():
                    if "schema" in media:
                        yield media


def _component(schema: Schema) -> str:
    return str(schema.get("$ref", "")).rpartition("/")[2]


def _example(schema: Schema, components: Schema, known: Schema) -> Any:
    name = _component(schema)
    if name in known:
        return known[name]
    if name:
        return _example(components[name], components, known)
    if schema.get("nullable"):
        return None
    if "enum" in schema:
        return schema["enum"][0]
    if schema.get("type") == "array":
        return [_example(schema["items"], components, known)]
    if "properties" in schema:
        return {
            key: _example(part, components, known) for key, part in schema["properties"].items()
        }
    raise Unknown
