/** The order ticket: what it needs, why it is denied, one order for one press, and what became of it. */

import { ApiError, get, patch, post, symbolPath } from "sauda/api";
import { $, $$, debounce, isPhone, setText } from "sauda/dom";
import * as feed from "sauda/feed";
import { exchange, inr, money, move, number, qty, ticker } from "sauda/format";
import { unlessShown } from "sauda/notices";
import { follow } from "sauda/quotes";
import { refresh } from "sauda/regions";

const RETRIES = 3;
const LOOK_EVERY = 700;
const CLOSED = new Set(["FILLED", "CANCELLED", "REJECTED", "DENIED", "EXPIRED", "NOT_PLACED"]);
const WORDS = {
  PENDING: ["Sending", "Queued for your broker.", "busy", "clock"],
  SUBMITTED: ["Sent", "Waiting for the broker's answer.", "busy", "clock"],
  OPEN: ["Open at the exchange", "It fills when the market reaches your price.", "live", "clock"],
  TRIGGER_PENDING: ["Waiting for the trigger", "It becomes active when the trigger price is reached.", "live", "clock"],
  PARTIALLY_FILLED: ["Partly filled", "The rest stays in the market.", "live", "clock"],
  PENDING_CANCEL: ["Cancelling", "It may still fill until the broker confirms.", "busy", "clock"],
  FILLED: ["Filled", "", "good", "check"],
  CANCELLED: ["Cancelled", "", "idle", "close"],
  REJECTED: ["Rejected", "The broker or the exchange refused it.", "bad", "alert"],
  DENIED: ["Not sent", "It was stopped before it left.", "bad", "alert"],
  EXPIRED: ["Expired", "Its day is over.", "idle", "clock"],
  NOT_PLACED: ["Not placed", "The broker does not have this order.", "bad", "alert"],
};

const instruments = new Map();

async function instrumentOf(symbol) {
  if (!instruments.has(symbol)) instruments.set(symbol, await get(`/instruments/${symbolPath(symbol)}`));
  return instruments.get(symbol);
}

function newKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

class Ticket {
  constructor(form) {
    this.form = form;
    this.dialog = form.closest("dialog");
    this.part = (name) => $(`[data-t="${name}"]`, form);
    this.fields = form.elements;
    this.instrument = null;
    this.order = null; // the one that this ticket made
    this.editing = null; // the one that it changes
    this.previewing = null;
    this.previewSoon = debounce(() => this.preview(), 180);
    this.bind();
  }

