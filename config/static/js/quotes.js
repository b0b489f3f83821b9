/** Writes prices where the page shows them: every element with `data-quote` follows its instrument. */

import { $, $$, setText, setTone } from "sauda/dom";
import * as feed from "sauda/feed";
import { arrow, inr, move, number, percent, signed, signedMoney, tone } from "sauda/format";

const latest = new Map();
let bound = new Map();
const extra = new Map();
let frame = 0;
const waiting = new Map();

export const quoteOf = (symbol) => latest.get(symbol);

/** Follow an instrument that no element of the page shows, e.g. the one in the ticket. */
export function follow(symbol, listener) {
  if (!extra.has(symbol)) extra.set(symbol, new Set());
  extra.get(symbol).add(listener);
  watchAll();
  if (latest.has(symbol)) listener(latest.get(symbol));
  return () => {
    extra.get(symbol)?.delete(listener);
    if (!extra.get(symbol)?.size) extra.delete(symbol);
    watchAll();
  };
}

/** Find what the page shows now. Called after every change of the page. */
export function scan() {
  bound = new Map();
  for (const element of $$("[data-quote]")) {
    const symbol = element.dataset.quote;
    if (!symbol) continue;
    if (!bound.has(symbol)) bound.set(symbol, []);
    bound.get(symbol).push({ element, parts: partsOf(element) });
  }
  for (const [symbol, quote] of latest) apply(symbol, quote, null);
  sums();
  watchAll();
}

function partsOf(element) {
  const parts = $$("[data-q]", element);
  if (element.dataset.q) parts.push(element);
  return parts.map((part) => [part, part.dataset.q]);
}

const watchAll = () => feed.watch([...bound.keys(), ...extra.keys()]);

feed.on("quote", (quote) => {
  waiting.set(quote.symbol, quote);
  frame ||= requestAnimationFrame(flush);
  if (document.visibilityState !== "visible") setTimeout(flush, 1000);
});

/** All prices of one frame in one go: many ticks, one layout. */
function flush() {
  cancelAnimationFrame(frame);
  frame = 0;
  for (const [symbol, quote] of waiting) {
    const before = latest.get(symbol);
    latest.set(symbol, quote);
    apply(symbol, quote, before);
    for (const listener of extra.get(symbol) ?? []) listener(quote);
  }
  const any = [...latest.values()].some((quote) => quote.simulated);
  for (const badge of $$("[data-sim-badge]")) badge.hidden = !any;
  waiting.clear();
  sums();
}

function apply(symbol, quote, before) {
  for (const { element, parts } of bound.get(symbol) ?? []) {
    for (const [part, role] of parts) write(part, role, quote, before, element);
  }
}

function write(part, role, quote, before, row) {
  switch (role) {
    case "last":
      setText(part, inr(quote.last_price));
      if (before && "flash" in part.dataset) flash(part, number(quote.last_price) - number(before.last_price));
      break;
    case "pct":
    case "move":
      setText(part, move(quote.change_percent));
      setTone(part, tone(quote.change_percent));
      break;
    case "move-long":
      setText(part, `${arrow(quote.change)} ${signed(quote.change)} (${percent(quote.change_percent)})`.trim());
      setTone(part, tone(quote.change));
      break;
    case "pnl":
    case "pnl-pct":
    case "value":
      writePnl(part, role, quote, row);
      break;
    default:
  }
}

function writePnl(part, role, quote, row) {
  const held = Number(row.dataset.quantity);
  const cost = Number(row.dataset.cost);
  const price = number(quote.last_price);
  if (price === null) return;
  const open = held * price - cost;
  row.dataset.open = String(open);
  if (role === "value") {
    setText(part, inr(held * price));
    row.dataset.value = String(held * price);
    return;
  }
  const total = open + Number(row.dataset.realised || 0);
  if (role === "pnl") {
    setText(part, signed(total));
    setTone(part, tone(total));
  } else if (held && cost) {
    const share = (open / Math.abs(cost)) * 100;
    setText(part, percent(share));
    setTone(part, tone(share));
  }
}

function flash(element, difference) {
  if (!difference || document.visibilityState !== "visible") return;
  const colour = difference > 0 ? "--up" : "--down";
  element.animate(
    [{ backgroundColor: `color-mix(in srgb, var(${colour}) 24%, transparent)` }, { backgroundColor: "transparent" }],
    { duration: 650, easing: "ease-out" },
  );
}

/** The sums over the rows of the page. A delivery position bought today stands in two tables but counts once. */
function sums() {
  for (const group of $$("[data-pnl-group]")) {
    const rows = $$("[data-pnl]", group);
    if (!rows.length || rows.some((row) => pnlOf(row) === null)) continue;
    const total = rows.reduce((sum, row) => sum + pnlOf(row), 0);
    for (const element of $$("[data-pnl-total]", group)) {
      setText(element, signed(total));
      setTone(element, tone(total));
    }
    for (const element of $$("[data-pnl-total-pct]", group)) {
      setText(element, percent((total / Number(element.dataset.base)) * 100));
      setTone(element, tone(total));
    }
    const value = $("[data-value-total]", group);
    if (value) setText(value, `₹${inr(rows.reduce((sum, row) => sum + Number(row.dataset.value ?? NaN), 0))}`);
  }
  summary();
}

function pnlOf(row) {
  if (row.dataset.open === undefined) return null;
  return Number(row.dataset.open) + Number(row.dataset.realised || 0);
}

function summary() {
  const box = $("#summary");
  if (!box) return;
  const once = new Map();
  for (const row of $$("[data-pnl]")) if (row.dataset.id) once.set(row.dataset.id, row);
  const rows = [...once.values()].filter((row) => Number(row.dataset.quantity));
  if (!rows.length || rows.some((row) => row.dataset.open === undefined)) return;
  const open = rows.reduce((sum, row) => sum + Number(row.dataset.open), 0);
  const total = open + Number(box.dataset.realised || 0);
  put("pnl", signedMoney(total), total);
  put("unrealised", signed(open));
  const held = $$("#holding-rows [data-pnl]");
  if (held.length && held.every((row) => row.dataset.open !== undefined)) {
    const gain = held.reduce((sum, row) => sum + Number(row.dataset.open), 0);
    const value = held.reduce((sum, row) => sum + Number(row.dataset.cost), 0) + gain;
    put("holdings-pnl", `${arrow(gain)} ${signed(gain)}`.trim(), gain);
    put("holdings-value", `₹${inr(value)}`);
  }
  const positions = $$("#position-rows [data-pnl]");
  if (positions.length && positions.every((row) => row.dataset.open !== undefined)) {
    const gain = positions.reduce((sum, row) => sum + pnlOf(row), 0);
    put("positions-pnl", signedMoney(gain), gain);
  }

  function put(name, text, value) {
    const element = $(`[data-sum="${name}"]`, box);
    setText(element, text);
    if (value !== undefined) setTone(element, tone(value));
  }
}
