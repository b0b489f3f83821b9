/**
 * Live updates over one WebSocket, and over polling while the socket is away.
 *
 * Events: `quote`, `order`, `position`, `notification` with the server's message; `state` with
 * "live", "polling" or "offline"; `beat` when whatever is shown should be read again.
 */

import { get, toSignIn } from "sauda/api";

const FIRST_RETRY = 400;
const LAST_RETRY = 10000;
const POLL_EVERY = 2000;
const BEAT_EVERY = 4000;
const PING_AFTER = 15000;
const DEAD_AFTER = 25000;
const SEEN_AT_MOST = 2000;

const listeners = new Map();
const seen = new Set();
let lastOrder = null; // number of the newest order event that was seen
let symbols = new Set();
let socket = null;
let state = "connecting";
let attempts = 0;
let retryTimer = 0;
let pollTimer = 0;
let lastBeat = 0;
let lastHeard = 0;

export function on(type, listener) {
  if (!listeners.has(type)) listeners.set(type, new Set());
  listeners.get(type).add(listener);
}

function emit(type, payload) {
  for (const listener of listeners.get(type) ?? []) {
    try {
      listener(payload);
    } catch (error) {
      console.error(error);
    }
  }
}

export const currentState = () => state;

/** Choose the instruments to watch; the socket is told only what changes. */
export function watch(wanted) {
  const next = new Set(wanted);
  const added = [...next].filter((symbol) => !symbols.has(symbol));
  const gone = [...symbols].filter((symbol) => !next.has(symbol));
  symbols = next;
  if (added.length) send({ type: "subscribe", channel: "quotes", symbols: added, batch: true });
  if (gone.length) send({ type: "unsubscribe", channel: "quotes", symbols: gone });
  if (added.length && state === "polling") poll();
}

function send(message) {
  if (socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify(message));
}

export function connect() {
  clearTimeout(retryTimer);
  const scheme = location.protocol === "https:" ? "wss" : "ws";
  const opened = new WebSocket(`${scheme}://${location.host}/ws`);
  socket = opened;
  opened.addEventListener("open", () => {
    lastHeard = Date.now();
  });
  const ready = () => {
    attempts = 0;
    send({ type: "subscribe", channel: "orders", ...(lastOrder === null ? {} : { since: lastOrder }) });
    send({ type: "subscribe", channel: "positions" });
    send({ type: "subscribe", channel: "notifications" });
    if (symbols.size) send({ type: "subscribe", channel: "quotes", symbols: [...symbols], batch: true });
    setState("live");
  };
  opened.addEventListener("message", ({ data }) => {
    lastHeard = Date.now();
    let message;
    try {
      message = JSON.parse(data);
    } catch {
      return;
    }
    switch (message.type) {
      case "ready":
        ready();
        break;
      case "quotes":
        for (const quote of message.quotes) emit("quote", quote);
        break;
      case "resync": // more was missed than is sent again: the page reads its state anew
        if (message.sequence !== undefined) lastOrder = message.sequence;
        emit("beat");
        break;
      case "order":
        if (!isNew(message.sequence)) return;
        emit("order", message);
        break;
      case "subscribed":
        if (message.channel !== "orders") break;
        if (message.sequence !== undefined) lastOrder ??= message.sequence;
        emit("beat"); // what happened between the page and now, or while we were away, is read once
        break;
      default:
        emit(message.type, message);
    }
  });
  opened.addEventListener("close", ({ code }) => {
    if (code === 4401) checkSession();
    drop(opened);
  });
}

/** Whether an order event was not seen yet: numbers may come late, and again after a reconnect. */
function isNew(sequence) {
  if (seen.has(sequence)) return false;
  seen.add(sequence);
  if (seen.size > SEEN_AT_MOST) seen.delete(seen.values().next().value);
  lastOrder = Math.max(lastOrder ?? 0, sequence);
  return true;
}

/** Go on without this socket, and try another one later. */
function drop(closed) {
  if (socket !== closed) return;
  socket = null;
  closed.close();
  setState(navigator.onLine === false ? "offline" : "polling");
  const wait = Math.min(LAST_RETRY, FIRST_RETRY * 2 ** attempts++) * (0.7 + Math.random() * 0.6);
  retryTimer = setTimeout(connect, wait);
}

/** The socket may refuse us for a moment; only a refused request proves that the session has ended. */
async function checkSession() {
  try {
    await get("/notifications?limit=1");
  } catch (error) {
    if (error.status === 401) toSignIn();
  }
}

function setState(next) {
  if (state === next) return;
  state = next;
  clearTimeout(pollTimer);
  if (state !== "live") pollTimer = setTimeout(poll, POLL_EVERY);
  emit("state", state);
}

async function poll() {
  clearTimeout(pollTimer);
  if (state === "live") return;
  if (document.visibilityState === "visible") {
    await pollQuotes();
    if (Date.now() - lastBeat >= BEAT_EVERY) {
      lastBeat = Date.now();
      emit("beat");
    }
  }
  clearTimeout(pollTimer);
  if (state !== "live") pollTimer = setTimeout(poll, POLL_EVERY);
}

async function pollQuotes() {
  if (!symbols.size) return;
  try {
    const answer = await get(`/quotes?symbols=${encodeURIComponent([...symbols].join(","))}`);
    for (const quote of Object.values(answer.data)) {
      if (quote.error) continue;
      emit("quote", { ...quote, bid: quote.depth.buy[0]?.price ?? null, ask: quote.depth.sell[0]?.price ?? null });
    }
    if (state === "offline") setState("polling");
  } catch (error) {
    if (error.status === 0) setState("offline");
  }
}

export function start() {
  connect();
  addEventListener("online", () => {
    attempts = 0;
    if (!socket) connect();
  });
  addEventListener("offline", () => setState("offline"));
  document.addEventListener("visibilitychange", () => {
    if (document.visibilityState !== "visible") return;
    if (!socket) {
      attempts = 0;
      connect();
    }
  });
  setInterval(() => {
    if (socket?.readyState !== WebSocket.OPEN) return;
    const silent = Date.now() - lastHeard;
    if (silent > DEAD_AFTER) drop(socket); // dead without knowing it
    else if (silent > PING_AFTER) send({ type: "ping" });
  }, 5000);
}
