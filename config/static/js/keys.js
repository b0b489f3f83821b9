/** Single keys for hands that are in a hurry. They rest while something is typed, and can be switched off. */

import { $, $$ } from "sauda/dom";
import { closeTicket, openTicket } from "sauda/ticket";
import { escapeSearch, focusSearch, moveSelection, selectedRow, selectedSymbol, toggleDepth } from "sauda/watchlist";

const isTyping = (target) => target.closest("input:not([type=radio], [type=checkbox]), select, textarea, [contenteditable]");

const areOff = () => {
  try {
    return localStorage.getItem("sauda-keys") === "off";
  } catch {
    return false;
  }
};

/** Show on the account page whether they are on. */
export function scan() {
  const box = $("[data-keys-toggle]");
  if (box) box.checked = !areOff();
}

function switchTo(on) {
  try {
    localStorage.setItem("sauda-keys", on ? "on" : "off");
  } catch {
    /* storage is off: they stay on */
  }
}

function escape() {
  for (const menu of $$("details[data-menu][open]")) {
    menu.open = false;
    return true;
  }
  return escapeSearch() || closeTicket();
}

export function start() {
  document.addEventListener("change", (event) => {
    if (event.target.matches("[data-keys-toggle]")) switchTo(event.target.checked);
  });
  document.addEventListener("keydown", (event) => {
    if (event.metaKey || event.ctrlKey || event.altKey || event.defaultPrevented) return;
    if (event.key === "Escape") {
      if (!$("#ask").open && escape()) event.preventDefault();
      return;
    }
    if (isTyping(event.target) || areOff() || $("#ask").open) return;
    if (actions[event.key]) {
      event.preventDefault();
      actions[event.key]();
    } else if (event.key.toLowerCase() === "b" || event.key.toLowerCase() === "s") {
      const symbol = selectedSymbol();
      if (!symbol) return;
      event.preventDefault();
      openTicket({ symbol, side: event.key.toLowerCase() === "b" ? "BUY" : "SELL" });
    }
  });
}

const actions = {
  "/": focusSearch,
  j: () => moveSelection(+1),
  k: () => moveSelection(-1),
  d: () => selectedRow() && toggleDepth(selectedRow()),
};
