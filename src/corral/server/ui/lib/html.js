// Templates, and a way to draw them at most once a frame. Values in a template become text and properties, never HTML.

export { html, nothing, render } from "../vendor/lit-html/lit-html.js";
export { repeat } from "../vendor/lit-html/directives/repeat.js";
export { keyed } from "../vendor/lit-html/directives/keyed.js";

/** A function that has `draw` called once before the next frame, however often it is called itself. */
export function drawer(draw) {
  let waiting = false;
  return () => {
    if (waiting) return;
    waiting = true;
    const go = () => {
      waiting = false;
      draw();
    };
    // a hidden page has no frames, and still ends its answers
    if (document.hidden) setTimeout(go, 100);
    else requestAnimationFrame(go);
  };
}
