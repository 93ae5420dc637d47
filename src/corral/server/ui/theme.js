// Light or dark before the first paint; app.js has the button. A plain script, since modules run too late for this.
"use strict";
{
  let chosen = null;
  try {
    chosen = localStorage.getItem("corral.theme");
  } catch {
    // storage is off: the system's colours it is
  }
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
}