  bind() {
    const { form } = this;
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.send();
    });
    form.addEventListener("input", (event) => {
      if (event.target.name === "price") this.ownPrice = true;
      this.shape();
      this.ask();
    });
    form.addEventListener("click", (event) => {
      const step = event.target.closest("[data-step]");
      if (step) this.step(step.dataset.step, Number(step.dataset.by));
    });
    form.addEventListener("keydown", (event) => {
      const field = event.target.name;
      if (!["quantity", "price", "trigger_price"].includes(field)) return;
      const by = { ArrowUp: 1, ArrowDown: -1 }[event.key];
      if (!by) return;
      event.preventDefault();
      this.step(field, by * (event.shiftKey ? 10 : 1));
    });
    for (const name of ["close", "cancel", "done"]) this.part(name)?.addEventListener("click", () => this.close());
    this.part("view")?.addEventListener("click", () => this.close());
    this.dialog?.addEventListener("close", () => this.forget());
    this.dialog?.addEventListener("click", (event) => {
      if (event.target === this.dialog && isPhone()) this.close();
    });
    if (this.dialog) drag($("[data-drag]", form), this.dialog);
    feed.on("order", ({ order }) => {
      if (order.id === this.order?.id && order.version >= this.order.version) this.show(order);
    });
  }

  async open({ symbol, side = "BUY", quantity, price, type, product, order = null }) {
    this.forget();
    const { fields } = this;
    const key = newKey();
    this.key = key;
    this.editing = order;
    this.instrument = null;
    this.ownPrice = Boolean(price);
    fields.symbol.value = symbol;
    fields.idempotency_key.value = this.key;
    this.choose("side", side);
    this.choose("order_type", type ?? "MARKET");
    this.choose("validity", order?.validity ?? "DAY");
    fields.quantity.value = quantity ?? "";
    fields.price.value = price ?? "";
    fields.trigger_price.value = order?.trigger_price ?? "";
    fields.after_market.checked = false;
    fields.iceberg_legs.value = fields.market_protection.value = "";
    setText(this.part("name"), ticker(symbol));
    setText(this.part("exchange"), exchange(symbol));
    for (const radio of $$('[name="side"]', this.form)) radio.disabled = Boolean(order);
    this.part("entry").hidden = false;
    this.part("outcome").hidden = true;
    this.deny("");
    setText(this.part("margin"), "–");
    setText(this.part("funds"), "–");
    this.shape();
    this.appear();
    this.unfollow = follow(symbol, (quote) => this.tick(quote));
    try {
      this.instrument = await instrumentOf(symbol);
    } catch (error) {
      this.deny(error.message);
      return;
    }
    if (this.key !== key || (this.dialog && !this.dialog.open)) return; // closed or replaced meanwhile
    this.offer(product);
    if (!fields.quantity.value) fields.quantity.value = this.lot;
    this.shape();
    if (document.activeElement === fields.quantity) fields.quantity.select();
    this.preview();
  }

  appear() {
    if (!this.dialog) return;
    if (!this.dialog.open) {
      if (isPhone()) this.dialog.showModal();
      else this.dialog.show();
    }
    this.fields.quantity.focus({ preventScroll: true });
  }

  close() {
    if (this.dialog) this.dialog.close();
  }

  forget() {
    this.unfollow?.();
    this.unfollow = null;
    this.previewing?.abort();
    clearTimeout(this.looking);
    this.order = null;
    delete this.part("go").dataset.busy;
  }

  get lot() {
    return Number(this.instrument?.lot_size ?? 1);
  }

  get tickSize() {
    return this.instrument?.tick_size ?? "0.05";
  }

  value(name) {
    const found = this.fields[name];
    return (found?.value ?? "").trim();
  }

  choose(name, value) {
    const radio = $(`[name="${name}"][value="${value}"]`, this.form);
    if (radio) radio.checked = true;
  }

  /** Only the products that fit the instrument. */
  offer(wanted) {
    const isShare = this.instrument.segment === "EQUITY";
    const fits = isShare ? ["CNC", "MIS", "MTF"] : ["NRML", "MIS"];
    for (const radio of $$('[name="product"]', this.form)) {
      radio.disabled = !fits.includes(radio.value) || (this.editing !== null && radio.value !== this.editing.product);
    }
    const chosen = this.editing?.product ?? wanted ?? this.value("product");
    this.choose("product", fits.includes(chosen) ? chosen : fits[0]);
  }

  /** Which fields count, and what they are called. */
  shape() {
    const { fields } = this;
    const type = this.value("order_type");
    const side = this.value("side");
    const hasPrice = type === "LIMIT" || type === "SL";
    const hasTrigger = type === "SL" || type === "SL-M";
    if (hasPrice && fields.price.disabled && !fields.price.value) fields.price.value = this.bestPrice() ?? "";
    fields.price.disabled = !hasPrice;
    fields.price.placeholder = hasPrice ? "" : "At market";
    if (!hasPrice && !this.ownPrice) fields.price.value = "";
    fields.trigger_price.disabled = !hasTrigger;
    fields.trigger_price.placeholder = hasTrigger ? "" : "Not used";
    this.vary();
    const quantity = number(this.value("quantity"));
    const lots = this.lot > 1 && quantity ? quantity / this.lot : null;
    setText(this.part("lots"), this.lot > 1 ? `${lots ? `${inr(lots).replace(/\.00$/, "")} × ` : ""}lot of ${qty(this.lot)}` : "");
    setText(this.part("tick"), hasPrice ? `tick ${Number(this.tickSize)}` : "");
    const verb = this.editing ? "Change" : side === "SELL" ? "Sell" : "Buy";
    setText(this.part("verb"), verb);
    setText(this.part("go"), this.editing ? "Change order" : `${verb}${quantity ? ` ${qty(quantity)}` : ""}`);
  }

  /** What the chosen broker takes beyond the plain order; a change keeps what the order has. */
  get offers() {
    if (this.editing) return [];
    const chosen = this.fields.connection_id?.selectedOptions?.[0] ?? this.form;
    return (chosen.dataset.offers ?? "").split(" ").filter((name) => name !== "market_protection" || !this.hasPrice);
  }

  get hasPrice() {
    return ["LIMIT", "SL"].includes(this.value("order_type"));
  }

  /** Only the fields that the broker offers. */
  vary() {
    const { offers } = this;
    const fields = $$("[data-offer]", this.form);
    for (const field of fields) field.hidden = !offers.includes(field.dataset.offer);
    this.part("variants").hidden = fields.every((field) => field.hidden);
  }

  bestPrice() {
    const quote = this.quote;
    if (!quote) return null;
    return (this.value("side") === "SELL" ? quote.bid : quote.ask) ?? quote.last_price;
  }

  tick(quote) {
    this.quote = quote;
    const box = this.part("quote");
    setText($('[data-q="last"]', box), inr(quote.last_price));
    setText($('[data-q="move-plain"]', box), move(quote.change_percent));
    $('[data-q="sim"]', box).hidden = !quote.simulated;
    if (this.value("order_type") === "LIMIT" && !this.fields.price.value && document.activeElement !== this.fields.price) this.shape();
  }

  step(name, by) {
    const field = this.fields[name];
    if (field.disabled) return;
    if (name === "quantity") {
      const next = Math.max(this.lot, (number(field.value) ?? 0) + by * this.lot);
      field.value = String(Math.round(next / this.lot) * this.lot);
    } else {
      if (name === "price") this.ownPrice = true;
      field.value = stepped(number(field.value) ?? number(this.bestPrice()) ?? 0, this.tickSize, by);
    }
    this.shape();
    this.ask();
  }

  /** What is shown is of other terms until the answer comes. */
  ask() {
    this.part("margin").dataset.stale = "yes";
    this.previewSoon();
  }

  terms() {
    const type = this.value("order_type");
    const hasPrice = type === "LIMIT" || type === "SL";
    const hasTrigger = type === "SL" || type === "SL-M";
    const quantity = this.value("quantity").replaceAll(",", "");
    const terms = {
      quantity: /^\d+$/.test(quantity) ? Number(quantity) : quantity,
      order_type: type,
      validity: this.value("validity"),
    };
    if (hasPrice) terms.price = this.value("price").replaceAll(",", "");
    if (hasTrigger) terms.trigger_price = this.value("trigger_price").replaceAll(",", "");
    if (this.editing) return terms;
    terms.symbol = this.value("symbol");
    terms.side = this.value("side");
    terms.product = this.value("product");
    const connection = this.value("connection_id");
    if (connection) terms.connection_id = connection;
    const { offers } = this;
    if (offers.includes("after_market_orders") && this.fields.after_market.checked) terms.after_market = true;
    const legs = this.value("iceberg_legs");
    if (offers.includes("iceberg_orders") && legs) terms.iceberg_legs = /^\d+$/.test(legs) ? Number(legs) : legs;
    const protection = this.value("market_protection");
    if (offers.includes("market_protection") && protection) terms.market_protection = protection;
    return terms;
  }

  /** What keeps the form from being asked about, in words. */
  gap(terms) {
    if (!Number.isInteger(terms.quantity) || terms.quantity < 1) return "Enter a quantity.";
    if (terms.price !== undefined && !(Number(terms.price) > 0)) return "Enter a price.";
    if (terms.trigger_price !== undefined && !(Number(terms.trigger_price) > 0)) return "Enter a trigger price.";
    return "";
  }

  async preview() {
    const terms = this.terms();
    this.previewing?.abort();
    if (this.order || this.gap(terms)) return;
    if (this.editing) Object.assign(terms, { symbol: this.editing.symbol, side: this.editing.side, product: this.editing.product });
    this.previewing = new AbortController();
    const { signal } = this.previewing;
    try {
      const answer = await post("/orders/preview", terms, { signal });
      if (signal.aborted) return;
      delete this.part("margin").dataset.stale;
      setText(this.part("margin"), money(answer.margin_required));
      setText(this.part("funds"), money(answer.available_funds));
      const short = answer.denied?.code === "insufficient_funds";
      this.part("funds").toggleAttribute("data-short", short);
      if (!this.part("go").dataset.busy) this.deny(this.editing && short ? "" : (answer.denied?.message ?? ""));
    } catch (error) {
      if (error instanceof ApiError && !signal.aborted) this.deny(error.isUnclear ? "" : error.message);
    }
  }

  deny(message) {
    const box = this.part("denied");
    setText($("span", box), message);
    box.hidden = !message;
  }

  async send() {
    const button = this.part("go");
    if (button.dataset.busy) return;
    const terms = this.terms();
    const gap = this.gap(terms);
    if (gap) {
      this.deny(gap);
      return;
    }
    button.dataset.busy = "yes";
    this.previewing?.abort();
    this.deny("");
    this.sentAt = performance.now();
    try {
      const order = this.editing ? await patch(`/orders/${this.editing.id}`, terms) : await this.place(terms);
      this.show(order);
      refresh("order");
    } catch (error) {
      this.failed(error);
    } finally {
      delete button.dataset.busy;
    }
  }

  /** The same key for every try: however often it is sent, it is one order. */
  async place(terms) {
    for (let attempt = 1; ; attempt += 1) {
      try {
        return await post("/orders", terms, { headers: { "Idempotency-Key": this.key } });
      } catch (error) {
        if (!error.isUnclear || attempt >= RETRIES) throw error;
        this.deny("No answer yet. Asking again; it stays one order.");
        await new Promise((resolve) => setTimeout(resolve, 600 * attempt));
      }
    }
  }

  failed(error) {
    if (!(error instanceof ApiError)) {
      this.deny("That did not work. Load the page again.");
      console.error(error);
    } else if (error.isUnclear) {
      this.deny("No answer came. Press again: however often you do, it is one order. Your orders page shows whether it arrived.");
    } else if (error.code === "idempotency_key_reused") {
      this.deny("This ticket has placed an order already. See your orders; the next press makes a new one.");
      this.key = newKey();
    } else {
      this.deny(error.message);
    }
  }

  show(order) {
    this.order = order;
    const done = CLOSED.has(order.status);
    const [head, text, tone, picture] = WORDS[order.status] ?? [order.status, "", "idle", "info"];
    const side = order.side === "SELL" ? "Sold" : "Bought";
    const box = this.part("outcome");
    this.part("entry").hidden = true;
    box.hidden = false;
    box.dataset.tone = tone;
    box.dataset.status = order.status;
    $("use", this.part("mark")).setAttribute("href", `#i-${picture}`);
    setText(this.part("outcome-head"), this.editing && !done ? "Change requested" : head);
    setText(
      this.part("outcome-text"),
      order.status === "FILLED"
        ? `${side} ${qty(order.filled_quantity)} ${ticker(order.symbol)} at ₹${inr(order.average_price)}.`
        : [order.status_message, order.status_advice].filter(Boolean).join(" ") || text,
    );
    setText(this.part("o-filled"), `${qty(order.filled_quantity)} of ${qty(order.quantity)}`);
    setText(this.part("o-average"), inr(order.average_price));
    const average = number(order.average_price);
    setText(this.part("o-value"), average === null ? "–" : money(average * order.filled_quantity));
    if (done || this.part("o-took").dataset.for !== order.id) {
      setText(this.part("o-took"), done ? `${((performance.now() - this.sentAt) / 1000).toFixed(1)} s` : "…");
      this.part("o-took").dataset.for = order.id;
    }
    clearTimeout(this.looking);
    if (!done) this.looking = setTimeout(() => this.look(), LOOK_EVERY);
    else if (this.dialog && !isPhone()) this.part("done").focus({ preventScroll: true });
  }

  /** While the socket is away, or says nothing, ask. */
  async look() {
    const { order } = this;
    if (!order) return;
    try {
      const now = await get(`/orders/${order.id}`);
      if (this.order?.id === order.id && now.version >= this.order.version) this.show(now);
    } catch {
      if (this.order) this.looking = setTimeout(() => this.look(), 2 * LOOK_EVERY);
    }
  }
}

