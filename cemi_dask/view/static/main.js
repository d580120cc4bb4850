// The page: what happens when something is moved, switched or clicked.

import * as api from "./api.js";
import { LINES, VIRIDIS } from "./colours.js";
import { Contrast } from "./contrast.js";
import { Details } from "./details.js";
import { ImageView } from "./image.js";
import { LayerPanel, swatchOf } from "./layers.js";
import { Overlay } from "./overlay.js";
import { Profiles } from "./profiles.js";
import { lengthText, numberText, pixelsText, placeText, scaleBar } from "./scale.js";
import { readView, save, viewPicture, writeView } from "./share.js";

const byId = (id) => document.getElementById(id);

function say(text) {
  const note = byId("note");
  note.textContent = text;
  note.hidden = !text;
  clearTimeout(say.timer);
  if (text) say.timer = setTimeout(() => say(""), 4000);
}

class Page {
  constructor(info) {
    this.info = info;
    this.drawing = null;
    document.title = `${info.name} – cemi view`;
    byId("name").textContent = info.name;
    byId("size").textContent = this._sizeText();
    this.view = new ImageView(byId("image"), byId("navigator"), info);
    this.overlay = new Overlay(byId("overlay"), this.view);
    this.profiles = new Profiles(byId("profiles"), this.view);
    this.panel = new LayerPanel(byId("layers"), info, (what) => this.switched(what));
    this.details = new Details(byId("details"), info, {
      closed: () => this.choose(null),
      hovered: (box) => {
        this.overlay.frame = box;
        this.draw();
      },
    });
    this.contrast = new Contrast({
      canvas: byId("histogram"), low: byId("low"), high: byId("high"),
      text: byId("levels"), auto: byId("auto"),
    }, info, (window) => {
      this.view.setWindow(window);
      this.remember();
    });
    this.view.onChange(() => this.draw());
    this._buttons();
    this._pointer();
  }

  _sizeText() {
    const { width, height, pixel_um: um, dtype } = this.info;
    const real = um ? `${lengthText(width, um)} × ${lengthText(height, um)}, ` : "";
    return `${real}${width.toLocaleString("en")} × ${height.toLocaleString("en")} px, `
      + `${pixelsText(width * height)}, ${dtype}`;
  }

  async start() {
    await this.view.ready;
    if (location.hash) this.restore();
    await this._loadProfile();
    this.view.viewer.addHandler("animation-finish", () => this.settled());
    addEventListener("hashchange", () => {
      if (location.hash !== this.written) this.restore();
    });
    this.settled();
  }

  async _loadProfile() {
    const data = this.info.counts.profile ? await api.profile() : { x: [], measures: [] };
    byId("below").hidden = byId("choose").hidden = !data.measures.length;
    if (!data.measures.length) return;
    this.profiles.data = data;
    this.profiles.columns = data.measures.slice(0, 3).map((m) => m.column);
    const choice = byId("curves");
    for (const [k, { column, title }] of data.measures.entries()) {
      const label = document.createElement("label");
      label.className = "line";
      const box = Object.assign(document.createElement("input"), {
        type: "checkbox", checked: this.profiles.columns.includes(column),
      });
      box.addEventListener("change", () => {
        const kept = new Set(this.profiles.columns);
        kept[box.checked ? "add" : "delete"](column);
        this.profiles.columns = [...kept];
        this.profiles.draw();
      });
      label.append(box, swatchOf(LINES[k % LINES.length]), title);
      choice.append(label);
    }
  }

  draw() {
    if (this.drawing) return;
    this.drawing = requestAnimationFrame(() => {
      this.drawing = null;
      this.overlay.draw();
      if (!byId("below").hidden) this.profiles.draw();
      this._drawBar();
    });
  }

  _drawBar() {
    this.bar = scaleBar(Math.min(220, this.view.size().width / 4), this.view.scale(), this.info.pixel_um);
    byId("bar").style.width = `${this.bar.screen}px`;
    byId("bartext").textContent = this.bar.text;
    const scale = this.view.scale() * (globalThis.devicePixelRatio || 1);
    byId("zoom").textContent = scale >= 0.995 ? `${numberText(Math.round(scale * 100) / 100)} : 1`
      : `1 : ${numberText(Number((1 / scale).toPrecision(3)))}`;
  }

