/** Parts of the page that the server draws again when something they show has changed. */

import { $, $$ } from "sauda/dom";
import * as feed from "sauda/feed";

const GAP = 300;
const pending = new Map();

const happened = new Map();

for (const type of ["order", "position", "notification"]) {
  feed.on(type, () => {
    happened.set(type, performance.now());
    refresh(type);
  });
}
feed.on("beat", () => refresh());

/** A page that was asked for before something happened may not show it. */
export function refreshSince(moment) {
  for (const [type, at] of happened) if (at >= moment) refresh(type);
}

/** Draw again what depends on `type`; everything without one. */
export function refresh(type) {
  for (const region of $$("[data-region]")) {
    if (type && !(region.dataset.on ?? "").split(" ").includes(type)) continue;
    schedule(region.id);
  }
}

/** At once, and then at most once a gap: a burst of fills costs few drawings, and the last is never lost. */
function schedule(id) {
  const entry = pending.get(id);
  if (entry) {
    entry.again = true;
    return;
  }
  pending.set(id, { again: false });
  draw(id);
}

async function draw(id) {
  const region = document.getElementById(id);
  if (region && !isHeld(region)) await swap(region);
  else if (region) pending.get(id).again = true;
  setTimeout(() => {
    const again = pending.get(id)?.again;
    pending.delete(id);
    if (again) schedule(id);
  }, GAP);
}

/** A question about a row is open: its form must stay. */
const isHeld = () => $("#ask")?.open ?? false;

async function swap(region) {
  const focused = focusIn(region);
  const url = new URL(region.dataset.region, location.href);
  const open = $$("[data-expand][aria-expanded=true]", region).map((link) => link.dataset.expand);
  if (open.length) url.searchParams.set("expand", open.join(","));
  try {
    await htmx.ajax("GET", url.pathname + url.search, { target: region, swap: "outerHTML" });
  } catch {
    return; // the next event or beat tries again
  }
  restore(region.id, focused);
}

function focusIn(region) {
  const element = document.activeElement;
  if (!element || !region.contains(element)) return null;
  const row = element.closest("[id]");
  return { row: row?.id, index: focusable(row ?? region).indexOf(element) };
}

const focusable = (root) => $$("a[href], button:not(:disabled), input, select", root);

function restore(id, focused) {
  if (!focused || (document.activeElement && document.activeElement !== document.body)) return;
  const root = document.getElementById(focused.row) ?? document.getElementById(id);
  if (root) focusable(root)[focused.index]?.focus({ preventScroll: true });
}
