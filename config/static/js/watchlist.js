/** The watchlist column: selection, depth, and the search above it. */

import { $, $$, icon, isPhone } from "sauda/dom";

export const selectedRow = () => $(".wl-row[data-selected]");

/**
 * The instrument that B and S mean: the row under the pointer, else the one with the focus, else the marked one,
 * else the one whose page is open. What cannot be traded is none.
 */
export function selectedSymbol() {
  const row = $(".wl-row:hover") ?? $(".wl-row:focus-within") ?? selectedRow();
  if (row) return $("[data-ticket]", row) ? row.dataset.symbol : null;
  const page = $("[data-current-symbol]");
  return page && $("[data-ticket]", page) ? page.dataset.currentSymbol : null;
}

export function select(row, { focus = false } = {}) {
  for (const other of $$(".wl-row[data-selected]")) delete other.dataset.selected;
  if (!row) return;
  row.dataset.selected = "yes";
  row.scrollIntoView({ block: "nearest" });
  if (focus) $(".wl-line", row).focus({ preventScroll: true });
}

export function moveSelection(by) {
  const rows = $$(".wl-row");
  if (!rows.length) return;
  const at = rows.indexOf(selectedRow());
  select(rows[(at + by + rows.length) % rows.length] ?? rows[0], { focus: true });
}

export function toggleDepth(row) {
  const button = $("[data-depth]", row);
  const box = $("[data-depth-box]", row);
  const open = button.getAttribute("aria-expanded") === "true";
  button.setAttribute("aria-expanded", String(!open));
  if (open) box.replaceChildren();
  else htmx.ajax("GET", button.dataset.depth, { target: box, swap: "innerHTML" });
}

/** After a change of page: mark the row of the instrument that is shown. */
export function mark() {
  const current = $("[data-current-symbol]")?.dataset.currentSymbol;
  if (current) select($$(".wl-row").find((row) => row.dataset.symbol === current));
}

const finder = () => $("#finder");

function closeResults() {
  const box = $("#results");
  if (!box?.childElementCount) return false;
  box.replaceChildren();
  finder().value = "";
  return true;
}

export function escapeSearch() {
  const closed = closeResults();
  if (document.activeElement === finder()) {
    finder().blur();
    return true;
  }
  return closed;
}

export const focusSearch = () => finder()?.focus();

function activate(result) {
  for (const other of $$("[data-result][data-active]")) delete other.dataset.active;
  if (!result) return;
  result.dataset.active = "yes";
  result.scrollIntoView({ block: "nearest" });
}

/** Read the books that are on the screen again; what is out of sight costs nothing. */
function readBooks() {
  if (document.visibilityState !== "visible") return;
  for (const box of $$("[data-live-depth]")) {
    if (!box.checkVisibility() || "reading" in box.dataset) continue;
    box.dataset.reading = "yes";
    htmx.ajax("GET", box.dataset.liveDepth, { target: box, swap: "outerHTML" }).finally(() => delete box.dataset.reading);
  }
}

export function start() {
  setInterval(readBooks, 1000);
  document.addEventListener("click", (event) => {
    const depth = event.target.closest("[data-depth]");
    if (depth) {
      toggleDepth(depth.closest(".wl-row"));
      return;
    }
    const line = event.target.closest(".wl-line");
    if (line) {
      const row = line.closest(".wl-row");
      if (isPhone() && !event.metaKey && !event.ctrlKey) {
        event.preventDefault();
        event.stopPropagation();
        const open = "open" in row.dataset;
        for (const other of $$(".wl-row[data-open]")) delete other.dataset.open;
        if (!open) row.dataset.open = "yes";
      }
      select(row);
      return;
    }
    if (event.target.closest("a.pick")) closeResults();
    else if (!event.target.closest("[data-finder], [data-results]")) closeResults();
  }, true);

  document.addEventListener("keydown", (event) => {
    if (event.target.id !== "finder") return;
    const results = $$("[data-result]");
    const at = results.findIndex((result) => "active" in result.dataset);
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      const by = event.key === "ArrowDown" ? 1 : -1;
      activate(results[(at + by + results.length) % results.length]);
    } else if (event.key === "Enter" && results.length) {
      event.preventDefault();
      $("a.pick", results[Math.max(at, 0)])?.click();
    }
  });

  document.body.addEventListener("htmx:afterSwap", (event) => {
    if (event.target.id !== "results") return;
    activate($("[data-result]"));
  });

  // an added instrument is ticked off where it was found
  document.body.addEventListener("htmx:afterRequest", (event) => {
    const form = event.detail.elt;
    if (!event.detail.successful || !form.matches?.("form") || !$("[data-add]", form)) return;
    const tick = document.createElement("span");
    tick.className = "in-list";
    tick.append(icon("check", "icon-s"));
    form.replaceWith(tick);
  });
}
