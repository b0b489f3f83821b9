"""Steps at emulated brokers: each connected by its own flow, then asked what it saw of us."""

import html
import re
from collections import Counter
from collections.abc import Mapping
from decimal import Decimal
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpx

from config.demo import figures, market, orders, sign_in
from config.demo.client import Api
from config.demo.report import Failed, expect, expect_equal
from config.demo.run import Person, Run, Step

LABELS = {"zerodha": "Zerodha", "upstox": "Upstox", "groww": "Groww"}
LISTED_SECONDS = 60.0
CASH = 1_000_000  # rupees at the broker; its book is worth more than it gives by itself

Login = Mapping[str, str]


def trading_days(logins: Mapping[str, Login]) -> tuple[tuple[str, Step], ...]:
    """Return the steps for all brokers, one user after the other."""
    steps: list[tuple[str, Step]] = [("Health", sign_in.health)]
    for name, login in logins.items():
        steps += [(f"{LABELS[name]}: {title}", step) for title, step in _day(name, login)]
    steps.append(("Audit chain", figures.audit_chain))
    return tuple(steps)


def _day(name: str, login: Login) -> tuple[tuple[str, Step], ...]:
    at = Broker(name, login)
    return (
        ("sign up", at.sign_up),
        ("enter the credentials", at.connect),
        ("open a session", at.log_in),
        ("profile and funds", at.profile),
        ("instruments", at.instruments),
        ("its quote", market.quote),
        ("its candles", at.candles),
        ("live updates", at.stream),
        ("preview", at.preview),
        ("MARKET buy", orders.market_buy),
        ("LIMIT buy below the market", orders.limit_buy),
        ("the same request again", orders.replay),
        ("stop-loss sell", orders.stop_loss),
        ("modify the LIMIT order", orders.modify),
        ("cancel both", orders.cancel),
        ("order larger than the book", at.partial_fill),
        ("order beyond the funds", at.rejected),
        ("sell a part", orders.sell_part),
        ("exit the intraday position", orders.exit_position),
        ("fills add up to the orders", figures.fills),
        ("positions, to the paisa", figures.positions),
        ("profit and loss, to the paisa", figures.profit),
        ("the broker counts the same", at.agreed),
        ("every order was sent once", at.sent_once),
        ("another user sees nothing", sign_in.stranger),
        ("audit log", figures.audit_log),
    )


