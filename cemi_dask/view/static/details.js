// What the tables say about the place that was clicked: its cell, its frames.

import { numberText, placeText, sigmaText, uncertainText } from "./scale.js";

function element(name, text = "", className = "") {
  const made = document.createElement(name);
  made.textContent = text;
  if (className) made.className = className;
  return made;
}

export class Details {
  constructor(panel, info, { closed, hovered }) {
    this.panel = panel;
    this.info = info;
    this.body = panel.querySelector(".body");
    this.hovered = hovered;
    panel.querySelector(".close").addEventListener("click", () => {
      this.hide();
      closed();
    });
  }

  hide() {
    this.panel.hidden = true;
  }

  show(place, found) {
    const um = this.info.pixel_um;
    this.body.replaceChildren(
      element("p", `x ${placeText(place.x, um)}, y ${placeText(place.y, um)}`, "soft"),
      ...this._cell(found.cell),
      ...this._frames(found),
    );
    this.panel.hidden = false;
  }

  _cell(cell) {
    if (!cell) return this.info.counts.cells ? [element("p", "No cell of the grid here.")] : [];
    const table = element("table");
    table.id = "cell-measures";
    for (const m of cell.measures) {
      const row = element("tr");
      row.dataset.column = m.column;
      row.dataset.stored = m.stored === null ? "" : String(m.stored);
      row.append(element("th", m.title), element("td", uncertainText(m.value, m.error, m.unit)));
      table.append(row);
    }
    const share = cell.valid_fraction;
    const note = share !== null && share < 0.995 ? `, ${numberText(100 * share)} % with data` : "";
    return [
      element("h3", `Cell: row ${cell.row}, column ${cell.col}${note}`),
      table,
      element("p", "± one standard error, as in tables/cells.csv. White dots in the profiles: this cell.", "soft"),
    ];
  }

  // Where there are folders, the name alone; the whole path as a hint.
  _file(path) {
    const shown = element("span", (path || "").split(/[\\/]/).pop());
    shown.title = path || "";
    return shown;
  }

  _frames({ frames, frame_count: count }) {
    if (!count) return [];
    const list = element("ul", "", "frames");
    for (const frame of frames) {
      const item = element("li");
      item.tabIndex = 0;
      item.append(element("strong", `Frame ${frame.frame}`), this._file(frame.file));
      const time = frame.time_s === null || frame.time_s === undefined ? "" : `at ${numberText(frame.time_s)} s`;
      const number = frame.source_index === undefined ? "" : `picture ${frame.source_index}`;
      const sigma = frame.sigma_x_px === null || frame.sigma_x_px === undefined ? ""
        : `σ ${sigmaText(frame.sigma_x_px)} × ${sigmaText(frame.sigma_y_px)} px`;
      item.append(element("span", [number, time, sigma].filter(Boolean).join(", "), "soft"));
      for (const name of ["pointerenter", "focus"]) {
        item.addEventListener(name, () => this.hovered(frame.box));
      }
      for (const name of ["pointerleave", "blur"]) {
        item.addEventListener(name, () => this.hovered(null));
      }
      list.append(item);
    }
    const more = count > frames.length ? ` (${frames.length} of ${count})` : "";
    return [element("h3", `Frames here${more}`), list];
  }
}
