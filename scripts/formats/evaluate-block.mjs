/** An IEEE number from its bits. */
function float(bits, { exponent: exponentBits, fraction: fractionBits, bias }) {
  const fraction = bits % 2 ** fractionBits;
  const exponent = Math.floor(bits / 2 ** fractionBits) % 2 ** exponentBits;
  const sign = Math.floor(bits / 2 ** (fractionBits + exponentBits)) === 1 ? -1 : 1;
  if (exponent === 2 ** exponentBits - 1) return fraction === 0 ? sign * Infinity : NaN;
  const significand = (exponent === 0 ? 0 : 1) + fraction * 2 ** -fractionBits;
  return sign * significand * 2 ** (Math.max(exponent, 1) - bias);
}

/** Values of a field as formulas see them: one number, or an array. */
function read({ offset, bytes, dtype, count }, view, floats) {
  const size = bytes / count;
  const one = (index) => {
    const at = offset + size * index;
    if (dtype === 'i8') return view.getInt8(at);
    const bits = size === 1 ? view.getUint8(at) : size === 2 ? view.getUint16(at, true) : view.getUint32(at, true);
    return dtype in floats ? float(bits, floats[dtype]) : bits;
  };
  return count === 1 ? one(0) : Array.from({ length: count }, (_, index) => one(index));
}

/**
 * A function that evaluates the formulas of a block type: of the bytes of a block it gives what is stored by name (`q` of every element,
 * others of every group) and the weights.
 */
export function blockEvaluator({ elements, fields, formula, floats, functions, tables }) {
  const { group = elements, helpers = {}, values, weight } = formula;
  const known = Object.entries(functions).map(([name, text]) => `const ${name} = (x) => ${text};`);
  const steps = Object.entries({ ...helpers, ...values }).map(([name, text]) => `const ${name} = ${text};`);
  const names = Object.keys(values);
  const body = [...known, ...steps, `return { weight: ${weight}, ${names.join(', ')} };`].join('\n');
  const parameters = [...Object.keys(tables), ...fields.map(({ name }) => name), 'e', 't'];
  const evaluate = new Function(...parameters, body);
  return (bytes) => {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const inputs = [...Object.values(tables), ...fields.map((field) => read(field, view, floats))];
    const all = Array.from({ length: elements }, (_, e) => evaluate(...inputs, e, Math.floor(e / group)));
    const of = (name) => {
      const perGroup = name !== 'q';
      return all.filter((_, e) => !perGroup || e % group === 0).map((found) => found[name]);
    };
    return { weights: all.map((found) => found.weight), values: Object.fromEntries(names.map((name) => [name, of(name)])) };
  };
}