class Broker:
    """The steps that differ from broker to broker."""

    def __init__(self, name: str, login: Login) -> None:
        self.name, self.login = name, login

    def sign_up(self, run: Run) -> str:
        """Begin anew: a user of their own for each broker."""
        url = run.api.url
        run.close()
        run.api, run.person, run.live = Api(url), Person(), None
        run.broker, run.connection_id, run.orders = self.name, "", {}
        return sign_in.sign_up(run)

    def connect(self, run: Run) -> str:
        brokers = {row["name"]: row for row in run.api.get("/brokers")["results"]}
        expect(self.name in brokers, f"{self.name} among the brokers", sorted(brokers))
        asked = [field["name"] for field in brokers[self.name]["credential_fields"]]
        given = {field: self.login[field] for field in asked if field in self.login}
        if self.name == "groww":  # by time-based codes: no daily approval
            given = {key: value for key, value in given.items() if key.startswith("totp")}
        body = {"broker": self.name, "credentials": given}
        made = run.api.post("/connections", body, status=201)
        run.connection_id = made["id"]
        shown = str(run.api.get(f"/connections/{run.connection_id}"))
        leaked = [field for field, value in given.items() if value in shown and len(value) > 8]
        expect_equal("secrets that are shown again", [], leaked)
        return f"{', '.join(given)}; shown masked from now on"

    def log_in(self, run: Run) -> str:
        path = f"/connections/{run.connection_id}"
        if self.name == "groww":
            run.api.post(f"{path}/session", {}, status=(200, 201))
            how = "with a time-based code, nobody needed"
        else:
            how = _at_the_login_page(run.api, run.api.get(f"{path}/login-url")["url"])
        session = run.api.get(path)["session"]
        expect_equal("state of the session", "ACTIVE", session["state"])
        expect(bool(session["expires_at"]), "the time at which the session ends", session)
        return f"{how}; ends {session['expires_at']}"

    def profile(self, run: Run) -> str:
        found = run.api.get(f"/connections/{run.connection_id}/profile")
        expect(bool(found["broker_user_id"]), "the client code at the broker", found)
        with httpx.Client(trust_env=False, timeout=10) as client:
            account = {"user_id": found["broker_user_id"], "cash": CASH}
            client.post(f"{self.login['url']}/__emulator__/accounts", json=account)
        run.starting_funds = run.funds()
        expect(run.starting_funds > 0, "money to trade with", run.starting_funds)
        return f"{found['broker_user_id']}, ₹{run.starting_funds:,.2f} available"

    def instruments(self, run: Run) -> str:
        """The broker's list is read after the first session; orders wait for it."""
        run.instrument = run.find(run.symbol)
        body = {"symbol": run.symbol, "side": "BUY", "quantity": 1, "order_type": "MARKET"}
        denied = run.eventually(
            "an instrument list of the broker",
            lambda: run.api.post("/orders/preview", body)["denied"],
            lambda found: found is None,
            LISTED_SECONDS,
        )
        expect_equal("why an order would be denied", None, denied)
        return f"{run.symbol} is known at {LABELS[self.name]}"

    def candles(self, run: Run) -> str:
        day = run.api.get("/health", root="")["time"][:10]
        body = {
            "exchange": run.instrument["exchange"],
            "exchange_token": run.instrument["exchange_token"],
            "instrument_type": run.instrument["kind"],
            "interval": "5m",
            "from_date": f"{day[:8]}01",
            "to_date": day,
        }
        rows = run.api.post("/historical-data", body)
        rows = rows["data"] if isinstance(rows, dict) else rows
        expect(len(rows) > 1, "candles", rows)
        times = [row["datetime"] for row in rows]
        expect(times == sorted(set(times)), "candles in order, each once", times[:5])
        return f"{len(rows)} of five minutes, the first at {times[0]}"

    def stream(self, run: Run) -> str:
        return market.follow(run)

    def preview(self, run: Run) -> str:
        body = {"symbol": run.symbol, "side": "BUY", "quantity": 20, "order_type": "MARKET"}
        found = run.api.post("/orders/preview", body)
        expect(found["denied"] is None, "an order that would be taken", found)
        expect(Decimal(found["margin_required"]) > 0, "the broker's margin", found)
        return f"₹{found['margin_required']} needed, ₹{found['available_funds']} available"

    def partial_fill(self, run: Run) -> str:
        """What the sellers show is bought, the rest waits and is cancelled; its updates are pushed
        by the broker.
        """
        instrument = run.find(orders.PARTIAL)
        for _ in range(orders.PARTIAL_TRIES):
            price, shown = market.book_side(run.quote(instrument), "sell")[-1]
            body = {"symbol": orders.PARTIAL, "side": "BUY", "product": "MIS"}
            order = run.place(**body, quantity=shown * 8, order_type="LIMIT", price=f"{price:.2f}")
            part = run.socket.order(order["id"], "PARTIALLY_FILLED", "FILLED")
            run.api.call("DELETE", f"/orders/{order['id']}", status=(202, 409))
            ended = run.socket.order(order["id"], "CANCELLED", "FILLED")
            if part["status"] == "PARTIALLY_FILLED":  # else the market came down to us
                break
        filled, wanted = part["filled_quantity"], order["quantity"]
        expect(0 < filled < wanted, f"a part of {wanted} filled", filled)
        run.orders["partial"] = ended
        return f"{filled} of {wanted} INFY, then {ended['status']} at {ended['filled_quantity']}"

    def rejected(self, run: Run) -> str:
        price = Decimal(run.quote()["last_price"])
        quantity = int(run.starting_funds / price) + 20
        placed = run.place(side="BUY", quantity=quantity, order_type="MARKET")
        order = run.socket.order(placed["id"], "REJECTED")
        expect(bool(order["status_message"]), "the broker's reason", order)
        run.orders["rejected"] = order
        return str(order["status_message"])

    def agreed(self, run: Run) -> str:
        """What the broker says is held is what our fills add up to."""
        path = f"/connections/{run.connection_id}"
        theirs: Counter[str] = Counter()
        for row in run.api.all(f"{path}/positions") + run.api.all(f"{path}/holdings"):
            theirs[row["symbol"].partition(":")[2] or row["symbol"]] += row["quantity"]
        ours: Counter[str] = Counter()
        for row in run.api.get("/positions")["results"]:
            ours[row["symbol"].partition(":")[2]] += row["quantity"]
        held = {symbol: units for symbol, units in theirs.items() if units}
        expect_equal("units", {symbol: units for symbol, units in ours.items() if units}, held)
        return ", ".join(f"{units} {symbol}" for symbol, units in held.items())

    def sent_once(self, run: Run) -> str:
        """The broker's own record: one request for each order that reached it."""
        rows = run.api.all("/orders")
        tags = Counter(self._tags())
        expect(bool(tags), "orders in the broker's record", tags)
        expect_equal("most requests for one order", 1, max(tags.values()))
        expect_equal("orders at the broker", len(rows), len(tags))
        return f"{len(tags)} orders, {sum(tags.values())} requests"

    def _tags(self) -> list[str]:
        """Return the tags of all orders that were sent to the broker, from its record."""
        with httpx.Client(trust_env=False, timeout=10) as client:
            record = client.get(f"{self.login['url']}/__emulator__/record").json()
        return [tag for row in record if (tag := _tag(row))]


