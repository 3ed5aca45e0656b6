import { markdownTable } from '../lib/generated-parts.mjs';
import { described, describedGroups } from './describe.mjs';
import { codeText, scaleText } from './tables.mjs';

const code = (text) => `\`${text}\``;
const number = (value) => String(Number(value.toFixed(4)));

/** What the code knows about one type: figures, picture, fields, formulas. */
export function section(type) {
  const about = described.get(type) ?? describedGroups.get(type);
  return [figures(about), `![${pictureText(about)}](blocks/${type}.svg)`, fieldTable(about), formulas(about)].join('\n\n');
}

function figures(about) {
  const { type, id, elements, bytes, bits, tileBits, written } = about;
  const facts = [
    ['id', id],
    ['weights per block', elements],
    ['bytes', bytes],
    ['bits per weight', number(bits)],
    ['code', codeText(about)],
    ['scales', scaleText(about)],
    ['bits per weight in tiles', number(tileBits)],
    ...(described.has(type) ? [['written', written ? 'yes' : 'no']] : []),
  ].filter(([, value]) => value !== '');
  return markdownTable([facts.map(([name]) => name), facts.map(([, value]) => value)]);
}

function pictureText({ type, bytes, fields }) {
  return `A block of ${type}, ${bytes} bytes: ${fields.map(({ name, offset }) => `${name} from byte ${offset}`).join(', ')}`;
}

function fieldTable({ fields, formula }) {
  const rows = fields.map(({ name, offset, bytes, dtype, count }) => {
    const place = bytes === 1 ? String(offset) : `${offset}–${offset + bytes - 1}`;
    return [code(name), place, count === 1 ? code(dtype) : `${code(dtype)} × ${count}`, formula.meanings[name]];
  });
  return markdownTable([['field', 'bytes', 'numbers', 'holds'], ...rows]);
}

function formulas({ elements, formula }) {
  const { group, helpers = {}, values, weight } = formula;
  const usesGroup = group !== undefined && group < elements;
  const steps = [...(usesGroup ? [['t', `e / ${group}`]] : []), ...Object.entries({ ...helpers, ...values }), ['w', weight]];
  const widest = Math.max(...steps.map(([name]) => name.length));
  return ['```c', ...steps.map(([name, text]) => `${name.padEnd(widest)} = ${text}`), '```'].join('\n');
}
