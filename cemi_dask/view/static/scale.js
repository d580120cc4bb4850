// Lengths and numbers as people read them.

// The largest of 1, 2, 5 x 10^k that is not longer than `longest`.
export function roundLength(longest) {
  const power = 10 ** Math.floor(Math.log10(longest));
  return [5, 2, 1].map((step) => step * power).find((length) => length <= longest * (1 + 1e-9));
}

const short = (value) => String(Number(value.toPrecision(4)));

// A length in px or, where a pixel's size is known, in nm, um or mm.
export function lengthText(px, pixelUm) {
  if (!pixelUm) return `${short(px)} px`;
  const um = px * pixelUm;
  if (Math.abs(um) >= 1000) return `${short(um / 1000)} mm`;
  return Math.abs(um) >= 1 ? `${short(um)} µm` : `${short(um * 1000)} nm`;
}

// A round bar of at most `longestScreen` screen px: its length on screen and its text.
export function scaleBar(longestScreen, screenPerPx, pixelUm) {
  const unit = pixelUm || 1;
  const length = roundLength((longestScreen / screenPerPx) * unit);
  return { screen: (length / unit) * screenPerPx, text: lengthText(length / unit, pixelUm) };
}

// A place along an axis: the middle of the first pixel is 0.
export function placeText(px, pixelUm) {
  const centred = px - 0.5;
  if (!pixelUm) return `${Math.round(centred)} px`;
  return `${(centred * pixelUm).toFixed(pixelUm < 0.05 ? 2 : 1)} µm`;
}

// A number with as many digits as tell something.
export function numberText(value) {
  if (value === null || value === undefined) return "–";
  if (value === 0) return "0";
  const size = Math.abs(value);
  const text = size >= 1e5 || size < 1e-3 ? value.toExponential(2) : String(Number(value.toPrecision(4)));
  return text.replace("-", "−");
}

// A standard deviation: two digits tell all.
export function sigmaText(value) {
  return value === null || value === undefined ? "–" : String(Number(value.toPrecision(2)));
}

// A value with its standard error, to the digits that the error allows.
export function uncertainText(value, error, unit) {
  if (value === null) return "not measurable";
  const tail = unit ? ` ${unit}` : "";
  if (error === null || !(error > 0)) return numberText(value) + tail;
  const digits = Math.max(0, Math.min(6, 1 - Math.floor(Math.log10(error))));
  return `${value.toFixed(digits)} ± ${error.toFixed(digits)}${tail}`.replace("-", "−");
}

// Three to five round ticks between two values.
export function ticks(low, high, most = 4) {
  const raw = (high - low) / most;
  if (!(raw > 0)) return [low];
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map((s) => s * power).find((s) => s >= raw);
  const found = [];
  for (let t = Math.ceil(low / step - 1e-9) * step; t <= high + step * 1e-9; t += step) {
    found.push(Number(t.toPrecision(12)));
  }
  return found;
}

export function pixelsText(count) {
  if (count >= 1e9) return `${(count / 1e9).toPrecision(3)} gigapixels`;
  return `${(count / 1e6).toPrecision(3)} megapixels`;
}