  // After a movement: what lies in the part that is seen, and the address of the view.
  async settled() {
    this.draw();
    this.remember();
    const { frames, seams, links } = this.panel.layers;
    if (frames) await this._load("frames", api.frames);
    if (seams || links) await this._load("pairs", api.pairs);
    this.panel.showStitchingLegends(this.overlay.pairs);
    this.draw();
  }

  // All of a kind at once where the server gives it, else what is seen and its surroundings.
  async _load(kind, from) {
    const seen = this.view.visible();
    const known = this.overlay[kind];
    if (known && (known.all || contains(known.box, seen))) return;
    const margin = (seen.x1 - seen.x0) / 3;
    const all = { x0: 0, y0: 0, x1: this.info.width, y1: this.info.height };
    const wide = { x0: seen.x0 - margin, y0: seen.y0 - margin, x1: seen.x1 + margin, y1: seen.y1 + margin };
    const box = known ? wide : all;
    const found = await from(box);
    const complete = found[kind].length === found.total;
    this.overlay[kind] = { ...found, all: box === all && complete, box: complete ? box : { x0: 0, y0: 0, x1: 0, y1: 0 } };
    if (!known && !complete) await this._load(kind, from);
    else if (!complete) say(`${found.total} ${kind} here, too many to draw: zoom in.`);
  }

  async switched(what) {
    try {
      if (what === "labels") {
        for (const [name, opacity] of Object.entries(this.panel.labels)) this.view.setLabel(name, opacity);
      }
      if (what === "map") await this._showMap();
      if (this.overlay.map) this.overlay.map.opacity = this.panel.mapOpacity;
      Object.assign(this.overlay.shown, this.panel.layers);
      if (this.panel.layers.indents && !this.overlay.indents) this.overlay.indents = await api.indents();
      await this.settled();
    } catch (error) {
      say(error.message);
    }
  }

  async _showMap() {
    const column = this.panel.map;
    const map = column ? await api.heatMap(column) : null;
    if (column !== this.panel.map) return; // another one was chosen meanwhile
    this.overlay.map = map ? { map, opacity: this.panel.mapOpacity } : null;
    this.panel.showMapLegend(map);
  }

  async lookAt(place) {
    try {
      const found = await api.at(place.x, place.y);
      this.details.show(place, found);
      this.choose(found.cell);
    } catch (error) {
      say(error.message);
    }
  }

  choose(cell) {
    this.overlay.cell = cell ? cell.box : null;
    this.overlay.frame = null;
    this.profiles.chosenX = cell ? cell.box[0] + cell.box[2] / 2 : null;
    this.profiles.chosen = new Map(cell ? cell.measures.map((m) => [m.column, m.value]) : []);
    this.draw();
  }

  remember() {
    const { x, y } = this.view.centre();
    const layers = Object.entries(this.panel.layers).filter(([, on]) => on).map(([key]) => key);
    this.written = writeView({
      x, y, scale: this.view.scale(), window: this.contrast.window, map: this.panel.map,
      mapOpacity: this.panel.mapOpacity, labels: this.panel.labels, layers,
    });
    history.replaceState(null, "", this.written);
  }

  restore() {
    const state = readView(location.hash);
    if (state.x !== null && state.y !== null && state.scale > 0) {
      this.view.goTo(state.x, state.y, state.scale, true);
    }
    if (state.low !== null && state.high > state.low) {
      const { low, high } = this.contrast.window;
      if (state.low !== low || state.high !== high) this.contrast.set(state);
    }
    this.panel.set(state);
    this.switched("labels");
    this.switched("map");
  }

