// What screen readers are told beside what has the focus.

let timer = 0;

/** Say it once; the same text again is said again. */
export function announce(text) {
  const region = document.getElementById("live");
  region.textContent = "";
  clearTimeout(timer);
  timer = setTimeout(() => {
    region.textContent = text;
  }, 60);
}
