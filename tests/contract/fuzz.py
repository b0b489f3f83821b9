"""Schemathesis against a fresh platform and a trader with some history: ``make fuzz``.

It ends with 0 if no answer was a server error, undocumented, or of another shape than documented,
no operation could be used without its sign-in, and the platform logged no error.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings.embedded")

from config.demo import market, orders
from config.demo.client import Api, Live
from config.demo.platform import Platform
from config.demo.run import Run

CONFIGURATION = Path(__file__).with_name("schemathesis.toml")
SECONDS = 480.0


def main() -> int:
    with Platform({"ACCESS_TOKEN_MINUTES": "60", "SIMULATED_SESSION": "always"}) as platform:
        platform.start()
        run = Run(Api(platform.url), platform=platform)
        try:
            _trade(run)
            run.socket.close()
            code = _fuzz(platform, run.api.access_token, sys.argv[1:])
        finally:
            run.close()
        errors = [
            line
            for line in platform.log.read_text(errors="replace").splitlines()
            if " ERROR " in line or line.startswith(("Traceback", "    raise"))
        ]
        sys.stdout.writelines(f"{line}\n" for line in errors[:20])
        return code or bool(errors)


def _trade(run: Run) -> None:
    """Make a user with orders in several states, fills, a position and notifications."""
    body = {"email": run.person.email, "password": run.person.password}
    run.api.sign_in(run.api.post("/auth/signup", body, status=201))
    market.connect(run)
    market.search(run)
    run.live = Live(run.api.url, run.api.access_token)
    run.live.subscribe("orders")
    for step in (orders.market_buy, orders.limit_buy, orders.stop_loss, orders.rejected):
        step(run)
    run.api.post("/watchlists", {"name": "Fuzz", "symbols": [run.symbol]}, status=201)


def _fuzz(platform: Platform, token: str, more: list[str]) -> int:
    program = Path(sys.executable).parent / "schemathesis"
    command = [str(program), "--config-file", str(CONFIGURATION), "run", "--no-color"]
    command += ["--header", f"Authorization: Bearer {token}", f"{platform.url}/openapi.json"]
    started = time.monotonic()
    try:
        # Its cache goes with the platform's folder.
        code = subprocess.run(
            [*command, *more], cwd=platform.folder, timeout=SECONDS, check=False
        ).returncode
    except subprocess.TimeoutExpired:
        sys.stdout.write(f"fuzz: not over after {SECONDS:.0f} s\n")
        return 1
    sys.stdout.write(f"fuzz: {time.monotonic() - started:.0f} s, exit code {code}\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
