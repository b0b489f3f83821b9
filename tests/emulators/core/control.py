"""``/__emulator__/...``: levers of a running emulator, for another process or a person with curl.

| call | what |
|---|---|
| `GET /__emulator__/` | the broker's logins and keys, the time, the state of the market |
| `POST show` | `{key, last, bids?, asks?, volume?}`: a new book; levels are [price, quantity] |
| `POST faults`, `GET`, `DELETE` | `{kind, pattern, times, after, ...options}` as in `faults.py` |
| `GET record?pattern=&group=`, `DELETE` | every request, with monotonic times |
| `GET peak?seconds=1&pattern=&group=` | the most requests in any rolling window |
| `GET clock`, `POST` | `{advance}`, `{set}` (ISO 8601), `{stop: true}`, `{run: true}` |
| `GET accounts`, `POST` | `{user_id, cash?, holdings?: [{key, quantity, average, ...}]}` |
| `POST market` | `{do: open, close, end_day, new_day}` |
| `POST latency` | seconds by stage: `{received, validating, sending, modify, cancel}` |
| `POST settings` | `{reject_late, lost_cancels, lost_changes, allowed_ips, limits}` |
| `POST order` | `{user_id, id, do: fill, reject, quantity?, price?, message?}` |
| `POST do/{name}` | the broker's own, see its `control` |
| `POST reset` | accounts, sessions, faults, record, limits as at the start |
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from tests.emulators.core.accounts import Account, Holding
from tests.emulators.core.exchange import Latency
from tests.emulators.core.messages import Request, Response
from tests.emulators.core.orders import Reason, Refusal

if TYPE_CHECKING:
    from tests.emulators.core.server import EmulatorServer

PREFIX = "/__emulator__/"


def answer(server: EmulatorServer, request: Request) -> Response:
    name, _, rest = request.path.removeprefix(PREFIX).partition("/")
    action = _ACTIONS.get((request.method, name))
    if action is None:
        return Response.of({"error": f"no lever {request.method} {name}"}, 404)
    body = request.json if request.body else {}
    if not isinstance(body, dict):
        return Response.of({"error": "a JSON object is needed"}, 400)
    try:
        if name == "do":
            return Response.of({"result": server.dialect.control(rest, body)})
        return Response.of(action(server, request, body))
    except (KeyError, ValueError, TypeError, ArithmeticError, Refusal) as e:
        return Response.of({"error": f"{type(e).__name__}: {e}"}, 400)


def _describe(server: EmulatorServer, request: Request, body: dict[str, Any]) -> Any:
    exchange = server.exchange
    return {
        "broker": server.dialect.name,
        "now": exchange.clock.now().isoformat(),
        "market_open": exchange.market_open,
        "listed": len(exchange.instruments),
        **server.dialect.describe(),
    }


def _show(server: EmulatorServer, request: Request, body: dict[str, Any]) -> Any:
    more = {"volume": int(body["volume"])} if "volume" in body else {}
    book = server.exchange.show(
        body["key"], body["last"], body.get("bids"), body.get("asks"), **more
    )
    return {"sequence": book.sequence}


def _add_fault(server: EmulatorServer, request: Request, body: dict[str, Any]) -> Any:
    if "reason" in body:
        body["reason"] = Reason(body["reason"])
    server.faults.add(body.pop("kind"), body.pop("pattern", "*"), **body)
    return _faults(server, request, {})


def _faults(server: EmulatorServer, request: Request, body: dict[str, Any]) -> Any:
    return [
        {"kind": f.kind, "pattern": f.pattern, "times": f.times, "after": f.after, **f.options}
        for f in server.faults.pending()
    ]


def _clear_faults(server: EmulatorServer, request: Request, body: dict[str, Any]) -> Any:
    server.faults.clear()
    return []


def _record(server: EmulatorServer, request: Request, body: dict[str, Any]) -> Any:
    query = request.query
    records = server.recorder.find(query.get("pattern", "*"), query.get("group"))
    return [record.as_dict() for record in records]


def _clear_record(server: EmulatorServer, request: Request, body: dict[str, Any]) -> Any:
    server.recorder.clear()
    return []


def _peak(server: EmulatorServer, request: Request, body: dict[str, Any]) -> Any:
    query = request.query
    seconds, pattern = float(query.get("seconds", 1)), query.get("pattern", "*")
    return {
        "peak": server.recorder.peak(seconds, pattern, query.get("group")),
        "count": server.recorder.count(pattern, query.get("group")),
    }


def _clock(server: EmulatorServer, request: Request, body: dict[str, Any]) -> Any:
    exchange = server.exchange
    if "set" in body:
        exchange.clock.set(datetime.fromisoformat(body["set"]))
    if body.get("stop"):
        exchange.clock.stop()
    if body.get("run"):
        exchange.clock.run()
    exchange.pass_time(float(body.get("advance", 0)))
    return {"now": exchange.clock.now().isoformat()}


def _set_account(server: EmulatorServer, request: Request, body: dict[str, Any]) -> Any:
    exchange, account = server.exchange, server.dialect.account(body["user_id"])
    with exchange.lock:
        if "cash" in body:
            account.cash = account.opening_cash = Decimal(str(body["cash"]))
        for row in body.get("holdings", ()):
            instrument = exchange.find(row["key"])
            account.holdings[instrument.key] = Holding(
                instrument,
                int(row["quantity"]),
                Decimal(str(row["average"])),
                t1=int(row.get("t1", 0)),
                authorised=bool(row.get("authorised", True)),
            )
    return _account(account)


def _accounts(server: EmulatorServer, request: Request, body: dict[str, Any]) -> Any:
    with server.exchange.lock:
        return [_account(account) for account in server.dialect.accounts.values()]


def _account(account: Account) -> dict[str, Any]:
    return {
        "user_id": account.user_id,
        "cash": str(account.cash),
        "available": str(account.available),
        "used": str(account.used),
        "orders": [
            {
                "id": order.id,
                "key": order.instrument.key,
                "side": order.side,
                "tag": order.ticket.tag,
                "stage": order.stage,
                "quantity": order.quantity,
                "filled": order.filled,
                "average": str(order.average),
                "message": order.message,
            }
            for order in account.orders.values()
        ],
        "positions": [
            {"key": key, "product": product, "quantity": position.quantity}
            for (key, product), position in account.positions.items()
        ],
        "holdings": [
            {"key": key, "quantity": holding.quantity, "t1": holding.t1}
            for key, holding in account.holdings.items()
        ],
    }


def _market(server: EmulatorServer, request: Request, body: dict[str, Any]) -> Any:
    exchange = server.exchange
    if body["do"] == "new_day":
        exchange.new_day(server.dialect.accounts.values())
    else:
        {
            "open": exchange.open_market,
            "close": exchange.close_market,
            "end_day": exchange.end_day,
        }[body["do"]]()
    return {"market_open": exchange.market_open}


def _latency(server: EmulatorServer, request: Request, body: dict[str, Any]) -> Any:
    server.exchange.latency = Latency(**{name: float(value) for name, value in body.items()})
    return body


def _settings(server: EmulatorServer, request: Request, body: dict[str, Any]) -> Any:
    exchange, dialect = server.exchange, server.dialect
    if "reject_late" in body:
        exchange.reject_late = {Reason(reason) for reason in body["reject_late"]}
    if "lost_cancels" in body:
        exchange.lost_cancels = int(body["lost_cancels"])
    if "lost_changes" in body:
        exchange.lost_changes = int(body["lost_changes"])
    if "allowed_ips" in body:
        ips = body["allowed_ips"]
        dialect.allowed_ips = None if ips is None else set(ips)
    if "limits" in body:
        dialect.limiter.on = bool(body["limits"])
    return body


def _order(server: EmulatorServer, request: Request, body: dict[str, Any]) -> Any:
    exchange, account = server.exchange, server.dialect.accounts[body["user_id"]]
    if body["do"] == "fill":
        exchange.fill(account, body["id"], int(body["quantity"]), body["price"])
    elif body["do"] == "reject":
        exchange.reject(account, body["id"], body.get("message", ""))
    else:
        raise ValueError(f"orders are filled or rejected, not {body['do']}")
    return _account(account)


def _reset(server: EmulatorServer, request: Request, body: dict[str, Any]) -> Any:
    server.faults.clear()
    server.recorder.clear()
    server.dialect.limiter.clear()
    server.dialect.reset()
    return {}


def _own(server: EmulatorServer, request: Request, body: dict[str, Any]) -> Any:
    raise KeyError("do/{name}")


_ACTIONS = {
    ("GET", ""): _describe,
    ("POST", "show"): _show,
    ("POST", "faults"): _add_fault,
    ("GET", "faults"): _faults,
    ("DELETE", "faults"): _clear_faults,
    ("GET", "record"): _record,
    ("DELETE", "record"): _clear_record,
    ("GET", "peak"): _peak,
    ("GET", "clock"): _clock,
    ("POST", "clock"): _clock,
    ("GET", "accounts"): _accounts,
    ("POST", "accounts"): _set_account,
    ("POST", "market"): _market,
    ("POST", "latency"): _latency,
    ("POST", "settings"): _settings,
    ("POST", "order"): _order,
    ("POST", "do"): _own,
    ("POST", "reset"): _reset,
}
