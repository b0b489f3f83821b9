/* Runs before the first paint, so that a chosen theme never flashes. A plain script on purpose. */
(function () {
  "use strict";
  var root = document.documentElement;
  root.classList.add("js");
  try {
    var chosen = localStorage.getItem("sauda-theme");
    if (chosen === "light" || chosen === "dark") root.dataset.theme = chosen;
  } catch (error) {
    /* storage is off: the system's theme stays */
  }
})();
