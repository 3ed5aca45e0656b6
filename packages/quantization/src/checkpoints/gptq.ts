import { bitStream, GroupedRows, integerKind, type ConvertedWeight } from './grouped-rows.js';
import { PartReader, type CheckpointParts } from './parts.js';

export interface GptqOptions {
  readonly bits: number;
  readonly sym?: boolean | undefined;
  /** `gptq_v2` stores zero points as they are, `gptq` one less. */
  readonly checkpointFormat?: string | undefined;
}

/** Adding one to every field of a word, as the writer took it away: with its borrows. */
const onesOf: Readonly<Record<number, number>> = { 2: 0x55555555, 4: 0x11111111, 8: 0x01010101 };

/**
 * A weight of a GPTQ checkpoint (Frantar et al., arXiv:2210.17323; the layout of AutoGPTQ): qweight i32 [K·bits/32, N] along K, qzeros i32
 * [G, N·bits/32] along N, scales [G, N], g_idx i32 [K]. w[n, k] = scales[g, n] · (q − z), g = g_idx[k]. Where groups are not in the order of
 * the inputs (`desc_act`), inputs are sorted by group, and x is gathered in that order.
 *
 * @throws CheckpointFormatError
 */
export function convertGptq(name: string, parts: CheckpointParts, options: GptqOptions): ConvertedWeight {
  const reader = new PartReader(name, parts);
  const { bits } = options;
  const kind = integerKind(reader, bits);
  const [rows, outFeatures] = reader.matrix('qweight');
  const [groups] = reader.matrix('scales');
  const inFeatures = (rows * 32) / bits;
  if (!Number.isInteger(inFeatures) || inFeatures === 0 || groups === 0)
    throw reader.error(`qweight of ${rows} words holds no whole number of ${bits}-bit codes`);
  reader.assertShape('scales', [groups, outFeatures]);
  reader.assertShape('qzeros', [groups, (outFeatures * bits) / 32]);
  const scales = reader.floats('scales');
  const zeros = zeroPoints(reader, options, groups, outFeatures);
  const { groupOf, order } = inputGroups(reader, inFeatures, groups);
  const out = new GroupedRows(reader, kind, outFeatures, inFeatures, share(groupOf));
  const words = reader.words('qweight');
  for (let n = 0; n < outFeatures; n++) {
    const code = bitStream(words, bits, n, outFeatures);
    for (let k = 0; k < inFeatures; k++) out.put(n, k, code(order ? order[k] : k));
  }
  out.setFactors((n, k) => {
    const at = groupOf[k] * outFeatures + n;
    // INT8 codes count from −128.
    return { scale: scales[at], offset: scales[at] * ((bits === 8 ? 128 : 0) - zeros[at]) };
  });
  return out.weight(order);
}

/** Zero points [groups, outFeatures]. */
function zeroPoints(reader: PartReader, options: GptqOptions, groups: number, outFeatures: number): Uint32Array {
  const { bits } = options;
  const words = reader.words('qzeros');
  const width = (outFeatures * bits) / 32;
  const fields = (of: Uint32Array): Uint32Array => {
    const zeros = new Uint32Array(groups * outFeatures);
    for (let group = 0; group < groups; group++) {
      const zero = bitStream(of, bits, group * width);
      for (let n = 0; n < outFeatures; n++) zeros[group * outFeatures + n] = zero(n);
    }
    return zeros;
  };
  const stored = fields(words);
  if (!storesOneLess(stored, options)) return stored;
  if (Object.hasOwn(onesOf, bits)) return fields(words.map((word) => word + onesOf[bits]));
  return stored.map((zero) => (zero + 1) & (2 ** bits - 1));
}

/** The stated format is not reliable: in symmetric checkpoints all zero points are the middle, which shows. */
function storesOneLess(zeros: Uint32Array, { bits, sym, checkpointFormat }: GptqOptions): boolean {
  const middle = 2 ** (bits - 1);
  if (sym !== false && zeros.every((zero) => zero === middle - 1)) return true;
  if (sym !== false && zeros.every((zero) => zero === middle)) return false;
  return checkpointFormat !== 'gptq_v2';
}

/** The group of each input in the order in which inputs are stored here, and that order where it is another one. */
function inputGroups(
  reader: PartReader,
  inFeatures: number,
  groups: number,
): { groupOf: Uint32Array; order: Int32Array | undefined } {
  const size = Math.ceil(inFeatures / groups);
  if (!reader.has('g_idx'))
    return { groupOf: Uint32Array.from({ length: inFeatures }, (_, k) => Math.floor(k / size)), order: undefined };
  reader.assertShape('g_idx', [inFeatures]);
  const stated = reader.words('g_idx');
  const wrong = stated.findIndex((group) => group >= groups);
  if (wrong >= 0) throw reader.error(`g_idx[${wrong}] is ${stated[wrong] | 0}, there are ${groups} groups`);
  if (stated.every((group, k) => k === 0 || group >= stated[k - 1])) return { groupOf: stated, order: undefined };
  const order = Int32Array.from({ length: inFeatures }, (_, k) => k).sort((a, b) => stated[a] - stated[b] || a - b);
  return { groupOf: Uint32Array.from(order, (k) => stated[k]), order };
}

/** Inputs that are sure to share a group: what divides the length of every run. */
function share(groupOf: Uint32Array): number {
  let [common, start] = [0, 0];
  for (let k = 1; k <= groupOf.length; k++) {
    if (k < groupOf.length && groupOf[k] === groupOf[start]) continue;
    common = divisor(common, k - start);
    start = k;
  }
  return common;
}

function divisor(a: number, b: number): number {
  return b === 0 ? a : divisor(b, a % b);
}