  _buttons() {
    byId("fit").addEventListener("click", () => this.view.fit());
    byId("full").addEventListener("click", () => this.view.fullSize());
    byId("in").addEventListener("click", () => this._zoom(1.6));
    byId("out").addEventListener("click", () => this._zoom(1 / 1.6));
    byId("suit").addEventListener("click", async () => {
      try {
        this.contrast.set(await api.windowOf(this.view.visible()));
      } catch (error) {
        say(error.message);
      }
    });
    byId("link").addEventListener("click", () => this._copyLink());
    byId("png").addEventListener("click", () => this._savePng());
    for (const [id, bar] of [["tiff", false], ["tiffbar", true]]) {
      byId(id).addEventListener("click", () => this._saveTiff(bar));
    }
    byId("menu").addEventListener("click", () => document.body.classList.toggle("panel-hidden"));
    addEventListener("keydown", (event) => this._key(event));
  }

  _zoom(factor) {
    this.view.viewer.viewport.zoomBy(factor);
    this.view.viewer.viewport.applyConstraints();
  }

  _key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || /^(INPUT|SELECT)$/.test(event.target.tagName)) return;
    const actions = {
      0: () => this.view.fit(), 1: () => this.view.fullSize(),
      l: () => document.body.classList.toggle("panel-hidden"),
      Escape: () => {
        this.details.hide();
        this.choose(null);
      },
    };
    if (actions[event.key]) actions[event.key]();
  }

  async _copyLink() {
    this.remember();
    try {
      await navigator.clipboard.writeText(location.href);
      say("The link to this view is on the clipboard.");
    } catch {
      say("The address of this page is the link to this view.");
    }
  }

  async _savePng() {
    const map = this.overlay.map && this.overlay.map.opacity > 0 ? this.overlay.map.map : null;
    const tail = map && map.unit ? ` ${map.unit}` : "";
    const legend = map ? {
      colours: VIRIDIS, title: map.title, low: numberText(map.low) + tail, high: numberText(map.high) + tail,
    } : null;
    this.picture = await viewPicture(this.view, byId("overlay"), this.bar, legend);
    save(this.picture, `${this.info.name.replaceAll(/[^\w-]+/g, "_")}.png`);
  }

  // The region that is seen, at the level whose pixels are about as large as the screen's.
  _saveTiff(bar) {
    const seen = this.view.visible();
    const box = {
      x0: Math.max(0, seen.x0), y0: Math.max(0, seen.y0),
      x1: Math.min(this.info.width, seen.x1), y1: Math.min(this.info.height, seen.y1),
    };
    if (box.x1 <= box.x0 || box.y1 <= box.y0) return say("Nothing of the mosaic is seen.");
    const ratio = globalThis.devicePixelRatio || 1;
    const level = Math.max(0, Math.min(this.info.levels - 1, Math.floor(Math.log2(1 / (this.view.scale() * ratio)))));
    this.crop = api.cropAddress(box, level, this.contrast.window, bar);
    const link = document.createElement("a");
    link.href = this.crop;
    link.download = "";
    link.click();
    return undefined;
  }

  _pointer() {
    const canvas = this.view.viewer.canvas;
    canvas.addEventListener("pointermove", (event) => {
      const box = canvas.getBoundingClientRect();
      const { x, y } = this.view.place({ x: event.clientX - box.left, y: event.clientY - box.top });
      const um = this.info.pixel_um;
      byId("place").textContent = `x ${placeText(x, um)}   y ${placeText(y, um)}`;
      this.profiles.pointerX = event.clientX - box.left;
      if (!byId("below").hidden) this.draw();
    });
    canvas.addEventListener("pointerleave", () => {
      this.profiles.pointerX = null;
      this.draw();
    });
    this.view.viewer.addHandler("canvas-click", (event) => {
      if (event.quick) this.lookAt(this.view.place(event.position));
    });
    new ResizeObserver(() => {
      this.view.resized();
      this.draw();
    }).observe(byId("stage"));
  }
}

function contains(outer, inner) {
  return outer.x0 <= inner.x0 && outer.y0 <= inner.y0 && outer.x1 >= inner.x1 && outer.y1 >= inner.y1;
}

try {
  const page = new Page(await api.info());
  globalThis.cemi = page; // for tests and for whoever looks with the browser's tools
  await page.start();
  document.documentElement.dataset.ready = "yes";
} catch (error) {
  say("");
  byId("note").hidden = false;
  byId("note").textContent = `The mosaic cannot be shown: ${error.message}`;
}
