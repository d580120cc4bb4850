// What is drawn over the mosaic: heat map, frames, seams, doubtful pairs, indents, what is chosen.

import { colourOf, FRAME, INDENT, SELECTED, STATUS } from "./colours.js";
import { numberText, sigmaText } from "./scale.js";

const FONT = "12px system-ui, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif";
const MOST_TEXT = 400; // labels at once
const MOST_CELLS = 20_000; // drawn one by one

// A drawing area of the size of `canvas` on the page, in CSS px.
export function prepare(canvas) {
  const ratio = globalThis.devicePixelRatio || 1;
  const { clientWidth: width, clientHeight: height } = canvas;
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  const pen = canvas.getContext("2d");
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, width, height);
  pen.font = FONT;
  return { pen, width, height };
}

// Text with a dark backing whose upper left corner is at x, y.
function tag(pen, text, x, y, colour) {
  const wide = pen.measureText(text).width;
  pen.fillStyle = "rgba(14, 17, 20, 0.78)";
  pen.fillRect(x, y, wide + 10, 18);
  pen.fillStyle = colour;
  pen.textBaseline = "middle";
  pen.textAlign = "left";
  pen.fillText(text, x + 5, y + 9.5);
}

export class Overlay {
  constructor(canvas, view) {
    this.canvas = canvas;
    this.view = view;
    this.map = null; // { map, opacity }
    this.frames = null;
    this.pairs = null;
    this.shown = { frames: false, seams: false, links: false, indents: false };
    this.indents = null;
    this.cell = null;
    this.frame = null;
  }

  draw() {
    const { pen, width, height } = prepare(this.canvas);
    const t = this.view.transform();
    const place = { pen, width, height, t };
    if (this.map && this.map.opacity > 0) this._drawMap(place);
    if (this.shown.seams && this.pairs) this._drawSeams(place);
    if (this.shown.frames && this.frames) this._drawFrames(place);
    if (this.shown.links && this.pairs) this._drawLinks(place);
    if (this.shown.indents && this.indents) this._drawIndents(place);
    this._drawChosen(place);
  }

  _drawMap({ pen, width, height, t }) {
    const { map, opacity } = this.map;
    pen.globalAlpha = opacity;
    if (map.values.length * map.values[0].length > MOST_CELLS) {
      this._drawMapAsPicture(pen, map, t);
      pen.globalAlpha = 1;
      return;
    }
    const xs = map.x_edges.map((v) => Math.round(t.x + v * t.scale));
    const ys = map.y_edges.map((v) => Math.round(t.y + v * t.scale));
    for (let col = 0; col + 1 < xs.length; col++) {
      if (xs[col + 1] < 0 || xs[col] > width) continue;
      for (let row = 0; row + 1 < ys.length; row++) {
        if (ys[row + 1] < 0 || ys[row] > height) continue;
        pen.fillStyle = colourOf(map.values[row][col], map.low, map.high) || this._hatch(pen);
        // Neighbours share whole screen px, so that no gap shows between them.
        pen.fillRect(xs[col], ys[row], Math.max(1, xs[col + 1] - xs[col]),
          Math.max(1, ys[row + 1] - ys[row]));
      }
    }
    pen.globalAlpha = 1;
  }

  // Fine grids, a pixel per cell, stretched: cells that are not measurable are grey, not hatched.
  _drawMapAsPicture(pen, map, t) {
    if (this.picture?.map !== map) {
      const canvas = document.createElement("canvas");
      canvas.width = map.values[0].length;
      canvas.height = map.values.length;
      const small = canvas.getContext("2d");
      map.values.forEach((line, row) => line.forEach((value, col) => {
        small.fillStyle = colourOf(value, map.low, map.high) || "#5b666f";
        small.fillRect(col, row, 1, 1);
      }));
      this.picture = { map, canvas };
    }
    const [x0, x1] = [map.x_edges[0], map.x_edges.at(-1)];
    const [y0, y1] = [map.y_edges[0], map.y_edges.at(-1)];
    pen.imageSmoothingEnabled = false;
    pen.drawImage(this.picture.canvas, t.x + x0 * t.scale, t.y + y0 * t.scale,
      (x1 - x0) * t.scale, (y1 - y0) * t.scale);
  }

  _hatch(pen) {
    if (!this.hatching) {
      const small = document.createElement("canvas");
      small.width = small.height = 8;
      const p = small.getContext("2d");
      p.fillStyle = "#3a4249";
      p.fillRect(0, 0, 8, 8);
      p.strokeStyle = "#8b97a2";
      p.lineWidth = 1.2;
      for (const shift of [-8, 0, 8]) {
        p.beginPath();
        p.moveTo(shift, 8);
        p.lineTo(shift + 8, 0);
        p.stroke();
      }
      this.hatching = pen.createPattern(small, "repeat");
    }
    return this.hatching;
  }

