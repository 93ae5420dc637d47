// A plot of a series over time: uPlot in an element that follows its size and the theme. Its figures are told as text too.

import uPlot from "../vendor/uplot/dist/uPlot.esm.js";

const HEIGHT = 130; // pixels, as style/rooms.css has it
const LEAST_S = 60; // of time from left to right, however few samples there are

function clock(tick) {
  return new Date(tick * 1000).toLocaleTimeString(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
}

class CorralPlot extends HTMLElement {
  #plot = null;
  #data = null;
  #sizes = new ResizeObserver(() => this.#resize());
  #theme = () => this.#build();

  /** {label, unit, names, format} */
  set kind(kind) {
    this.kindOf = kind;
  }

  set data(data) {
    this.#data = data;
    if (this.#plot) this.#plot.setData(data);
    else if (this.isConnected) this.#build();
  }

  connectedCallback() {
    this.#sizes.observe(this);
    addEventListener("corral-theme", this.#theme);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", this.#theme);
    if (this.#data) this.#build();
  }

  disconnectedCallback() {
    this.#sizes.disconnect();
    removeEventListener("corral-theme", this.#theme);
    matchMedia("(prefers-color-scheme: dark)").removeEventListener("change", this.#theme);
    this.#plot?.destroy();
    this.#plot = null;
  }

  #resize() {
    if (this.clientWidth) this.#plot?.setSize({ width: this.clientWidth, height: HEIGHT });
  }

  #build() {
    this.#plot?.destroy();
    const style = getComputedStyle(this);
    const colour = (name) => {
      this.style.color = `var(${name})`;
      const found = getComputedStyle(this).color;
      this.style.color = "";
      return found;
    };
    const { names, format } = this.kindOf;
    const lines = [colour("--accent"), colour("--warn")];
    const below = [colour("--accent-shade"), colour("--warn-ground")];
    const axis = { stroke: colour("--quiet"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false }, font: `11px ${style.fontFamily}` };
    const options = {
      width: this.clientWidth || 300,
      height: HEIGHT,
      padding: [8, 14, 0, 0],
      legend: { show: false },
      cursor: { show: false },
      scales: {
        x: { time: true, range: (_, first, last) => [Math.min(first, last - LEAST_S), last] },
        y: { range: (_, low, high) => [0, Math.max(high * 1.1, 1)] },
      },
      axes: [
        { ...axis, size: 24, gap: 4, space: 90, values: (_, ticks) => ticks.map(clock) },
        { ...axis, size: 62, gap: 6, space: 28, values: (_, ticks) => ticks.map(format) },
      ],
      series: [
        {},
        ...names.map((name, index) => ({ label: name, stroke: lines[index], fill: below[index], width: 2, points: { show: false } })),
      ],
    };
    this.#plot = new uPlot(options, this.#data, this);
  }
}

customElements.define("corral-plot", CorralPlot);
