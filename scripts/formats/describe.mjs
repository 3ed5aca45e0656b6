import { built } from '../lib/generated-parts.mjs';
import { bitMap } from './bit-map.mjs';
import { blockEvaluator } from './evaluate-block.mjs';

const quantization = await built('quantization');
const { blockFields, blockFormula, floatFormats, formulaFunctions, formulaTables, ggufLayouts } = quantization;
const { groupedTypes, groupSizes, tileBytes, tileRows } = quantization;

/** Inputs of the layer whose tiles are counted. */
const tileInputs = 1536;

/** All that the code says about a type. */
function describe({ name, id, elements, bytes }) {
  const fields = blockFields(name);
  const formula = blockFormula(name);
  const evaluate = blockEvaluator({
    elements,
    fields,
    formula,
    floats: floatFormats,
    functions: formulaFunctions,
    tables: formulaTables,
  });
  const map = bitMap({ bytes, fields }, evaluate);
  return {
    type: name,
    id,
    elements,
    bytes,
    fields,
    formula,
    evaluate,
    map,
    bits: (8 * bytes) / elements,
    valueBits: valueBits(map),
    tileBits: (8 * tileBytes(id, tileInputs)) / (tileRows * tileInputs),
    runs: quantization.kernelTypes.includes(name),
    written: quantization.quantizedTypes.includes(name),
  };
}

/** Bits that one element of each stored value has; of codes that share bytes, their part. */
function valueBits(map) {
  const bits = {};
  for (const part of map.flatMap(({ bytes }) => bytes.flat()).filter(({ index }) => index === 0))
    bits[part.value] = (bits[part.value] ?? 0) + (part.codeHigh === undefined ? undefined : part.codeHigh - part.codeLow + 1);
  return bits;
}

/** Types of GGUF by name, in the order in which the format lists them. */
export const described = new Map([...ggufLayouts.values()].map((layout) => [layout.name, describe(layout)]));
/** Grouped types with the smallest group, which stand for the others. */
export const describedGroups = new Map(
  groupedTypes.filter(({ elements }) => elements === Math.min(...groupSizes)).map((type) => [type.name, describe(type)]),
);

export { quantization };
