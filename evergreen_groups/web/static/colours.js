/* Match the staff client's light or dark theme. Runs before the first paint, to avoid a flash of the wrong theme. */
(() => {
  "use strict";
  const KEY = "eg.ui.general.colormode";
  const follow = () => {
    let mode = null;
    try {
      mode = (localStorage.getItem(KEY) || "").replaceAll('"', "");
    } catch { /* no storage: the browser's own choice */ }
    if (mode === "dark" || mode === "light") document.documentElement.dataset.bsTheme = mode;
    else delete document.documentElement.dataset.bsTheme;
  };
  follow();
  addEventListener("storage", (event) => { if (event.key === KEY || event.key === null) follow(); });
})();
