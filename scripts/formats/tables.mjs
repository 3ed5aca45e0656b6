import { built, markdownTable } from '../lib/generated-parts.mjs';
import { described, quantization } from './describe.mjs';
import { models } from './model-shapes.mjs';

const { decodeRow, encodeRow, floatFormats, formulaFunctions, formulaTables, planQuantization, rowBytes } = quantization;
const { numberToF16, Random } = await built('core-tensor');

/** Weights that the errors are measured with. */
const samples = 2 ** 16;
const seed = 1;

const code = (text) => `\`${text}\``;
const number = (value, digits = 4) => String(Number(value.toFixed(digits)));
const mark = (yes) => (yes ? '●' : '');

/** What is stored of a code: its bits, or what it is instead. */
export function codeText({ elements, valueBits }) {
  if (elements === 1) return '';
  return !Number.isInteger(valueBits.q) ? 'base-3 digit' : `${valueBits.q} ${valueBits.q === 1 ? 'bit' : 'bits'}`;
}

/** Every factor of a weight with its type and how many weights share it: `f16 d per 256; 6-bit scale per 32`. */
export function scaleText({ elements, fields, map, formula, valueBits }) {
  if (elements === 1) return '';
  const factors = fields
    .filter(({ name }) => !map.some(({ field }) => field.name === name))
    .map(({ name, dtype, count }) => ({ name, type: dtype, per: elements / count }));
  const groups = Object.keys(formula.values)
    .filter((name) => name !== 'q')
    .map((name) => ({ name, type: `${valueBits[name]}-bit`, per: formula.group }));
  const kinds = new Map();
  for (const factor of [...factors, ...groups]) {
    const key = `${factor.type} per ${factor.per}`;
    kinds.set(key, [...(kinds.get(key) ?? []), factor]);
  }
  return [...kinds.values()]
    .map((kind) => `${kind[0].type} ${kind.map(({ name }) => code(name)).join(', ')} per ${kind[0].per}`)
    .join('; ');
}

export const tables = {
  /** @param pages of the types by name. */
  types(pages) {
    const head = ['type', 'id', 'weights', 'bytes', 'bits per weight', 'code', 'scales', 'read', 'run', 'written'];
    const rows = [...described.values()].map((type) => [
      `[${code(type.type)}](${pages.get(type.type)}#${type.type.toLowerCase()})`,
      type.id,
      type.elements,
      type.bytes,
      number(type.bits),
      codeText(type),
      scaleText(type),
      mark(true),
      mark(type.runs),
      mark(type.written),
    ]);
    return markdownTable([head, ...rows]);
  },

  grouped() {
    const head = ['type', 'id', 'weights', 'bytes', 'bits per weight'];
    const rows = quantization.groupedTypes.map(({ name, id, elements, bytes }) => [
      code(name),
      id,
      elements,
      bytes,
      number((8 * bytes) / elements),
    ]);
    return markdownTable([head, ...rows]);
  },

  numbers() {
    const head = ['number', 'sign', 'exponent', 'fraction', 'bias'];
    const floats = Object.entries(floatFormats).map(([name, { sign, exponent, fraction, bias }]) => [
      code(name),
      sign,
      exponent,
      fraction,
      bias,
    ]);
    const functions = Object.entries(formulaFunctions).map(([name, text]) => `${name}(x) = ${text}`);
    return [markdownTable([head, ...floats]), '', '```js', ...functions, '```'].join('\n');
  },

  levels() {
    const head = ['code', ...formulaTables.NL.keys()];
    const rows = Object.entries(formulaTables).map(([name, levels]) => [
      code(name),
      ...levels.map((level) => (Object.is(level, -0) ? '−0' : String(Number(level.toPrecision(8))).replace('-', '−'))),
    ]);
    return markdownTable([head, ...rows]);
  },

  /** Sums over a block of known bytes, for who writes a decoder. */
  check() {
    const head = ['type', 'Σ w', 'Σ (e + 1) w', 'Σ w²'];
    const rows = [...described.values()]
      .filter(({ elements }) => elements > 1)
      .map((type) => {
        const weights = decodedCheckBlock(type);
        const sum = (of) => weights.reduce((all, weight, e) => all + of(weight, e), 0);
        const sums = [sum((w) => w), sum((w, e) => (e + 1) * w), sum((w) => w * w)];
        return [code(type.type), ...sums.map((value) => String(Number(value.toPrecision(12))).replace('-', '−'))];
      });
    return markdownTable([head, ...rows]);
  },

  sizes() {
    const head = ['type', 'rows that do not fit', ...models.flatMap(({ name }) => [`${name}, MB`, 'bits per weight'])];
    const rows = [...described.keys()].map((type) => [
      code(type),
      substituteText(type),
      ...models.flatMap((model) => sizeCells(type, model)),
    ]);
    return markdownTable([head, ...rows]);
  },

  errors() {
    const random = new Random(seed);
    const x = Float32Array.from({ length: samples }, () => random.nextNormal());
    const measured = quantization.quantizedTypes
      .map((type) => ({ type, bits: described.get(type).bits, error: errorOf(type, x) }))
      .filter(({ error }) => error > 1e-9)
      .sort((a, b) => a.error - b.error);
    const head = ['type', 'bits per weight', 'NMSE', 'signal to noise, dB', 'bits above the bound'];
    const rows = measured.map(({ type, bits, error }) => [
      code(type),
      number(bits),
      error.toExponential(2),
      (-10 * Math.log10(error)).toFixed(1),
      (bits - Math.log2(1 / error) / 2).toFixed(2),
    ]);
    return markdownTable([head, ...rows]);
  },
};

