// Profiles along x below the mosaic, over the same range of x as is seen.

import { INK, LINES, SOFT } from "./colours.js";
import { prepare } from "./overlay.js";
import { numberText, ticks, uncertainText } from "./scale.js";

const GAP = 10; // between rows, px
const TOP = 18; // above each curve, for its name

export class Profiles {
  constructor(canvas, view) {
    this.canvas = canvas;
    this.view = view;
    this.data = { x: [], measures: [] };
    this.columns = [];
    this.chosenX = null; // middle of the chosen cell, px
    this.chosen = new Map(); // column -> value of the chosen cell
    this.pointerX = null; // screen px
    canvas.addEventListener("pointermove", (event) => {
      this.pointerX = event.offsetX;
      this.draw();
    });
    canvas.addEventListener("pointerleave", () => {
      this.pointerX = null;
      this.draw();
    });
    canvas.addEventListener("click", (event) => {
      const { x } = view.place({ x: event.offsetX, y: 0 });
      view.goTo(x, view.info.height / 2, view.scale());
    });
  }

  rows() {
    return this.data.measures.filter((m) => this.columns.includes(m.column));
  }

  draw() {
    const { pen, width, height } = prepare(this.canvas);
    const rows = this.rows();
    const each = (height - GAP) / Math.max(1, rows.length);
    const t = this.view.transform();
    rows.forEach((measure, k) => {
      const place = { top: k * each + TOP, low: (k + 1) * each - 4, width };
      this._row(pen, measure, place, t, LINES[this.data.measures.indexOf(measure) % LINES.length]);
    });
    if (this.pointerX !== null) this._line(pen, this.pointerX, height, "rgba(232, 235, 238, 0.35)");
    if (this.chosenX !== null) {
      this._line(pen, t.x + this.chosenX * t.scale, height, "rgba(255, 255, 255, 0.75)");
    }
  }

  _line(pen, x, height, colour) {
    pen.strokeStyle = colour;
    pen.lineWidth = 1;
    pen.beginPath();
    pen.moveTo(x, 0);
    pen.lineTo(x, height);
    pen.stroke();
  }

  _row(pen, measure, { top, low, width }, t, colour) {
    const xs = this.data.x.map((x) => t.x + x * t.scale);
    const [least, most] = limits(measure);
    const y = (value) => low - ((value - least) / (most - least)) * (low - top);
    pen.textBaseline = "middle";
    const marks = ticks(least, most, low - top > 60 ? 5 : 4);
    this._grid(pen, marks, y, width);
    this._band(pen, measure, xs, y, colour);
    this._curve(pen, measure, xs, y, colour);
    this._scale(pen, marks, y, width);
    this._names(pen, measure, top, colour, t);
    const value = this.chosen.get(measure.column);
    if (this.chosenX !== null && value !== null && value !== undefined) {
      pen.fillStyle = "#fff";
      pen.strokeStyle = "#14181c";
      pen.beginPath();
      pen.arc(t.x + this.chosenX * t.scale, Math.max(top, Math.min(low, y(value))), 4.5, 0, 7);
      pen.fill();
      pen.stroke();
    }
  }

  _grid(pen, marks, y, width) {
    pen.lineWidth = 1;
    pen.strokeStyle = "rgba(154, 166, 178, 0.18)";
    for (const mark of marks) {
      pen.beginPath();
      pen.moveTo(0, Math.round(y(mark)) + 0.5);
      pen.lineTo(width, Math.round(y(mark)) + 0.5);
      pen.stroke();
    }
  }

  // Numbers at the right, on a backing that keeps curves out of them; none on top of another.
  _scale(pen, marks, y, width) {
    pen.textAlign = "right";
    let free = Infinity;
    for (const mark of marks) {
      if (free - y(mark) < 13) continue; // from below upwards
      const text = numberText(mark);
      const wide = pen.measureText(text).width;
      pen.fillStyle = "rgba(23, 27, 32, 0.85)";
      pen.fillRect(width - wide - 12, y(mark) - 7, wide + 12, 14);
      pen.fillStyle = SOFT;
      pen.fillText(text, width - 6, y(mark) + 0.5);
      free = y(mark);
    }
  }

  _band(pen, { values, errors }, xs, y, colour) {
    pen.fillStyle = colour;
    pen.globalAlpha = 0.22;
    for (const run of runs(values)) {
      pen.beginPath();
      run.forEach((k, n) => pen[n ? "lineTo" : "moveTo"](xs[k], y(values[k] + (errors[k] || 0))));
      [...run].reverse().forEach((k) => pen.lineTo(xs[k], y(values[k] - (errors[k] || 0))));
      pen.closePath();
      pen.fill();
    }
    pen.globalAlpha = 1;
  }

  _curve(pen, { values }, xs, y, colour) {
    pen.strokeStyle = pen.fillStyle = colour;
    pen.lineWidth = 1.6;
    pen.lineJoin = "round";
    const apart = xs.length > 1 ? Math.abs(xs[1] - xs[0]) : 99;
    for (const run of runs(values)) {
      pen.beginPath();
      run.forEach((k, n) => pen[n ? "lineTo" : "moveTo"](xs[k], y(values[k])));
      pen.stroke();
      if (apart < 14 && run.length > 1) continue;
      for (const k of run) {
        pen.beginPath();
        pen.arc(xs[k], y(values[k]), 2.6, 0, 7);
        pen.fill();
      }
    }
  }

  _names(pen, measure, top, colour, t) {
    pen.textAlign = "left";
    pen.fillStyle = colour;
    pen.fillRect(10, top - 12, 10, 3);
    pen.fillStyle = INK;
    const unit = measure.unit ? ` (${measure.unit})` : "";
    pen.fillText(measure.title + unit, 26, top - 10);
    if (this.pointerX === null || !this.data.x.length) return;
    const at = (this.pointerX - t.x) / t.scale;
    const near = this.data.x.reduce((best, x, k) =>
      Math.abs(x - at) < Math.abs(this.data.x[best] - at) ? k : best, 0);
    const wide = pen.measureText(measure.title + unit).width;
    pen.fillStyle = SOFT;
    pen.fillText(uncertainText(measure.values[near], measure.errors[near], ""), 26 + wide + 14, top - 10);
  }
}

// Numbers of neighbouring places that all have a value.
function runs(values) {
  const found = [];
  values.forEach((value, k) => {
    if (value === null) return;
    if (k > 0 && values[k - 1] !== null && found.length) found[found.length - 1].push(k);
    else found.push([k]);
  });
  return found;
}

function limits({ values, errors }) {
  const ends = values.flatMap((v, k) => (v === null ? [] : [v - (errors[k] || 0), v + (errors[k] || 0)]));
  if (!ends.length) return [0, 1];
  const least = Math.min(...ends), most = Math.max(...ends);
  const pad = (most - least) * 0.08 || Math.abs(most) * 0.05 || 1;
  return [least - pad, most + pad];
}