  _drawFrames({ pen, width, height, t }) {
    const [wide, high] = this.frames.size.map((n) => n * t.scale);
    pen.strokeStyle = FRAME;
    const dense = wide < 12;
    pen.globalAlpha = dense ? 0.35 : 0.85;
    pen.lineWidth = wide < 60 ? 0.6 : 1.2;
    const labelled = [];
    pen.beginPath();
    for (const [number, fx, fy, sigma] of this.frames.frames) {
      const x = t.x + fx * t.scale, y = t.y + fy * t.scale;
      if (x > width || y > height || x + wide < 0 || y + high < 0) continue;
      pen.rect(x, y, wide, high);
      labelled.push([number, x, y, sigma]);
    }
    pen.stroke();
    pen.globalAlpha = 1;
    if (wide < 90 || labelled.length > MOST_TEXT) return;
    // Frames overlap by about half: only where there is room are sigmas written too.
    const full = wide > 330;
    for (const [number, x, y, sigma] of labelled) {
      const known = sigma === null ? "" : `  σ ${sigmaText(sigma)} px`;
      tag(pen, full ? `${number}${known}` : `${number}`, x + 3, y + 3, FRAME);
    }
  }

  // The middle line of each overlap of neighbours, coloured by the grey step left across it.
  _drawSeams({ pen, width, height, t }) {
    const [wide, high] = this.pairs.size;
    pen.lineWidth = Math.max(1.5, Math.min(5, wide * t.scale * 0.02));
    pen.lineCap = "round";
    for (const [, , xi, yi, xj, yj, status, , step] of this.pairs.pairs) {
      if (status !== "ok" || step === null) continue;
      const x0 = Math.max(xi, xj), x1 = Math.min(xi, xj) + wide;
      const y0 = Math.max(yi, yj), y1 = Math.min(yi, yj) + high;
      const upright = y1 - y0 >= x1 - x0;
      if (Math.max((x1 - x0) / wide, (y1 - y0) / high) < 0.6) continue; // corners
      const mx = (x0 + x1) / 2, my = (y0 + y1) / 2;
      const [ax, ay, bx, by] = upright ? [mx, y0, mx, y1] : [x0, my, x1, my];
      const sx = t.x + ax * t.scale, sy = t.y + ay * t.scale;
      const ex = t.x + bx * t.scale, ey = t.y + by * t.scale;
      if (Math.max(sx, ex) < 0 || Math.min(sx, ex) > width) continue;
      if (Math.max(sy, ey) < 0 || Math.min(sy, ey) > height) continue;
      pen.strokeStyle = colourOf(this.pairs.step_high - Math.abs(step), 0, this.pairs.step_high);
      pen.beginPath();
      pen.moveTo(sx, sy);
      pen.lineTo(ex, ey);
      pen.stroke();
    }
  }

  _drawLinks({ pen, t }) {
    const [wide, high] = this.pairs.size;
    pen.lineCap = "round";
    const line = wide * t.scale < 40 ? 1.4 : 2.4;
    for (const [, , xi, yi, xj, yj, status] of this.pairs.pairs) {
      if (status === "ok") continue;
      const ends = [[xi, yi], [xj, yj]].map(([x, y]) =>
        [t.x + (x + wide / 2) * t.scale, t.y + (y + high / 2) * t.scale]);
      for (const [colour, thick] of [["rgba(14, 17, 20, 0.7)", line + 2], [STATUS[status] || "#fff", line]]) {
        pen.strokeStyle = pen.fillStyle = colour;
        pen.lineWidth = thick;
        pen.beginPath();
        pen.moveTo(...ends[0]);
        pen.lineTo(...ends[1]);
        pen.stroke();
        for (const end of ends) {
          pen.beginPath();
          pen.arc(...end, thick, 0, 2 * Math.PI);
          pen.fill();
        }
      }
    }
  }

  // Hardness is known along x alone: a mark at half height, a faint line across.
  _drawIndents({ pen, width, t }) {
    const { x: xs, values } = this.indents;
    const high = this.view.info.height * t.scale;
    const y = t.y + high / 2;
    let free = -Infinity;
    for (let k = 0; k < xs.length; k++) {
      const x = t.x + xs[k] * t.scale;
      if (x < -20 || x > width + 20) continue;
      pen.strokeStyle = INDENT;
      pen.globalAlpha = 0.45;
      pen.lineWidth = 1;
      pen.setLineDash([4, 4]);
      pen.beginPath();
      pen.moveTo(x, t.y);
      pen.lineTo(x, t.y + high);
      pen.stroke();
      pen.setLineDash([]);
      pen.globalAlpha = 1;
      pen.fillStyle = INDENT;
      pen.strokeStyle = "rgba(14, 17, 20, 0.9)";
      pen.lineWidth = 1.5;
      pen.beginPath();
      pen.moveTo(x, y - 7);
      pen.lineTo(x + 7, y);
      pen.lineTo(x, y + 7);
      pen.lineTo(x - 7, y);
      pen.closePath();
      pen.fill();
      pen.stroke();
      const text = numberText(values[k]);
      const wide = pen.measureText(text).width + 10;
      if (x - wide / 2 > free + 6) {
        tag(pen, text, x - wide / 2, y + 11, INDENT);
        free = x + wide / 2;
      }
    }
  }

  _drawChosen({ pen, t }) {
    for (const [box, colour] of [[this.frame, FRAME], [this.cell, SELECTED]]) {
      if (!box) continue;
      const [x, y, wide, high] = box;
      const place = [t.x + x * t.scale, t.y + y * t.scale, wide * t.scale, high * t.scale];
      pen.strokeStyle = "rgba(14, 17, 20, 0.85)";
      pen.lineWidth = 4;
      pen.strokeRect(...place);
      pen.strokeStyle = colour;
      pen.lineWidth = 2;
      pen.strokeRect(...place);
    }
  }
}
