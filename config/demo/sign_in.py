"""Steps: an account, its sessions, and who else may see nothing."""

import time
from pathlib import Path

from config.demo.client import Api, mailed_code
from config.demo.report import expect, expect_equal
from config.demo.run import Person, Run

HEALTH_SECONDS = 20.0


def health(run: Run) -> str:
    """Wait until every part is well: a worker that has just started is not known to work yet."""
    until = time.monotonic() + HEALTH_SECONDS
    while (facts := run.api.get("/health", root=""))["status"] != "ok":
        expect(time.monotonic() < until, "a platform whose parts are all well", facts)
        time.sleep(0.1)
    return ", ".join(f"{name} {state}" for name, state in facts["parts"].items())


def sign_up(run: Run) -> str:
    person = run.person
    body = {"email": person.email, "password": person.password, "name": "Demo Trader"}
    run.api.sign_in(run.api.post("/auth/signup", body, status=201))
    profile = run.api.get("/auth/me")
    expect_equal("e-mail address", person.email, profile["email"])
    return f"{person.email}, tokens of type bearer"


def sign_out(run: Run) -> str:
    api = run.api
    api.post("/auth/logout", {"refresh_token": api.refresh_token}, status=204)
    api.refused("GET", "/auth/me", 401)
    api.access_token = ""
    api.refused("POST", "/auth/refresh", 401, json={"refresh_token": api.refresh_token})
    return "both tokens of the session are dead"


def otp(run: Run) -> str:
    """Sign in with a mailed code where the mail can be read, else with the password."""
    api, person = run.api, run.person
    if run.mail_folder is None:
        form = {"username": person.email, "password": person.password}
        api.sign_in(api.call("POST", "/auth/signin", data=form))
        return "no --mail-folder to read a code from: signed in with the password"
    return _otp_by_mail(api, person, run.mail_folder)


def _otp_by_mail(api: Api, person: Person, folder: Path) -> str:
    api.post("/auth/request-otp", {"email": person.email}, status=202)
    code = mailed_code(folder, person.email)
    body = {"email": person.email, "otp": code}
    tokens = api.post("/auth/otp-login", body)
    api.refused("POST", "/auth/otp-login", 401, json=body)
    api.sign_in(tokens)
    return "code from the mail; a second use is refused"


def refresh(run: Run) -> str:
    api, old = run.api, (run.api.access_token, run.api.refresh_token)
    api.sign_in(api.post("/auth/refresh", {"refresh_token": api.refresh_token}))
    expect(
        api.access_token != old[0] and api.refresh_token != old[1], "new tokens", "the same again"
    )
    api.get("/auth/me")
    return "a new pair, and it works"


def stranger(run: Run) -> str:
    """Another user finds no trace of the first one's orders, positions and connection."""
    api, person = Api(run.api.url), Person()
    try:
        body = {"email": person.email, "password": person.password}
        api.sign_in(api.post("/auth/signup", body, status=201))
        order = run.orders["market buy"]["id"]
        for method, path in (
            ("GET", f"/orders/{order}"),
            ("GET", f"/orders/{order}/events"),
            ("DELETE", f"/orders/{order}"),
            ("GET", f"/connections/{run.connection_id}"),
        ):
            api.refused(method, path, 404, "not_found")
        api.refused("PATCH", f"/orders/{order}", 404, "not_found", json={"quantity": 2})
        for path in ("/orders", "/positions", "/holdings", "/fills", "/trades", "/connections"):
            expect_equal(f"{path} of a new user", [], api.get(path)["results"])
    finally:
        api.close()
    return "404 for reading and changing; every list is empty"
