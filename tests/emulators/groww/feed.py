"""The feed: the NATS protocol in binary WebSocket frames, signed in with NKeys, protobuf inside."""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

import nacl.exceptions
import nacl.signing
from growwapi.groww.proto.position_socket_pb2 import PositionDetailProto
from growwapi.groww.proto.stock_orders_socket_response_pb2 import OrderDetailsBroadCastDto
from growwapi.groww.proto.stocks_socket_response_pb2 import StocksSocketResponseProtoDto

from tests.emulators.core.dialect import Call, route
from tests.emulators.core.exchange import OrderEvent
from tests.emulators.core.instruments import Instrument
from tests.emulators.core.market import Book
from tests.emulators.core.messages import Request, Response
from tests.emulators.core.sockets import Socket
from tests.emulators.groww.market import Market
from tests.emulators.groww.sessions import Session
from tests.emulators.groww.words import status_of, token, venue

TOKEN_PATH = "/v1/api/apex/v1/socket/token/create"
VIOLATION = "-ERR 'Authorization Violation'\r\n"
NEW_WORD = 99  # the number of a word that the enum of today does not have
ORDER_TYPES = {"MARKET": "MKT", "LIMIT": "L", "SL": "SL", "SL-M": "SL_M"}


@dataclass(slots=True)
class Pass:
    """A socket token: whose, and which key has to sign."""

    user_id: str
    public_key: str
    subscription_id: str
    session: Session


@dataclass(slots=True)
class Listener:
    socket: Socket
    nonce: str
    entry: Pass | None = None
    subjects: dict[str, str] = field(default_factory=dict)  # by sid

    def sids(self, subject: str) -> Iterator[str]:
        return (sid for sid, wanted in self.subjects.items() if wanted == subject)


class Feed(Market):
    passes: dict[str, Pass]
    listeners: list[Listener]

    @route("POST", TOKEN_PATH + "/", group="other")
    def socket_token(self, call: Call) -> Response:
        if self.levers.redirect_socket_token:
            return Response.redirect(TOKEN_PATH, 307)
        return self.plain_socket_token(call)

    @route("POST", TOKEN_PATH, group="other")
    def plain_socket_token(self, call: Call) -> Response:
        key = call.request.json["socketKey"]
        _verify_key(key)
        session = self.session(call.request)
        assert session is not None
        made, number = f"eyJ{secrets.token_urlsafe(24)}", secrets.token_hex(8)
        self.passes[made] = Pass(call.account.user_id, key, number, session)
        return Response.of({"token": made, "subscriptionId": number, "expiry": 86400})

    def accept_socket(self, request: Request) -> Response | None:
        return None if request.path == "/" else Response.of({"message": "not found"}, 404)

    async def serve_socket(self, socket: Socket) -> None:
        listener = Listener(socket, secrets.token_urlsafe(12))
        self.listeners.append(listener)
        info = {
            "server_id": "EMULATED", "version": "2.10.0", "proto": 1, "headers": True,
            "max_payload": 1048576, "auth_required": True, "nonce": listener.nonce,
        }  # fmt: skip
        socket.send(f"INFO {json.dumps(info)}\r\n".encode())
        watch = asyncio.ensure_future(self._watch(listener))
        try:
            await self._listen(listener)
        finally:
            watch.cancel()
            self.listeners.remove(listener)

    async def _listen(self, listener: Listener) -> None:
        pending = b""
        while (message := await listener.socket.receive()) is not None:
            if isinstance(message, str):
                continue  # text frames are no NATS
            pending += message
            while b"\r\n" in pending:
                line, _, pending = pending.partition(b"\r\n")
                if not self._hear(listener, line.decode()):
                    return

    async def _watch(self, listener: Listener) -> None:
        """End the connection when its session ends."""
        while True:
            await asyncio.sleep(0.05)
            entry = listener.entry
            if entry and (
                entry.session not in self.sessions.values()
                or entry.session.expires_at <= self.clock.now()
            ):
                listener.socket.send(VIOLATION.encode())
                listener.socket.close()
                return

    def _hear(self, listener: Listener, line: str) -> bool:
        """Answer a line; return whether the connection goes on."""
        word, _, rest = line.partition(" ")
        word = word.upper()
        if word == "CONNECT":
            listener.entry = self._admitted(listener.nonce, json.loads(rest))
        if listener.entry is None:
            listener.socket.send(VIOLATION.encode())
            return False
        if word == "PING":
            listener.socket.send(b"PONG\r\n")
        elif word == "SUB":
            subject, *_, sid = rest.split()
            if subject.partition("apex.")[2] not in ("", listener.entry.subscription_id):
                text = f"-ERR 'Permissions Violation for Subscription to \"{subject}\"'\r\n"
                listener.socket.send(text.encode())
            else:
                listener.subjects[sid] = subject
        elif word == "UNSUB":
            listener.subjects.pop(rest.split()[0], None)
        return True

    def _admitted(self, nonce: str, options: dict[str, Any]) -> Pass | None:
        entry = self.passes.get(options.get("jwt", ""))
        if entry is None or entry.session not in self.sessions.values():
            return None
        if entry.session.expires_at <= self.clock.now():
            return None
        try:
            signature = base64.b64decode(options.get("sig", ""))
            _verify_key(entry.public_key).verify(nonce.encode(), signature)
        except (nacl.exceptions.BadSignatureError, ValueError):
            return None
        return entry

    # --- Messages ---------------------------------------------------------------------------------

    def publish(self, subject: str, data: bytes, event: str, user_id: str | None = None) -> None:
        for listener in self.listeners:
            if listener.entry is None or user_id not in (None, listener.entry.user_id):
                continue
            for sid in listener.sids(subject):
                head = f"MSG {subject} {sid} {len(data)}\r\n".encode()
                listener.socket.send(head + data + b"\r\n", event)

    def listened_to(self, subject: str) -> bool:
        return any(subject in listener.subjects.values() for listener in self.listeners)

    def publish_tick(self, instrument: Instrument) -> None:
        if not self.listeners:
            return
        exchange, segment = venue(instrument)
        if segment not in ("CASH", "FNO"):
            return
        folder = "indices" if instrument.is_index else {"CASH": "eq", "FNO": "fo"}[segment]
        place = f"/ld/{folder}/{exchange.lower()}"
        head = {"symbol": token(instrument), "segment": segment, "exchange": exchange}
        for kind, fill in (("price", self._fill_price), ("book", self._fill_book)):
            subject = f"{place}/{kind}.{token(instrument)}"
            if self.listened_to(subject):
                message = StocksSocketResponseProtoDto(**head)
                fill(message, self.exchange.book(instrument))
                self.publish(subject, message.SerializeToString(), "EVENT tick")

    def _fill_price(self, message: Any, book: Book) -> None:
        millis = self.clock.now().timestamp() * 1000
        if book.instrument.is_index:
            message.stocksLiveIndices.tsInMillis = millis
            message.stocksLiveIndices.value = float(book.last)
            return
        price = message.stockLivePrice
        price.tsInMillis, price.ltp = millis, float(book.last)
        if self.levers.full_ticks:
            price.open, price.high, price.low = map(float, (book.open, book.high, book.low))
            price.close, price.volume = float(book.close), book.volume
            price.openInterest = book.open_interest

    def _fill_book(self, message: Any, book: Book) -> None:
        message.stocksMarketDepth.tsInMillis = self.clock.now().timestamp() * 1000
        for side, levels in (("buyBook", book.bids), ("sellBook", book.asks)):
            for number, level in enumerate(levels, 1):
                row = getattr(message.stocksMarketDepth, side)[number]
                row.price, row.qty = float(level.price), level.quantity

    def publish_order(self, event: OrderEvent) -> None:
        order = event.order
        folder = "stocks_fo" if order.instrument.is_derivative else "stocks"
        data = order_update(event, self.clock.now())
        self._private(f"{folder}/order/updates.apex.", data, event.account.user_id)
        if event.fill and order.instrument.is_derivative:
            data = position_update(event)
            self._private("stocks_fo/position/updates.apex.", data, event.account.user_id)

    def _private(self, prefix: str, data: bytes, user_id: str) -> None:
        for entry in {id(e): e for one in self.listeners if (e := one.entry)}.values():
            if entry.user_id == user_id:
                self.publish(prefix + entry.subscription_id, data, "EVENT socket", user_id)


