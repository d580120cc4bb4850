// What the server knows, as JSON.

export async function ask(address) {
  const answer = await fetch(address, { credentials: "same-origin" });
  if (!answer.ok) throw new Error((await answer.text()).trim() || `HTTP ${answer.status}`);
  return answer.json();
}

const boxQuery = (box) =>
  `x0=${box.x0.toFixed(1)}&y0=${box.y0.toFixed(1)}&x1=${box.x1.toFixed(1)}&y1=${box.y1.toFixed(1)}`;

export const info = () => ask("info");
export const heatMap = (column) => ask(`map/${encodeURIComponent(column)}`);
export const profile = () => ask("layer/profile");
export const indents = () => ask("layer/indents");
export const frames = (box) => ask(`layer/frames?${boxQuery(box)}`);
export const pairs = (box) => ask(`layer/pairs?${boxQuery(box)}`);
export const windowOf = (box) => ask(`window?${boxQuery(box)}`);
export const at = (x, y) => ask(`layer/at?x=${x.toFixed(2)}&y=${y.toFixed(2)}`);

export function cropAddress(box, level, window, bar) {
  const shown = bar ? `&bar=1&low=${window.low}&high=${window.high}` : "";
  return `crop.tif?${boxQuery(box)}&level=${level}${shown}`;
}
