/** Small helpers over the page. Data from outside is only ever written as text. */

export const $ = (selector, root = document) => root.querySelector(selector);
export const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];

/** Make an element; `text` is text, never markup. */
export function make(tag, className = "", text = "") {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text) element.textContent = text;
  return element;
}

const SVG = "http://www.w3.org/2000/svg";

export function svg(tag, attributes = {}) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

export function icon(name, className = "") {
  const drawing = svg("svg", { class: `icon ${className}`, viewBox: "0 0 20 20", "aria-hidden": "true" });
  drawing.append(svg("use", { href: `#i-${name}` }));
  return drawing;
}

/** Write text only where it changes: the browser then has nothing to lay out. */
export function setText(element, text) {
  if (element && element.textContent !== text) element.textContent = text;
}

export function setTone(element, tone) {
  if (!element || element.classList.contains(tone)) return;
  element.classList.remove("up", "down", "flat");
  element.classList.add(tone);
}

export function debounce(fn, wait) {
  let timer = 0;
  return (...given) => {
    clearTimeout(timer);
    timer = setTimeout(fn, wait, ...given);
  };
}

export const isPhone = () => matchMedia("(max-width: 959px)").matches;

export function toggleTheme() {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  try {
    localStorage.setItem("sauda-theme", root.dataset.theme);
  } catch {
    /* storage is off: it holds for this page */
  }
  document.dispatchEvent(new CustomEvent("sauda:theme"));
}

/** A form that is on its way is not sent a second time. */
export function sendOnce(form, event) {
  if (form.dataset.sending) {
    event.preventDefault();
    return;
  }
  form.dataset.sending = "yes";
  setTimeout(() => {
    for (const button of $$("button[type=submit]", form)) button.disabled = true;
  });
  setTimeout(() => {
    delete form.dataset.sending;
    for (const button of $$("button[type=submit]", form)) button.disabled = false;
  }, 8000);
}
