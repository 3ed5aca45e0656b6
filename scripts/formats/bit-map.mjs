/**
 * Where the bits of a block belong, found by setting one at a time and looking which value changes: per byte of a field the parts of the
 * byte from its top, each `{ high, low, value, index, codeHigh, codeLow }`: bits high … low of the byte are bits codeHigh … codeLow of
 * value[index]. A byte whose bits act on several values together (base-3 digits) has parts without bits.
 */
export function bitMap({ bytes, fields }, evaluate) {
  const zero = evaluate(new Uint8Array(bytes)).values;
  const stored = fields.filter(({ dtype }) => ['i8', 'u8', 'u16', 'u32'].includes(dtype));
  return stored.map((field) => ({
    field,
    bytes: Array.from({ length: field.bytes }, (_, at) => {
      const bits = Array.from({ length: 8 }, (_, bit) => changed(evaluate, bytes, field.offset + at, bit, zero)).reverse();
      return bits.every(({ length }) => length === 1) ? partsOf(bits.map(([only]) => only)) : together(bits.flat());
    }),
  }));
}

/** Values that differ when one bit is set: `{ value, index, bit }`. */
function changed(evaluate, bytes, at, bit, zero) {
  const block = new Uint8Array(bytes);
  block[at] = 1 << bit;
  const { values } = evaluate(block);
  return Object.entries(values).flatMap(([value, numbers]) =>
    numbers.flatMap((number, index) => {
      const difference = number - zero[value][index];
      return difference === 0 ? [] : [{ value, index, bit: Math.log2(Math.abs(difference)) }];
    }),
  );
}

function partsOf(bits) {
  const parts = [];
  for (const [place, { value, index, bit }] of bits.entries()) {
    const last = parts.at(-1);
    const low = 7 - place;
    if (last && last.value === value && last.index === index && last.codeLow === bit + 1)
      Object.assign(last, { low, codeLow: bit });
    else parts.push({ high: low, low, value, index, codeHigh: bit, codeLow: bit });
  }
  return parts;
}

function together(changes) {
  const [{ value }] = changes;
  const indices = [...new Set(changes.map(({ index }) => index))].sort((a, b) => a - b);
  return indices.map((index) => ({ value, index }));
}

/**
 * Runs of bytes that look the same but for indices that grow by `stride` per byte:
 * `{ first, last, parts: [{ …, base, stride }] }`, the index at byte i of the field being base + stride · i.
 */
export function runs(bytes) {
  const found = [];
  for (const [at, parts] of bytes.entries()) {
    const run = found.at(-1);
    if (run && run.last === at - 1 && alike(run.parts, parts)) {
      const stride = parts[0].index - bytes[at - 1][0].index;
      const fits = parts.every((part, place) => part.index - bytes[at - 1][place].index === stride);
      if (fits && (run.stride === undefined || run.stride === stride)) {
        Object.assign(run, { last: at, stride });
        continue;
      }
    }
    found.push({ first: at, last: at, stride: undefined, parts });
  }
  return found.map(({ first, last, stride = 0, parts }) => ({
    first,
    last,
    parts: parts.map((part) => ({ ...part, stride, base: part.index - stride * first })),
  }));
}

function alike(a, b) {
  const same = (one, other) => ['high', 'low', 'value', 'codeHigh', 'codeLow'].every((key) => one[key] === other[key]);
  return a.length === b.length && a.every((part, place) => same(part, b[place]));
}

/** The index of a part in words: `i + 16`. */
export function indexText({ base, stride }) {
  if (stride === 0) return String(base);
  const times = stride === 1 ? 'i' : `${stride}i`;
  return base === 0 ? times : `${times} ${base < 0 ? '−' : '+'} ${Math.abs(base)}`;
}
