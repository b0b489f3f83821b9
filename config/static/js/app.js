/** Starts the pages of a signed-in user. */

import * as chart from "sauda/chart";
import { $, $$, sendOnce, setText, toggleTheme } from "sauda/dom";
import * as feed from "sauda/feed";
import * as keys from "sauda/keys";
import { clearToasts, count, toast } from "sauda/notices";
import * as quotes from "sauda/quotes";
import { refreshSince } from "sauda/regions";
import * as spark from "sauda/spark";
import * as ticket from "sauda/ticket";
import * as watchlist from "sauda/watchlist";

const STATES = {
  connecting: "Connecting",
  live: "Live",
  polling: "Reconnecting",
  offline: "Offline",
};

function showState(state) {
  for (const element of $$("[data-feed-state]")) {
    element.dataset.state = state;
    setText(element.firstElementChild, STATES[state]);
  }
}

/** The link of the page that is open; longer addresses win. */
function markNav() {
  const path = location.pathname;
  for (const nav of $$("[data-nav]")) {
    for (const link of $$("a", nav)) {
      const own = new URL(link.href).pathname;
      const also = (link.dataset.also ?? "").split(" ").filter(Boolean);
      const isHere = [own, ...also].some((start) => path === start || path.startsWith(`${start}/`));
      if (isHere) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
  }
}

/** What acts on all open rows rests while there is none. */
function restButtons() {
  for (const form of $$("[data-needs-rows]")) {
    const rows = document.getElementById(form.dataset.needsRows);
    if (rows) $("button", form).disabled = !$("tbody tr:not([data-closed], .details)", rows);
  }
}

function scan() {
  markNav();
  restButtons();
  watchlist.mark();
  quotes.scan();
  spark.scan();
  chart.scan();
  keys.scan();
  showState(feed.currentState());
  if ($('[data-view="notifications"]')) clearToasts();
}

function start() {
  feed.on("state", showState);
  let asked = 0;
  document.body.addEventListener("htmx:beforeRequest", (event) => {
    if (event.detail.target?.id === "main") asked = performance.now();
  });
  document.body.addEventListener("htmx:afterSettle", scan);
  document.body.addEventListener("htmx:historyRestore", scan);
  document.body.addEventListener("htmx:afterSwap", (event) => {
    if (event.target.id !== "main") return;
    refreshSince(asked);
    const heading = $("h1", event.target);
    if (heading && !$("[autofocus]", event.target)) {
      heading.tabIndex = -1;
      heading.focus({ preventScroll: true });
    }
    if (ticket.closeTicket && $("#ticket-dialog").open && !$('[data-t="outcome"]', $("#ticket-dialog")).hidden) ticket.closeTicket();
  });
  for (const type of ["htmx:sendError", "htmx:responseError", "htmx:timeout"]) {
    document.body.addEventListener(type, (event) => {
      if (event.detail.requestConfig?.verb === "get" && event.detail.target?.dataset?.region) return; // it is drawn again
      const status = event.detail.xhr?.status;
      toast(status ? "That did not work" : "No connection", status === 404 ? "It is not there any more." : "Try again in a moment.", { tone: "bad", picture: "alert" });
    });
  }

  document.addEventListener("click", (event) => {
    if (event.target.closest("[data-theme-toggle]")) toggleTheme();
    for (const menu of $$("details[data-menu][open]")) {
      if (!menu.contains(event.target) || event.target.closest("a")) menu.open = false;
    }
  });

  // links to a timeline work without this; with it, only its rows are drawn again
  document.addEventListener("click", (event) => {
    const link = event.target.closest("[data-expand]");
    if (!link) return;
    event.preventDefault();
    event.stopPropagation();
    const region = link.closest("[data-region]");
    const open = link.getAttribute("aria-expanded") === "true";
    const url = new URL(region.dataset.region, location.href);
    const expanded = new Set($$("[data-expand][aria-expanded=true]", region).map((other) => other.dataset.expand));
    if (open) expanded.delete(link.dataset.expand);
    else expanded.add(link.dataset.expand);
    if (expanded.size) url.searchParams.set("expand", [...expanded].join(","));
    htmx.ajax("GET", url.pathname + url.search, { target: region, swap: "outerHTML" });
  }, true);

  // a question before what cannot be undone
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (form.matches("[data-ask]") && !form.dataset.agreed) {
      event.preventDefault();
      event.stopImmediatePropagation();
      ask(form);
      return;
    }
    delete form.dataset.agreed;
    if (form.matches("[data-once]")) sendOnce(form, event);
  }, true);

  document.addEventListener("change", (event) => {
    if (event.target.matches("[data-auto-submit]")) event.target.form.requestSubmit();
  });

  document.body.addEventListener("htmx:afterRequest", (event) => {
    if (event.detail.requestConfig?.path === location.pathname && location.pathname === "/notifications") count(0);
  });

  ticket.start();
  watchlist.start();
  keys.start();
  chart.start();
  scan();
  feed.start();
}

function ask(form) {
  const dialog = $("#ask");
  setText($("#ask-title"), form.dataset.ask);
  setText($("[data-ask-text]", dialog), form.dataset.askText ?? "");
  setText($("[data-ask-yes]", dialog), form.dataset.askYes ?? "Yes");
  dialog.returnValue = "no";
  dialog.addEventListener("close", () => {
    if (dialog.returnValue !== "yes" || !form.isConnected) return;
    form.dataset.agreed = "yes";
    form.requestSubmit();
  }, { once: true });
  dialog.showModal();
}

start();
