import { indexText, runs } from './bit-map.mjs';

const width = 920;
const margin = 16;
const labelWidth = 152;
const stripHeight = 50;
const rowHeight = 34;
/** Runs of one field that are drawn; of more, the first two and the last. */
const shownRuns = 4;

const ink = '#1f2937';
const faint = '#6b7280';
const colours = {
  number: ['#e5e7eb'],
  q: ['#dbeafe', '#bfdbfe'],
  scale: ['#fde68a', '#fcd34d'],
  minimum: ['#bbf7d0', '#86efac'],
};

const escape = (text) => text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');

function text(x, y, content, { size = 12, fill = ink, anchor = 'middle', mono = true, weight = 'normal' } = {}) {
  const family = mono ? 'ui-monospace, Menlo, Consolas, monospace' : 'system-ui, sans-serif';
  const style = `font-family="${family}" font-size="${size}" font-weight="${weight}" fill="${fill}" text-anchor="${anchor}"`;
  return `<text x="${round(x)}" y="${round(y)}" ${style}>${escape(content)}</text>`;
}

function box(x, y, w, h, fill) {
  return `<rect x="${round(x)}" y="${round(y)}" width="${round(w)}" height="${round(h)}" fill="${fill}" stroke="${faint}" stroke-width="0.75"/>`;
}

const round = (value) => Number(value.toFixed(2));

/** Widths of fields: in proportion to their bytes, but wide enough to be labelled. */
function fieldWidths(fields, total, least = 84) {
  const bytes = fields.map((field) => field.bytes);
  let small = bytes.map(() => false);
  for (;;) {
    const free = total - least * small.filter(Boolean).length;
    const sum = bytes.reduce((all, count, index) => all + (small[index] ? 0 : count), 0);
    const widths = bytes.map((count, index) => (small[index] ? least : (free * count) / sum));
    if (widths.every((value) => value >= least - 1e-9)) return widths;
    small = widths.map((value, index) => small[index] || value < least);
  }
}

/** The whole block, fields beside each other, with the offset of each. */
function strip(fields, map, bytes, y) {
  const widths = fieldWidths(fields, width - 2 * margin);
  const parts = [];
  let x = margin;
  for (const [index, { name, dtype, count, offset }] of fields.entries()) {
    const value = map.find(({ field }) => field.name === name)?.bytes[0][0].value ?? 'number';
    const centre = x + widths[index] / 2;
    parts.push(box(x, y, widths[index], stripHeight, colours[value][0]));
    parts.push(text(centre, y + 21, name, { size: 14, weight: 'bold' }));
    parts.push(text(centre, y + 39, count === 1 ? dtype : `${dtype} × ${count}`, { fill: faint, size: 11 }));
    parts.push(
      text(x, y + stripHeight + 15, String(offset), { fill: faint, size: 11, anchor: index === 0 ? 'start' : 'middle' }),
    );
    x += widths[index];
  }
  parts.push(text(x, y + stripHeight + 15, String(bytes), { fill: faint, size: 11, anchor: 'end' }));
  return parts;
}

/** One row: the byte that a run of bytes repeats. */
function byteRow({ field, run, y }) {
  const [left, bitWidth] = [margin + labelWidth, (width - 2 * margin - labelWidth) / 8];
  const { first, last, parts } = run;
  const range = first === last ? `${first}` : `${first} … ${last}`;
  const label = field.count === 1 ? `${field.name}, byte ${range}` : `${field.name}[${range}]`;
  const drawn = [text(margin, y + rowHeight / 2 + 4, label, { anchor: 'start' })];
  const seen = {};
  for (const [place, part] of parts.entries()) {
    const shade = (seen[part.value] = (seen[part.value] ?? -1) + 1);
    const digits = part.high === undefined;
    const w = digits ? (8 * bitWidth) / parts.length : (part.high - part.low + 1) * bitWidth;
    const x = digits ? left + place * w : left + (7 - part.high) * bitWidth;
    const bits = part.codeHigh === part.codeLow ? `bit ${part.codeLow}` : `bits ${part.codeHigh}–${part.codeLow}`;
    drawn.push(box(x, y, w, rowHeight - 4, colours[part.value][shade % colours[part.value].length]));
    drawn.push(text(x + w / 2, y + 13, `${part.value}[${indexText(part)}]`));
    drawn.push(text(x + w / 2, y + 25, digits ? `digit ${place}` : bits, { size: 10, fill: faint, mono: false }));
  }
  return drawn;
}

function bitNumbers(y) {
  const [left, bitWidth] = [margin + labelWidth, (width - 2 * margin - labelWidth) / 8];
  const heads = Array.from({ length: 8 }, (_, place) =>
    text(left + (place + 0.5) * bitWidth, y, String(7 - place), { size: 11, fill: faint }),
  );
  return [text(margin, y, 'byte i, bits', { size: 11, fill: faint, anchor: 'start', mono: false }), ...heads];
}

/** A picture of a block: its fields in the order of their bytes, and below what the bits of each byte of packed fields belong to. */
export function blockSvg({ type, bytes, fields }, map) {
  let y = margin + 22;
  const drawn = [
    text(margin, margin + 8, `${type}: ${bytes} bytes`, { anchor: 'start', mono: false, weight: 'bold', size: 13 }),
  ];
  drawn.push(...strip(fields, map, bytes, y));
  y += stripHeight + 44;
  if (map.length > 0) drawn.push(...bitNumbers(y - 8));
  for (const { field, bytes: parts } of map) {
    const all = runs(parts);
    const shown = all.length > shownRuns ? [all[0], all[1], undefined, all.at(-1)] : all;
    for (const run of shown) {
      if (run) drawn.push(...byteRow({ field, run, y }));
      else drawn.push(text(margin, y + 10, '⋮', { anchor: 'start' }));
      y += run ? rowHeight : 20;
    }
    y += 6;
  }
  const height = y + (map.length > 0 ? 6 : -16);
  const open = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img">`;
  const title = `<title>The fields and bits of a block of ${type}</title>`;
  const paper = `<rect width="${width}" height="${height}" rx="8" fill="#ffffff"/>`;
  return [open, title, paper, ...drawn, '</svg>', ''].join('\n');
}
