"""Steps: every figure that the platform shows, against the demo's own sums."""

from fractions import Fraction

from config.demo.arithmetic import Holding, expect_rupees, holdings, shown, signed
from config.demo.report import expect, expect_equal
from config.demo.run import Run


def _own(run: Run) -> dict[tuple[str, str], Holding]:
    return holdings(reversed(run.api.all("/fills")))


def fills(run: Run) -> str:
    """The fills of each order add up to what the order says."""
    rows = run.api.all("/fills")
    traded = [order for order in run.api.all("/orders") if order["filled_quantity"]]
    for order in traded:
        own = [fill for fill in rows if fill["order_id"] == order["id"]]
        quantity = sum(fill["quantity"] for fill in own)
        value = sum((fill["quantity"] * Fraction(fill["price"]) for fill in own), Fraction())
        expect_equal(f"units filled of {order['id']}", order["filled_quantity"], quantity)
        expect_rupees("average price", value / quantity, order["average_price"])
    expect_equal("orders with fills", len(traded), len({fill["order_id"] for fill in rows}))
    return f"{len(rows)} fills of {len(traded)} orders add up"


def positions(run: Run) -> str:
    own, rows = _own(run), run.api.get("/positions")["results"]
    expect_equal("positions", sorted(own), sorted((row["symbol"], row["product"]) for row in rows))
    for row in rows:
        holding, name = own[row["symbol"], row["product"]], row["symbol"]
        expect_equal(f"units of {name}", holding.quantity, row["quantity"])
        expect_rupees(f"cost of {name}", holding.cost, row["open_cost"])
        expect_rupees(f"realised on {name}", holding.realised, row["realised_pnl"])
        if holding.quantity:
            expect_rupees(
                f"unrealised on {name}", holding.worth(row["last_price"]), row["unrealised_pnl"]
            )
    return ", ".join(f"{row['quantity']} {row['symbol'].partition(':')[2]}" for row in rows)


def owned(run: Run) -> str:
    """Delivery shares are holdings; the intraday ones that were left are not."""
    own, rows = _own(run), run.api.get("/holdings")["results"]
    kept = {s: h for (s, product), h in own.items() if product == "CNC" and h.quantity}
    expect_equal("holdings", sorted(kept), sorted(row["symbol"] for row in rows))
    for row in rows:
        holding = kept[row["symbol"]]
        expect_equal(f"units of {row['symbol']}", holding.quantity, row["quantity"])
        expect_rupees(f"invested in {row['symbol']}", holding.cost, row["invested"])
        expect_rupees(f"gain on {row['symbol']}", holding.worth(row["last_price"]), row["pnl"])
    return ", ".join(f"{row['quantity']} {row['symbol'].partition(':')[2]}" for row in rows)


def trades(run: Run) -> str:
    """Round trips: the shares still open, the intraday one closed."""
    own, rows = _own(run), run.api.all("/trades")
    expect_equal("round trips", len(own), len(rows))
    ended = [row for row in rows if row["status"] == "closed"]
    expect_equal("closed round trips", 1, len(ended))
    for (symbol, _), holding in own.items():
        match = [row for row in rows if symbol.endswith(f":{row['stock_ticker']}")]
        expect_rupees(f"gross P&L of {symbol}", holding.realised, match[0]["gross_pnl"])
    return ", ".join(
        f"{row['stock_ticker']} {row['status']} {shown(row['gross_pnl'])}" for row in rows
    )


def funds(run: Run) -> str:
    """The cash of the start, less what shares cost, and what was realised; nothing is blocked."""
    found = run.api.get(f"/connections/{run.connection_id}/funds")
    own = _own(run).values()
    realised = sum((holding.realised for holding in own), Fraction())
    cost = sum((holding.cost for holding in own), Fraction())
    start = Fraction(run.starting_funds)
    expect_rupees("used", Fraction(), found["used"])
    expect_rupees("available", start + realised - cost, found["available"])
    expect_rupees("total", start + realised - cost, found["total"])
    return (
        f"{shown(found['available'])} = {shown(start)} - {shown(cost)} {signed(realised)} realised"
    )


def profit(run: Run) -> str:
    own, found = _own(run), run.api.get("/pnl")
    realised = sum((holding.realised for holding in own.values()), Fraction())
    expect_rupees("realised P&L", realised, found["realised_pnl"])
    total = Fraction(found["realised_pnl"]) + Fraction(found["unrealised_pnl"])
    expect_rupees("realised and unrealised together", total, found["pnl"])
    invested = sum((holding.cost for holding in own.values()), Fraction())
    expect_rupees("invested", invested, found["invested"])
    unrealised = Fraction(found["value"]) - invested
    expect_rupees("unrealised P&L", unrealised, found["unrealised_pnl"])
    return f"realised {shown(realised)}, unrealised {shown(unrealised)}"


def overview(run: Run) -> str:
    found = run.api.get("/dashboard/dashboard")
    own = _own(run)
    expect_equal("errors of brokers", [], found["errors"])
    expect_rupees(
        "realised P&L",
        sum((holding.realised for holding in own.values()), Fraction()),
        found["realised_pnl"],
    )
    expect_equal("positions", len(own), len(found["positions"]))
    states = [connection["session"]["state"] for connection in found["connections"]]
    expect_equal("sessions", ["ACTIVE"], states)
    return f"{shown(found['funds']['total'])} in funds, {len(found['recent_orders'])} recent orders"


def notifications(run: Run) -> str:
    rows = run.api.all("/notifications")
    kinds = {(row["kind"], row["data"].get("order_id")) for row in rows}
    for kind, name in (("order_filled", "market buy"), ("order_rejected", "rejected")):
        expect((kind, run.orders[name]["id"]) in kinds, f"{kind} for the {name}", sorted(kinds))
    run.api.post("/notifications/read", {})
    unread = [row for row in run.api.all("/notifications") if row["read_at"] is None]
    expect_equal("unread ones after reading all", [], unread)
    return f"{len(rows)}: " + ", ".join(sorted({row["kind"] for row in rows}))


def audit_log(run: Run) -> str:
    """The log names every request that changed something."""
    rows = run.api.all("/audit")
    placed = {row["object_id"] for row in rows if row["action"] == "order.placed"}
    orders = {order["id"] for order in run.api.all("/orders")}
    expect(orders == placed, "an entry for every order", sorted(orders ^ placed))
    actions = {row["action"] for row in rows}
    expect("order.cancel_requested" in actions, "the cancels", sorted(actions))
    return f"{len(rows)} entries, {len(actions)} kinds"


def audit_chain(run: Run) -> str:
    """The seals of the chain fit, for the whole log where its folder is ours."""
    if run.platform is None:
        return _inclusion(run)
    result = run.platform.manage("verify_audit")
    lines = result.stdout.strip().splitlines()
    expect(
        result.returncode == 0 and lines[-1:] == ["ok"],
        "an unbroken chain",
        (result.stdout + result.stderr)[-600:],
    )
    return lines[0].partition(" in ")[0] + ", unbroken"


def _inclusion(run: Run) -> str:
    rows = run.api.all("/audit")
    sealed = 0
    for row in rows[-20:]:  # the oldest, which had time to be sealed
        proof = run.api.get(f"/audit/{row['id']}")["proof"]
        if proof["sealed"]:
            expect(proof["recomputed_ok"] is True, "a seal that fits", proof)
            sealed += 1
    expect(sealed > 0, "sealed entries", f"none of {len(rows)}")
    return f"{sealed} entries are sealed and fit"