/** Squared error over squared weights. */
function errorOf(type, x) {
  const bytes = new Uint8Array(rowBytes(type, x.length));
  encodeRow(type, x, bytes);
  const decoded = new Float64Array(x.length);
  decodeRow(type, bytes, 0, x.length, decoded);
  let [error, power] = [0, 0];
  for (const [index, value] of x.entries()) {
    error += (decoded[index] - value) ** 2;
    power += value ** 2;
  }
  return error / power;
}

/** Byte i is (37 i + 11) mod 256; then the scales are set. */
function decodedCheckBlock({ type, elements, bytes, fields }) {
  const block = Uint8Array.from({ length: bytes }, (_, index) => (37 * index + 11) & 255);
  const view = new DataView(block.buffer);
  let halves = 0;
  for (const { offset, dtype } of fields) {
    if (dtype === 'f16') view.setUint16(offset, numberToF16(0.5 / 2 ** halves++), true);
    if (dtype === 'e8m0') block[offset] = 127;
    if (dtype === 'ue4m3') block.set([0x38, 0x3c, 0x40, 0x01], offset);
  }
  const weights = new Float64Array(elements);
  decodeRow(type, block, 0, elements, weights);
  return weights;
}

/** What each linear layer of a block is stored as when all weights are to have one type. */
function stored(type, { blocks, linear }) {
  const tensors = Object.entries(linear).map(([name, shape]) => ({ name: `blk.0.${name}.weight`, type: 'F32', shape }));
  return planQuantization(tensors, { layers: blocks, queryGroup: 1, experts: 0 }, { type, pure: true });
}

/** The type of rows that are no whole blocks, where there are such rows in the models. */
function substituteText(type) {
  const others = models
    .flatMap((model) => stored(type, model))
    .flatMap(({ to, instead }) => (instead === undefined ? [] : [to]));
  return [...new Set(others)].map(code).join(', ');
}

function sizeCells(type, model) {
  let [bytes, weights] = [0, 0];
  for (const { shape, to } of stored(type, model)) {
    bytes += model.blocks * shape[0] * rowBytes(to, shape[1]);
    weights += model.blocks * shape[0] * shape[1];
  }
  return [(bytes / 1e6).toFixed(1), number((8 * bytes) / weights, 2)];
}