_PLACES = re.compile(r"POST /(orders/\w+|v3/order/place|v1/order/create)$")
_TAG = re.compile(r'(?:tag=|"tag": ?"|"order_reference_id": ?")([0-9A-Z]{20})')


def _tag(row: Mapping[str, Any]) -> str:
    if not _PLACES.match(f"{row['method']} {urlsplit(row['target']).path}"):
        return ""
    found = _TAG.search(row["body"])
    return found[1] if found else "?"


def _at_the_login_page(api: Api, url: str) -> str:
    """Log in as a person does: open the page, send its form, follow it back to the platform.

    Raises:
        Failed: there is no form, or it does not lead back.
    """
    with httpx.Client(trust_env=False, timeout=15, follow_redirects=False) as browser:
        page = browser.get(url)
        expect_equal("status of the login page", 200, page.status_code)
        action = re.search(r'<form[^>]*action="([^"]+)"', page.text)
        fields = dict(re.findall(r'<input[^>]*?name="([^"]+)"[^>]*?value="([^"]*)"', page.text))
        decision = re.search(r'<button name="([^"]+)" value="([^"]+)"', page.text)
        if action is None or decision is None:
            raise Failed("a form to log in with", page.text[:300])
        fields = {name: html.unescape(value) for name, value in fields.items()}
        fields[decision[1]] = decision[2]
        back = browser.post(urljoin(url, html.unescape(action[1])), data=fields)
        for _ in range(4):  # through the broker's redirects to ours
            if not back.is_redirect:
                break
            address = urljoin(str(back.url), back.headers["location"])
            if urlsplit(address).netloc == urlsplit(api.url).netloc:
                answer = browser.get(address, headers={"Accept": "application/json"})
                expect(answer.status_code < 400, "an answer of the callback", answer.text[:300])
                return f"at {urlsplit(url).netloc}, and back by redirect"
            back = browser.get(address)
    raise Failed("a redirect back to the platform", f"{back.status_code} {back.text[:300]}")
