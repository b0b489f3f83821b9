"""`.env.example` is complete: every variable that is read stands in it, and nothing else does."""

import ast
import re
from pathlib import Path

from django.conf import settings

READERS = {
    "text", "integer", "number", "flag", "items", "choice",
    "secret", "secrets", "fernet_keys", "database", "redis", "endpoints",
}  # fmt: skip
CALLS = {f"env.{reader}" for reader in READERS} | {"database", "os.getenv", "self.environ.get"}
# Set by the tests and their tools themselves.
INTERNAL = {
    "DJANGO_SETTINGS_MODULE", "SAUDA_TEST_DIR", "PYTEST_XDIST_WORKER", "PATH", "TMPDIR",
}  # fmt: skip


def read_by(tree):
    for node in ast.walk(tree):
        name = None
        if isinstance(node, ast.Call) and node.args:
            called = ast.unparse(node.func)
            if called in CALLS or called.startswith("os.environ."):
                name = node.args[0]
        elif isinstance(node, ast.Subscript) and ast.unparse(node.value) == "os.environ":
            name = node.slice
        if isinstance(name, ast.Constant) and isinstance(name.value, str):
            yield name.value


def test_example_lists_what_is_read():
    read = set()
    for app in ("config", "audit", "accounts", "brokerages", "marketdata", "trading"):
        for file in Path(settings.BASE_DIR, app).rglob("*.py"):
            read |= set(read_by(ast.parse(file.read_text())))
    compose = Path(settings.BASE_DIR, "docker-compose.yml").read_text()
    read |= set(re.findall(r"(?<!\$)\$\{([A-Z_]+)", compose))
    example = Path(settings.BASE_DIR, ".env.example").read_text()
    listed = re.findall(r"^#?([A-Z][A-Z0-9_]*)=", example, re.MULTILINE)

    assert len(listed) == len(set(listed))
    assert set(listed) == read - INTERNAL
