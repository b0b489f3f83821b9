/** Candles on a canvas: price, volume, a crosshair, and the last price as it moves. */

import { get, symbolPath } from "sauda/api";
import { $, $$, setText } from "sauda/dom";
import { inr, percent, qty } from "sauda/format";
import { follow } from "sauda/quotes";

const LIMIT = 180;
const SECONDS = { "1m": 60, "5m": 300, "15m": 900, "1h": 3600, "1d": 86400 };
const AXIS = 68;
const FOOT = 22;
const IST_OFFSET = 19800;
const VOLUME_SHARE = 0.16;

const charts = new Map();

class Chart {
  constructor(box) {
    this.box = box;
    this.canvas = $("canvas", box);
    this.legend = $("[data-chart-legend]", box.parentElement);
    this.symbol = box.dataset.chart;
    this.candles = [];
    this.hover = null;
    this.probe = document.createElement("i");
    this.probe.hidden = true;
    box.append(this.probe);
    this.resize = new ResizeObserver(() => this.draw());
    this.resize.observe(box);
    this.canvas.addEventListener("pointermove", (event) => this.point(event));
    this.canvas.addEventListener("pointerdown", (event) => this.point(event));
    this.canvas.addEventListener("pointerleave", () => {
      this.hover = null;
      this.draw();
    });
    this.unfollow = follow(this.symbol, (quote) => this.tick(quote));
    this.load(box.dataset.interval);
  }

  end() {
    this.unfollow();
    this.resize.disconnect();
    clearTimeout(this.again);
  }

  async load(interval) {
    this.interval = interval;
    const empty = $("[data-chart-empty]", this.box);
    try {
      const answer = await get(`/instruments/${symbolPath(this.symbol)}/candles?interval=${interval}&limit=${LIMIT}`);
      if (this.interval !== interval) return;
      this.candles = answer.results.map((row) => ({
        at: Date.parse(row.start) / 1000,
        open: Number(row.open), high: Number(row.high), low: Number(row.low), close: Number(row.close), volume: Number(row.volume),
      }));
      empty.hidden = this.candles.length > 0;
      setText(empty, "No candles yet for this interval.");
    } catch {
      empty.hidden = this.candles.length > 0;
      setText(empty, "The candles could not be read.");
    }
    this.draw();
    clearTimeout(this.again);
    this.again = setTimeout(() => this.load(this.interval), 60000);
  }

  tick(quote) {
    const price = Number(quote.last_price);
    const last = this.candles.at(-1);
    if (!last || !Number.isFinite(price)) return;
    const length = SECONDS[this.interval] ?? 300;
    const now = Date.now() / 1000;
    if (this.interval !== "1d" && now >= last.at + length) {
      const start = last.at + Math.floor((now - last.at) / length) * length;
      this.candles.push({ at: start, open: last.close, high: Math.max(last.close, price), low: Math.min(last.close, price), close: price, volume: 0 });
      if (this.candles.length > LIMIT) this.candles.shift();
    } else {
      last.close = price;
      last.high = Math.max(last.high, price);
      last.low = Math.min(last.low, price);
    }
    this.frame ||= requestAnimationFrame(() => {
      this.frame = 0;
      this.draw();
    });
  }

  point(event) {
    const bounds = this.canvas.getBoundingClientRect();
    this.hover = { x: event.clientX - bounds.left, y: event.clientY - bounds.top };
    this.draw();
  }

  /** The colour that the style sheet means by a variable, for the theme that is on. */
  colour(name) {
    this.probe.style.color = `var(--${name})`;
    return getComputedStyle(this.probe).color;
  }

