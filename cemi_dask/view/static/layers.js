// The panel to the left: labels, heat maps, frames, seams, pairs, indents, with their legends.

import { FRAME, INDENT, STATUS, VIRIDIS } from "./colours.js";
import { numberText } from "./scale.js";

const LABEL_TITLES = { bcc: "BCC phase", lamellar: "Lamellar regions" };
const BRIGHT_FIRST = [...VIRIDIS].reverse();

function element(name, { text = "", className = "", ...rest } = {}) {
  const made = Object.assign(document.createElement(name), rest);
  if (text) made.textContent = text;
  if (className) made.className = className;
  return made;
}

export function swatchOf(colour) {
  const swatch = element("i", { className: "swatch" });
  swatch.style.background = colour;
  return swatch;
}

function opacitySlider(name, value, changed) {
  const input = element("input", { type: "range", min: 0, max: 100, value: Math.round(100 * value) });
  input.setAttribute("aria-label", `Opacity of ${name}`);
  input.addEventListener("input", () => changed(Number(input.value) / 100));
  return input;
}

// A bar of colours with its ends; colours are set by script, as the page allows no inline style.
export function colourBar(colours, low, high, unit) {
  const bar = element("div", { className: "colourbar" });
  const strip = element("canvas", { width: 256, height: 1 });
  const pen = strip.getContext("2d");
  colours.forEach((colour, k) => {
    pen.fillStyle = colour;
    pen.fillRect(k, 0, 1, 1);
  });
  const tail = unit ? ` ${unit}` : "";
  const ends = element("div", { className: "ends" });
  ends.append(element("span", { text: numberText(low) + tail }), element("span", { text: numberText(high) + tail }));
  bar.append(strip, ends);
  return bar;
}

export class LayerPanel {
  constructor(root, info, changed) {
    this.info = info;
    this.changed = changed;
    this.labels = Object.fromEntries(info.labels.map((label) => [label.name, 0]));
    this.layers = { frames: false, seams: false, links: false, indents: false };
    this.map = "";
    this.mapOpacity = 0.7;
    this.boxes = new Map();
    root.append(...[this._labels(), this._maps(), this._stitching(), this._hardness()].filter(Boolean));
    if (!root.children.length) {
      root.append(element("p", { className: "soft", text: "A mosaic alone: give the run folder to see what was measured on it." }));
    }
  }

  _group(title, ...parts) {
    const group = element("fieldset");
    group.append(element("legend", { text: title }), ...parts);
    return group;
  }

  _check(key, title, colour, toggled, type = "checkbox") {
    const line = element("label", { className: "line" });
    const box = element("input", { type, name: type === "radio" ? "map" : key, value: key });
    box.dataset.layer = key;
    box.addEventListener("change", () => toggled(box.checked));
    line.append(box);
    if (colour) {
      line.append(swatchOf(colour));
    }
    line.append(element("span", { text: title }));
    this.boxes.set(key, box);
    return line;
  }

  _labels() {
    if (!this.info.labels.length) return null;
    const parts = this.info.labels.flatMap(({ name, colour }) => {
      const title = LABEL_TITLES[name] || name;
      const slider = opacitySlider(title, 0.5, (value) => {
        this.labels[name] = value;
        this.boxes.get(name).checked = value > 0;
        this.changed("labels");
      });
      this.boxes.set(`${name} opacity`, slider);
      return [this._check(name, title, `rgb(${colour.join(",")})`, (on) => {
        if (on && Number(slider.value) === 0) slider.value = 50;
        this.labels[name] = on ? Number(slider.value) / 100 : 0;
        this.changed("labels");
      }), slider];
    });
    return this._group("Labels", ...parts);
  }

  _maps() {
    if (!this.info.measures.length) return null;
    const pick = (column) => () => {
      this.map = column;
      this.changed("map");
    };
    this.legend = element("div");
    const none = this._check("none", "None", "", pick(""), "radio");
    none.querySelector("input").checked = true;
    this.slider = opacitySlider("the heat map", this.mapOpacity, (value) => {
      this.mapOpacity = value;
      this.changed("fade");
    });
    return this._group("Heat map", none, ...this.info.measures.map(({ column, title, unit }) =>
      this._check(column, unit ? `${title} (${unit})` : title, "", pick(column), "radio")),
    this.slider, this.legend);
  }

  _stitching() {
    const { frames, seams, doubtful_pairs: links } = this.info.counts;
    const toggle = (key) => (on) => {
      this.layers[key] = on;
      this.changed("layers");
    };
    const parts = [];
    if (frames) parts.push(this._check("frames", `Frames with σ (${frames})`, FRAME, toggle("frames")));
    if (seams) {
      this.seamLegend = element("div", { hidden: true });
      parts.push(this._check("seams", `Seams by grey step (${seams})`, "", toggle("seams")), this.seamLegend);
    }
    if (links) {
      this.linkLegend = element("p", { className: "legend", hidden: true });
      for (const [status, colour] of Object.entries(STATUS)) {
        const entry = element("span");
        entry.append(swatchOf(colour), element("span", { text: status }));
        this.linkLegend.append(entry);
      }
      parts.push(this._check("links", `Doubtful pairs (${links})`, STATUS.ambiguous, toggle("links")), this.linkLegend);
    }
    return parts.length ? this._group("Stitching", ...parts) : null;
  }

  _hardness() {
    const { indents } = this.info.counts;
    if (!indents) return null;
    return this._group("Properties", this._check("indents", `Hardness, at its x (${indents})`, INDENT, (on) => {
      this.layers.indents = on;
      this.changed("layers");
    }));
  }

  showMapLegend(map) {
    this.legend.replaceChildren(...(map ? [
      element("p", { className: "soft", text: "Darker is more. 1 to 99 % of the cells. Hatched or grey: not measurable." }),
      colourBar(VIRIDIS, map.low, map.high, map.unit),
    ] : []));
  }

  showStitchingLegends(pairs) {
    if (this.linkLegend) this.linkLegend.hidden = !this.layers.links;
    if (!this.seamLegend) return;
    this.seamLegend.hidden = !this.layers.seams;
    if (pairs) {
      this.seamLegend.replaceChildren(
        element("p", { className: "soft", text: "Step that is left across the overlap, grey levels." }),
        colourBar(BRIGHT_FIRST, 0, pairs.step_high, ""),
      );
    }
  }

  // Set everything as `state` says: labels, layers, map, mapOpacity.
  set({ labels, layers, map, mapOpacity }) {
    for (const name of Object.keys(this.labels)) {
      this.labels[name] = Math.max(0, Math.min(1, labels[name] || 0));
      this.boxes.get(name).checked = this.labels[name] > 0;
      if (this.labels[name] > 0) this.boxes.get(`${name} opacity`).value = 100 * this.labels[name];
    }
    for (const key of Object.keys(this.layers)) {
      this.layers[key] = layers.includes(key) && this.boxes.has(key);
      if (this.boxes.has(key)) this.boxes.get(key).checked = this.layers[key];
    }
    this.map = this.boxes.has(map) ? map : "";
    if (this.boxes.has("none")) this.boxes.get(this.map || "none").checked = true;
    if (mapOpacity !== null && this.slider) {
      this.mapOpacity = Math.max(0, Math.min(1, mapOpacity));
      this.slider.value = 100 * this.mapOpacity;
    }
  }
}
