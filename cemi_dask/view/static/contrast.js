// Grey levels shown as black and as white, over the histogram of the mosaic.

import { numberText } from "./scale.js";

const STEPS = 1000;

export class Contrast {
  constructor(elements, info, changed) {
    Object.assign(this, elements); // canvas, low, high, text, auto
    this.info = info;
    this.changed = changed;
    const { low, high } = info.histogram;
    this.from = Math.min(low, info.window.low);
    this.to = Math.max(high, info.window.high);
    for (const input of [this.low, this.high]) {
      input.min = 0;
      input.max = STEPS;
      input.addEventListener("input", () => this._moved(input));
    }
    this.auto.addEventListener("click", () => this.set(info.window));
    this.set(info.window, false);
  }

  set(window, tell = true) {
    this.window = { low: Number(window.low.toPrecision(5)), high: Number(window.high.toPrecision(5)) };
    this.low.value = this._step(window.low);
    this.high.value = this._step(window.high);
    this._show();
    if (tell) this.changed(this.window);
  }

  _step(level) {
    return Math.round(((level - this.from) / (this.to - this.from)) * STEPS);
  }

  _moved(input) {
    const step = (this.to - this.from) / STEPS;
    if (Number(this.low.value) >= Number(this.high.value)) {
      if (input === this.low) this.low.value = Math.max(0, Number(this.high.value) - 1);
      else this.high.value = Math.min(STEPS, Number(this.low.value) + 1);
    }
    const level = (value) => Number((this.from + value * step).toPrecision(5));
    this.window = { low: level(Number(this.low.value)), high: level(Number(this.high.value)) };
    if (this.window.high <= this.window.low) this.window.high = this.window.low + step;
    this._show();
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.changed(this.window), 90);
  }

  _show() {
    this.text.textContent = `${numberText(this.window.low)} – ${numberText(this.window.high)}`;
    this.low.setAttribute("aria-valuetext", numberText(this.window.low));
    this.high.setAttribute("aria-valuetext", numberText(this.window.high));
    this._draw();
  }

  _draw() {
    const { low, high, counts } = this.info.histogram;
    const ratio = globalThis.devicePixelRatio || 1;
    const wide = this.canvas.clientWidth, tall = this.canvas.clientHeight;
    this.canvas.width = wide * ratio;
    this.canvas.height = tall * ratio;
    const pen = this.canvas.getContext("2d");
    pen.scale(ratio, ratio);
    const most = Math.max(...counts) || 1;
    const x = (level) => ((level - this.from) / (this.to - this.from)) * wide;
    const a = x(this.window.low), b = x(this.window.high);
    counts.forEach((count, k) => {
      const left = x(low + ((high - low) * k) / counts.length);
      const right = x(low + ((high - low) * (k + 1)) / counts.length);
      const middle = (left + right) / 2;
      pen.fillStyle = middle >= a && middle <= b ? "#8fb8d6" : "#4a545e";
      const size = Math.sqrt(count / most) * (tall - 4);
      pen.fillRect(left, tall - size, Math.max(1, right - left - 0.3), size);
    });
    pen.strokeStyle = "#e8ebee";
    pen.lineWidth = 1.2;
    pen.beginPath();
    pen.moveTo(a, tall);
    pen.lineTo(b, 2);
    pen.stroke();
  }
}