  draw() {
    const { canvas, candles } = this;
    const { clientWidth: width, clientHeight: height } = this.box;
    const ratio = devicePixelRatio || 1;
    canvas.width = width * ratio;
    canvas.height = height * ratio;
    const pen = canvas.getContext("2d");
    pen.scale(ratio, ratio);
    if (!candles.length || width < 80) return;
    this.probe.hidden = false;
    const ink = { up: this.colour("up"), down: this.colour("down"), line: this.colour("line"), text: this.colour("ink-3"), strong: this.colour("line-strong"), surface: this.colour("surface"), words: this.colour("ink") };
    this.probe.hidden = true;
    const right = width - AXIS;
    const bottom = height - FOOT;
    const slots = Math.max(24, Math.min(candles.length, Math.floor(right / 8)));
    const shown = candles.slice(-slots);
    const step = right / slots;
    const body = Math.max(1, Math.min(12, Math.floor(step * 0.7)));
    let low = Math.min(...shown.map((c) => c.low));
    let high = Math.max(...shown.map((c) => c.high));
    const room = (high - low || high * 0.002) * 0.08;
    low -= room;
    high += room;
    const priceFoot = bottom * (1 - VOLUME_SHARE) - 6;
    const y = (price) => 8 + ((high - price) / (high - low)) * (priceFoot - 8);
    const x = (i) => Math.round(i * step + step / 2) + 0.5;
    pen.font = `500 11px ${getComputedStyle(this.box).fontFamily}`;
    pen.textBaseline = "middle";

    // the grid, at round prices
    pen.fillStyle = ink.text;
    pen.strokeStyle = ink.line;
    pen.lineWidth = 1;
    for (const price of roundPrices(low, high, Math.max(3, Math.floor(priceFoot / 56)))) {
      const at = Math.round(y(price)) + 0.5;
      line(pen, 0, at, right, at);
      if (Math.abs(at - y(shown.at(-1).close)) > 15) pen.fillText(inr(price), right + 8, at);
    }
    const apart = Math.ceil(86 / step);
    let day = "";
    shown.forEach((candle, i) => {
      const date = new Date((candle.at + IST_OFFSET) * 1000).toISOString();
      const isNewDay = date.slice(0, 10) !== day;
      day = date.slice(0, 10);
      const index = candles.length - shown.length + i;
      if (index % apart && !(isNewDay && i && this.interval !== "1d")) return;
      if (index % apart && shown.length - i < apart / 2) return;
      if (x(i) < 20 || x(i) > right - 24) return;
      if (index % apart === 0) line(pen, x(i), 0, x(i), bottom);
      if (index % apart) return;
      const words = this.interval === "1d" ? `${Number(date.slice(8, 10))} ${MONTHS[Number(date.slice(5, 7)) - 1]}` : date.slice(11, 16);
      pen.textAlign = "center";
      pen.fillText(words, x(i), bottom + FOOT / 2);
      pen.textAlign = "left";
    });

    // volume, then candles
    const most = Math.max(1, ...shown.map((c) => c.volume));
    shown.forEach((candle, i) => {
      const rises = candle.close >= candle.open;
      const colour = rises ? ink.up : ink.down;
      const left = Math.round(x(i) - body / 2);
      pen.globalAlpha = 0.28;
      pen.fillStyle = colour;
      const tall = (candle.volume / most) * bottom * VOLUME_SHARE;
      pen.fillRect(left, bottom - tall, body, tall);
      pen.globalAlpha = 1;
      pen.strokeStyle = colour;
      line(pen, x(i), y(candle.high), x(i), y(candle.low));
      const top = Math.round(y(Math.max(candle.open, candle.close)));
      const size = Math.max(1, Math.round(Math.abs(y(candle.open) - y(candle.close))));
      if (rises && body > 4) {
        // a rising candle is hollow: told apart without its colour
        pen.fillStyle = ink.surface;
        pen.fillRect(left, top, body, size);
        pen.strokeRect(left + 0.5, top + 0.5, body - 1, Math.max(size - 1, 0));
      } else pen.fillRect(left, top, body, size);
    });

    // the last price
    const last = shown.at(-1);
    const rises = last.close >= last.open;
    const at = Math.round(y(last.close)) + 0.5;
    pen.strokeStyle = rises ? ink.up : ink.down;
    pen.setLineDash([2, 3]);
    line(pen, 0, at, right, at);
    pen.setLineDash([]);
    label(pen, right, at, inr(last.close), rises ? ink.up : ink.down, ink.surface);

    this.cross(pen, { shown, step, right, bottom, x, y, ink, low, high, priceFoot });
  }

  cross(pen, { shown, step, right, bottom, x, ink, low, high, priceFoot }) {
    const { hover } = this;
    const i = hover ? Math.min(shown.length - 1, Math.max(0, Math.floor(hover.x / step))) : shown.length - 1;
    const candle = shown[i];
    if (hover && hover.x < right && hover.y < bottom) {
      pen.strokeStyle = ink.text;
      pen.setLineDash([3, 3]);
      line(pen, x(i), 0, x(i), bottom);
      line(pen, 0, hover.y, right, hover.y);
      pen.setLineDash([]);
      if (hover.y < priceFoot) label(pen, right, hover.y, inr(high - ((hover.y - 8) / (priceFoot - 8)) * (high - low)), ink.words, ink.surface);
      const date = new Date((candle.at + IST_OFFSET) * 1000).toISOString();
      const words = `${Number(date.slice(8, 10))} ${MONTHS[Number(date.slice(5, 7)) - 1]}${this.interval === "1d" ? "" : ` ${date.slice(11, 16)}`}`;
      const size = pen.measureText(words).width + 12;
      const start = Math.min(Math.max(0, x(i) - size / 2), right - size);
      pen.fillStyle = ink.words;
      pen.fillRect(start, bottom + 2, size, FOOT - 4);
      pen.fillStyle = ink.surface;
      pen.fillText(words, start + 6, bottom + FOOT / 2);
    }
    const change = ((candle.close - candle.open) / candle.open) * 100;
    const text = `O ${inr(candle.open)}  H ${inr(candle.high)}  L ${inr(candle.low)}  C ${inr(candle.close)}  ${percent(change)}  Vol ${qty(candle.volume)}`;
    setText(this.legend, text);
  }
}

const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

function line(pen, x1, y1, x2, y2) {
  pen.beginPath();
  pen.moveTo(x1, y1);
  pen.lineTo(x2, y2);
  pen.stroke();
}

function label(pen, left, y, text, ground, ink) {
  pen.fillStyle = ground;
  pen.fillRect(left, y - 9, AXIS, 18);
  pen.fillStyle = ink;
  pen.fillText(text, left + 8, y);
}

function roundPrices(low, high, count) {
  const rough = (high - low) / count;
  const size = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((m) => m * size).find((s) => s >= rough);
  const found = [];
  for (let price = Math.ceil(low / step) * step; price < high; price += step) found.push(price);
  return found;
}

/** Make charts for what the page shows now, and end the others. */
export function scan() {
  for (const [box, chart] of charts) {
    if (box.isConnected) continue;
    chart.end();
    charts.delete(box);
  }
  for (const box of $$("[data-chart]")) if (!charts.has(box)) charts.set(box, new Chart(box));
}

export function start() {
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-chart-tools] [data-interval]");
    if (!button) return;
    for (const other of $$("button", button.parentElement)) other.setAttribute("aria-pressed", String(other === button));
    charts.get($("[data-chart]", button.closest(".chart-card")))?.load(button.dataset.interval);
  });
  const redraw = () => charts.forEach((chart) => chart.draw());
  document.addEventListener("sauda:theme", redraw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
}