def order_update(event: OrderEvent, now: datetime) -> bytes:
    order, row = event.order, event.row
    exchange, segment = venue(order.instrument)
    message = OrderDetailsBroadCastDto()
    update = message.orderDetailUpdateDto
    status = status_of(order, row, now).replace("OPEN", "APPROVED")  # the feed has one word for it
    stage = message.stageAndTimeStamp.add()
    stage.stageName = status
    update.qty, update.filledQty, update.remainingQty = row.quantity, row.filled, row.remaining
    update.price, update.triggerPrice = _paise(row.price), _paise(row.trigger)
    update.avgFillPrice = _paise(row.average)
    update.growwOrderId, update.exchangeOrderId = order.id, row.exchange_id
    update.remark = row.message
    update.contractId = order.instrument.isin or order.instrument.symbol
    for name, word in (
        ("orderStatus", status),
        ("duration", row.validity),
        ("exchange", exchange),
        ("segment", segment),
        ("product", order.product),
        ("orderType", ORDER_TYPES[row.type]),
        ("buySell", order.side[0]),
    ):
        words = update.DESCRIPTOR.fields_by_name[name].enum_type.values_by_name
        known = words.get(word)
        setattr(update, name, known.number if known else NEW_WORD)
    return message.SerializeToString()


def position_update(event: OrderEvent) -> bytes:
    order = event.order
    position = order.account.position(order.instrument, order.product)
    message = PositionDetailProto()
    message.symbolData.contractId = order.instrument.symbol
    message.positionInfo.symbolIsin = order.instrument.symbol
    side = getattr(message.positionInfo, venue(order.instrument)[0])
    side.creditQty, side.debitQty = position.buy_quantity, position.sell_quantity
    if position.buy_quantity:
        side.creditPrice = float(position.buy_value / position.buy_quantity * 100)
    if position.sell_quantity:
        side.debitPrice = float(position.sell_value / position.sell_quantity * 100)
    return message.SerializeToString()


def _paise(value: Decimal | None) -> int:
    return round((value or Decimal(0)) * 100)


def _verify_key(public_key: str) -> nacl.signing.VerifyKey:
    """Read an NKey: base32 of a prefix byte, the 32 bytes of the key, and a checksum.

    Raises:
        ValueError: no key of a user.
    """
    raw = base64.b32decode(public_key + "=" * (-len(public_key) % 8))
    if not public_key.startswith("U") or len(raw) != 35:
        raise ValueError("not a user key")
    return nacl.signing.VerifyKey(raw[1:33])
