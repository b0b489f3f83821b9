"""The API description: complete, valid, and with one shape of errors."""

import io
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.management import call_command
from drf_spectacular.generators import SchemaGenerator
from jsonschema import Draft202012Validator

METHODS = {"get", "post", "put", "patch", "delete"}
ERRORS = "ErrorOutput"
# Every request may be refused for these; the parsers and the sign-in stand before every view.
WITH_BODY = {"400", "413", "415"}


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    return SchemaGenerator().get_schema(request=None, public=True)


def operations(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, item in schema["paths"].items():
        for method in METHODS & item.keys():
            yield f"{method.upper()} {path}", item[method]


def test_it_is_valid_and_raises_no_warning():
    out = io.StringIO()

    call_command("spectacular", validate=True, fail_on_warn=True, file=None, stdout=out)

    assert "openapi: 3" in out.getvalue()


def test_every_operation_says_what_it_does(schema):
    bare = [
        name
        for name, operation in operations(schema)
        if not operation.get("summary") or len(operation.get("tags", ())) != 1
    ]
    assert bare == []


def test_operation_ids_are_unique(schema):
    names = [operation["operationId"] for _, operation in operations(schema)]

    assert len(names) == len(set(names))


def test_every_body_has_an_example(schema):
    bare = []
    for name, operation in operations(schema):
        bodies = {"request": operation.get("requestBody", {}).get("content", {})}
        for status, response in operation["responses"].items():
            if status < "300":
                bodies[status] = response.get("content", {})
        for which, content in bodies.items():
            kinds = {kind: media for kind, media in content.items() if "schema" in media}
            if kinds and not any("examples" in media for media in kinds.values()):
                bare.append(f"{name} {which}")
    assert bare == []


def test_errors_are_documented(schema):
    """What can refuse a request stands in its description."""
    missing = []
    for name, operation in operations(schema):
        documented = operation["responses"].keys()
        wanted = set() if operation.get("security") in (None, [], [{}]) else {"401"}
        if "requestBody" in operation:
            # a signature is of the bytes, whatever the sender calls them
            signed = {"brokerSignature": []} in operation.get("security", [])
            wanted |= WITH_BODY - {"415"} if signed else WITH_BODY
        if "{" in name:
            wanted.add("404")
        missing += [f"{name} {status}" for status in sorted(wanted - documented)]
    assert missing == []


def test_errors_have_one_named_shape(schema):
    reference = f"#/components/schemas/{ERRORS}"
    wrong = [
        f"{name} {status}: {media['schema']}"
        for name, operation in operations(schema)
        for status, response in operation["responses"].items()
        if status >= "400"
        for media in response.get("content", {"": {"schema": None}}).values()
        if media["schema"] != {"$ref": reference}
    ]
    assert wrong == []
    shape = schema["components"]["schemas"][ERRORS]
    assert shape["required"] == ["error"]
    detail = shape["properties"]["error"]["$ref"].rpartition("/")[2]
    assert set(schema["components"]["schemas"][detail]["required"]) == {
        "code",
        "message",
        "detail",
    }


def test_examples_fit_their_schemas(schema):
    """What the documents show is what the platform takes and gives."""
    components = _plain(schema["components"])
    wrong = []
    for name, operation in operations(schema):
        places = [("request", operation.get("requestBody", {}))]
        places += list(operation["responses"].items())
        for which, place in places:
            for media in place.get("content", {}).values():
                root = {**_plain(media.get("schema", {})), "components": components}
                validator = Draft202012Validator(root)
                for title, example in media.get("examples", {}).items():
                    wrong += [
                        f"{name} {which} {title}: {error.json_path} {error.message}"
                        for error in validator.iter_errors(example["value"])
                    ]
    assert wrong == []


def _plain(node: Any) -> Any:
    """Return the schema in JSON Schema's words: ``nullable`` is OpenAPI 3.0's own."""
    if isinstance(node, list):
        return [_plain(part) for part in node]
    if not isinstance(node, dict):
        return node
    plain = {key: _plain(value) for key, value in node.items() if key != "nullable"}
    return {"anyOf": [plain, {"type": "null"}]} if node.get("nullable") is True else plain
