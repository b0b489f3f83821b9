/** Numbers as India writes them. Amounts arrive as decimal strings; they become numbers only to be shown. */

const whole = new Intl.NumberFormat("en-IN", { maximumFractionDigits: 0 });
const paise = new Intl.NumberFormat("en-IN", { minimumFractionDigits: 2, maximumFractionDigits: 2 });
const clockOf = new Intl.DateTimeFormat("en-GB", {
  timeZone: "Asia/Kolkata", hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23",
});

export const NOTHING = "–";
const MINUS = "\u2212";

export function number(value) {
  if (value === null || value === undefined || value === "") return null;
  const found = Number(value);
  return Number.isFinite(found) ? found : null;
}

function written(value, format, plus, unit = "") {
  const found = number(value);
  if (found === null) return NOTHING;
  const size = format.format(Math.abs(found));
  const isZero = !/[1-9]/.test(size);
  const sign = isZero ? "" : found < 0 ? MINUS : plus ? "+" : "";
  return sign + unit + size;
}

/** 1,23,456.78 */
export const inr = (value) => written(value, paise, false);
/** ₹1,23,456.78 */
export const money = (value) => written(value, paise, false, "₹");
/** +1,234.50 */
export const signed = (value) => written(value, paise, true);
/** +₹1,234.50 */
export const signedMoney = (value) => written(value, paise, true, "₹");
/** 1,23,456 */
export const qty = (value) => written(value, whole, false);
export const percent = (value) => (number(value) === null ? NOTHING : `${written(value, paise, true)}%`);

/** Gain or loss, by what is shown: 0.00 is neither. */
export function tone(value) {
  const found = number(value);
  if (found === null || Math.abs(found) < 0.005) return "flat";
  return found > 0 ? "up" : "down";
}

export const arrow = (value) => ({ up: "▲", down: "▼" })[tone(value)] ?? "";
/** ▲ +0.45% */
export const move = (value) => `${arrow(value)} ${percent(value)}`.trim();

export const ticker = (symbol) => symbol.slice(symbol.indexOf(":") + 1);
export const exchange = (symbol) => (symbol.includes(":") ? symbol.slice(0, symbol.indexOf(":")) : "");
export const clock = (value) => clockOf.format(new Date(value));
