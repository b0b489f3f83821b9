/** Today's line of an instrument, as small as a word. */

import { get, symbolPath } from "sauda/api";
import { $$, svg } from "sauda/dom";
import { number } from "sauda/format";
import { quoteOf } from "sauda/quotes";

const KEPT_FOR = 60000;
const WIDTH = 60;
const HEIGHT = 22;
const cache = new Map();
let running = 0;
const queue = [];

const seen = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    if (!entry.isIntersecting) continue;
    seen.unobserve(entry.target);
    queue.push(entry.target);
  }
  next();
});

export function scan() {
  for (const element of $$("[data-spark]:empty")) {
    const kept = cache.get(element.dataset.spark);
    if (kept && Date.now() - kept.at < KEPT_FOR) draw(element, kept.closes);
    else seen.observe(element);
  }
}

function next() {
  while (running < 2 && queue.length) {
    const element = queue.shift();
    if (!element.isConnected || element.childElementCount) continue;
    running += 1;
    load(element).finally(() => {
      running -= 1;
      next();
    });
  }
}

async function load(element) {
  const symbol = element.dataset.spark;
  try {
    const answer = await get(`/instruments/${symbolPath(symbol)}/candles?interval=15m&limit=96`);
    const closes = today(answer.results).map((candle) => Number(candle.close));
    cache.set(symbol, { at: Date.now(), closes });
    draw(element, closes);
  } catch {
    /* a price without its line is still a price */
  }
}

const dayOf = (time) => new Intl.DateTimeFormat("en-CA", { timeZone: "Asia/Kolkata" }).format(new Date(time));

/** The candles of the last day there is. */
function today(candles) {
  if (!candles.length) return candles;
  const day = dayOf(candles.at(-1).start);
  return candles.filter((candle) => dayOf(candle.start) === day);
}

function draw(element, day) {
  if (day.length < 2) return;
  const base = number(quoteOf(element.dataset.spark)?.previous_close) ?? day[0];
  const closes = [base, ...day];
  const low = Math.min(...closes);
  const span = Math.max(...closes) - low || 1;
  const step = WIDTH / (closes.length - 1);
  const y = (value) => HEIGHT - 2 - ((value - low) / span) * (HEIGHT - 4);
  const path = closes.map((close, i) => `${i ? "L" : "M"}${(i * step).toFixed(1)} ${y(close).toFixed(1)}`).join("");
  const rises = closes.at(-1) >= base;
  element.classList.add(rises ? "up" : "down");
  element.replaceChildren(
    svg("path", { class: "base", d: `M0 ${y(base).toFixed(1)}H${WIDTH}`, "vector-effect": "non-scaling-stroke" }),
    svg("path", { d: path, "vector-effect": "non-scaling-stroke" }),
  );
}