/** The next price on the grid of ticks; in whole paise, since binary fractions drift. */
function stepped(value, tick, by) {
  const scale = 10000;
  const unit = Math.round(Number(tick) * scale);
  const now = Math.round(value * scale);
  const on = by > 0 ? Math.floor(now / unit) : Math.ceil(now / unit);
  return (Math.max(unit, (on + by) * unit) / scale).toFixed(2);
}

/** Let the ticket be moved out of the way. */
function drag(handle, dialog) {
  let from = null;
  let shift = { x: 0, y: 0 };
  handle.addEventListener("pointerdown", (event) => {
    if (isPhone() || event.target.closest("button, label, input")) return;
    from = { x: event.clientX - shift.x, y: event.clientY - shift.y };
    handle.setPointerCapture(event.pointerId);
  });
  handle.addEventListener("pointermove", (event) => {
    if (!from) return;
    shift = { x: event.clientX - from.x, y: event.clientY - from.y };
    dialog.style.translate = `${shift.x}px ${shift.y}px`;
  });
  handle.addEventListener("pointerup", () => (from = null));
  dialog.addEventListener("close", () => {
    shift = { x: 0, y: 0 };
    dialog.style.translate = "";
  });
}

let ticket = null;

export function start() {
  const form = $("#ticket-dialog [data-ticket-form]");
  if (form) ticket = new Ticket(form);
  document.addEventListener("click", async (event) => {
    const opener = event.target.closest("[data-ticket]");
    const changer = event.target.closest("[data-modify]");
    if ((!opener && !changer) || !ticket || event.metaKey || event.ctrlKey) return;
    event.preventDefault();
    if (opener) {
      const { ticket: side, symbol, quantity, price, type, product } = opener.dataset;
      ticket.open({ symbol, side, quantity, price, type, product });
    } else {
      const order = await get(`/orders/${changer.dataset.modify}`);
      const { symbol, side, quantity, price, order_type: type, product } = order;
      ticket.open({ symbol, side, quantity, price, type, product, order });
    }
  });
}

unlessShown((id) => Boolean(id && ticket?.dialog?.open && ticket.order?.id === id));

export const openTicket = (options) => ticket?.open(options);
export const closeTicket = () => {
  if (!ticket?.dialog?.open) return false;
  ticket.close();
  return true;
};
