/** Values of a field as formulas see them: one number, or an array. */
function read({ offset, dtype, count }, view) {
  const one = (index) => {
    switch (dtype) {
      case 'f32':
        return view.getFloat32(offset + 4 * index, true);
      case 'f16':
        return half(view.getUint16(offset + 2 * index, true));
      case 'bf16': {
        const word = new DataView(new ArrayBuffer(4));
        word.setUint16(0, view.getUint16(offset + 2 * index, true));
        return word.getFloat32(0);
      }
      case 'i8':
        return view.getInt8(offset + index);
      case 'u16':
        return view.getUint16(offset + 2 * index, true);
      case 'u32':
        return view.getUint32(offset + 4 * index, true);
      default:
        return view.getUint8(offset + index);
    }
  };
  return count === 1 ? one(0) : Array.from({ length: count }, (_, index) => one(index));
}

function half(bits) {
  const [sign, exponent, fraction] = [bits >> 15 === 1 ? -1 : 1, (bits >> 10) & 31, bits & 1023];
  if (exponent === 31) return fraction === 0 ? sign * Infinity : NaN;
  return sign * (exponent === 0 ? fraction * 2 ** -24 : (1 + fraction / 1024) * 2 ** (exponent - 15));
}

/**
 * A function that evaluates the formulas of a block type: of the bytes of a block it gives what is stored by name (`q` of every element,
 * others of every group) and the weights.
 */
export function blockEvaluator({ elements, fields, formula, functions, tables }) {
  const { group = elements, helpers = {}, values, weight } = formula;
  const known = Object.entries(functions).map(([name, text]) => `const ${name} = (x) => ${text};`);
  const steps = Object.entries({ ...helpers, ...values }).map(([name, text]) => `const ${name} = ${text};`);
  const names = Object.keys(values);
  const body = [...known, ...steps, `return { weight: ${weight}, ${names.join(', ')} };`].join('\n');
  const parameters = [...Object.keys(tables), ...fields.map(({ name }) => name), 'e', 't'];
  const evaluate = new Function(...parameters, body);
  return (bytes) => {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const inputs = [...Object.values(tables), ...fields.map((field) => read(field, view))];
    const all = Array.from({ length: elements }, (_, e) => evaluate(...inputs, e, Math.floor(e / group)));
    const of = (name) => {
      const perGroup = name !== 'q';
      return all.filter((_, e) => !perGroup || e % group === 0).map((found) => found[name]);
    };
    return { weights: all.map((found) => found.weight), values: Object.fromEntries(names.map((name) => [name, of(name)])) };
  };
}
