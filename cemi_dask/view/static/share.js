// A view as part of the address, and as a picture.

// Words of the address -> what to show; unknown or broken ones are left out.
export function readView(hash) {
  const words = new URLSearchParams(hash.replace(/^#/, ""));
  const number = (name) => {
    const value = Number(words.get(name));
    return words.get(name) !== null && Number.isFinite(value) ? value : null;
  };
  const pairs = (name) => Object.fromEntries((words.get(name) || "").split(",").filter(Boolean)
    .map((part) => part.split(":")).map(([key, value]) => [key, value === undefined ? 1 : Number(value)])
    .filter(([, value]) => Number.isFinite(value)));
  return {
    x: number("x"), y: number("y"), scale: number("zoom"),
    low: number("low"), high: number("high"),
    map: words.get("map") || "", mapOpacity: number("fade"),
    labels: pairs("labels"), layers: (words.get("layers") || "").split(",").filter(Boolean),
  };
}

export function writeView({ x, y, scale, window, map, mapOpacity, labels, layers }) {
  const words = new URLSearchParams({
    x: x.toFixed(1), y: y.toFixed(1), zoom: Number(scale.toPrecision(4)),
    low: window.low, high: window.high,
  });
  if (map) {
    words.set("map", map);
    words.set("fade", mapOpacity);
  }
  const shown = Object.entries(labels).filter(([, opacity]) => opacity > 0);
  if (shown.length) words.set("labels", shown.map(([name, value]) => `${name}:${value}`).join(","));
  if (layers.length) words.set("layers", layers.join(","));
  return `#${words.toString().replaceAll("%3A", ":").replaceAll("%2C", ",")}`;
}

// The view as it is seen, with its scale bar and colour bar, as a PNG.
export async function viewPicture(view, overlay, bar, legend) {
  const source = view.viewer.drawer.canvas;
  const canvas = document.createElement("canvas");
  canvas.width = source.width;
  canvas.height = source.height;
  const pen = canvas.getContext("2d");
  pen.fillStyle = "#0e1114";
  pen.fillRect(0, 0, canvas.width, canvas.height);
  pen.drawImage(source, 0, 0);
  pen.drawImage(overlay, 0, 0, canvas.width, canvas.height);
  const ratio = canvas.width / view.size().width;
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  drawBar(pen, canvas.width / ratio, canvas.height / ratio, bar);
  if (legend) drawLegend(pen, canvas.height / ratio, legend);
  return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
}

function drawBar(pen, width, height, { screen, text }) {
  pen.font = "600 14px system-ui, 'Segoe UI', Roboto, Arial, sans-serif";
  const wide = Math.max(screen, pen.measureText(text).width) + 24;
  const x = width - wide - 14, y = height - 14 - 42;
  pen.fillStyle = "rgba(14, 17, 20, 0.82)";
  pen.fillRect(x, y, wide, 42);
  pen.fillStyle = "#fff";
  pen.textAlign = "center";
  pen.textBaseline = "alphabetic";
  pen.fillText(text, x + wide / 2, y + 20);
  pen.fillRect(x + (wide - screen) / 2, y + 28, screen, 4);
}

function drawLegend(pen, height, { colours, low, high, title }) {
  const wide = 200, x = 14, y = height - 14 - 50;
  pen.font = "12px system-ui, 'Segoe UI', Roboto, Arial, sans-serif";
  const full = Math.max(wide, pen.measureText(title).width) + 20;
  pen.fillStyle = "rgba(14, 17, 20, 0.82)";
  pen.fillRect(x, y, full, 50);
  colours.forEach((colour, k) => {
    pen.fillStyle = colour;
    pen.fillRect(x + 10 + (k * wide) / colours.length, y + 22, wide / colours.length + 0.6, 8);
  });
  pen.fillStyle = "#fff";
  pen.textBaseline = "alphabetic";
  pen.textAlign = "left";
  pen.fillText(title, x + 10, y + 16);
  pen.fillText(low, x + 10, y + 44);
  pen.textAlign = "right";
  pen.fillText(high, x + 10 + wide, y + 44);
}

export function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
