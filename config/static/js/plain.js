/** What the signed-out pages need: the theme, one send per form, and the wait before a new code. */

const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];

document.addEventListener("click", (event) => {
  if (!event.target.closest("[data-theme-toggle]")) return;
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  try {
    localStorage.setItem("sauda-theme", root.dataset.theme);
  } catch {
    /* storage is off */
  }
});

document.addEventListener("submit", (event) => {
  const form = event.target;
  if (!form.matches("[data-once]")) return;
  if (form.dataset.sending) {
    event.preventDefault();
    return;
  }
  form.dataset.sending = "yes";
  setTimeout(() => $$("button[type=submit]", form).forEach((button) => (button.disabled = true)));
});

addEventListener("pageshow", (event) => {
  if (!event.persisted) return;
  for (const form of $$("form[data-sending]")) {
    delete form.dataset.sending;
    $$("button[type=submit]", form).forEach((button) => (button.disabled = false));
  }
});

for (const button of $$("[data-resend]")) {
  const left = button.parentElement.querySelector("[data-resend-left]");
  const until = Date.now() + Number(button.dataset.resend) * 1000;
  const tick = () => {
    const seconds = Math.ceil((until - Date.now()) / 1000);
    button.disabled = seconds > 0;
    left.textContent = seconds > 0 ? `in ${seconds} s` : "";
    if (seconds > 0) setTimeout(tick, 250);
  };
  tick();
}
