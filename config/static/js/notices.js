/** The bell and the corner of the screen. */

import { $, icon, make } from "sauda/dom";
import * as feed from "sauda/feed";

const SHOWN_AT_MOST = 4;
const TONES = [
  [/filled$/, "good", "check"],
  [/reject|denied|not_placed|unknown|overfill|fail/, "bad", "alert"],
];

export function toast(title, text = "", { tone = "info", picture = "info", stay = 6000 } = {}) {
  const box = $("#toasts");
  const note = make("div", `toast toast-${tone}`);
  note.append(icon(picture), make("strong", "", title));
  if (text) note.append(make("p", "", text));
  const close = make("button", "tool");
  close.type = "button";
  close.setAttribute("aria-label", "Dismiss");
  close.append(icon("close", "icon-s"));
  note.append(close);
  const remove = () => {
    note.classList.add("leaving");
    setTimeout(() => note.remove(), 250);
  };
  close.addEventListener("click", remove);
  let timer = setTimeout(remove, stay);
  note.addEventListener("mouseenter", () => clearTimeout(timer));
  note.addEventListener("mouseleave", () => (timer = setTimeout(remove, 2500)));
  box.append(note);
  while (box.children.length > SHOWN_AT_MOST) box.firstElementChild.remove();
}

export const clearToasts = () => $("#toasts").replaceChildren();

let shownElsewhere = () => false;

/** Whoever shows an order's outcome already says so: then there is no toast about it. */
export const unlessShown = (check) => (shownElsewhere = check);

feed.on("notification", ({ notification }) => {
  count(+1);
  if (shownElsewhere(notification.data?.order_id)) return;
  const [, tone, picture] = TONES.find(([pattern]) => pattern.test(notification.kind)) ?? [null, "info", "info"];
  toast(notification.title, notification.body, { tone, picture });
});

export function count(change) {
  const badge = $("[data-unread]");
  if (!badge) return;
  const value = change === 0 ? 0 : (Number(badge.textContent) || 0) + change;
  badge.textContent = value > 99 ? "99+" : String(value);
  badge.hidden = !value;
}
