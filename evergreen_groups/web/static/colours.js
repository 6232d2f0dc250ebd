/* Light or dark as the staff client has it; it runs before anything is shown, so that nothing flashes. */
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
