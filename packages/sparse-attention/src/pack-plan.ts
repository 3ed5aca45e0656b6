import { OptionError } from '@filigree/core-tensor';
import type { AttnPlan, PerToken } from './plan.js';

/** Words of the header of a packed plan. */
export const planHeader = 32;
/** Version in the first word. */
export const planVersion = 2;

/** Header words that hold the offset of a section; docs/design/sparse-attention.md has the whole table. */
const at = {
  headMap: 8,
  qOffset: 9,
  lenQ: 10,
  lenK: 11,
  rangeBeg: 12,
  rangeCnt: 13,
  ranges: 14,
  colBeg: 15,
  colCnt: 16,
  cols: 17,
  order: 18,
  bits: 19,
  colBits: 20,
  kvMap: 21,
  positionsQ: 22,
  positionsK: 23,
  segmentsQ: 24,
  segmentsK: 25,
  cells: 27,
} as const;

/** Header words of the row lengths of positions and segments, and of Hq. */
const rowLengthK = 26;
const rowLengthQ = 28;
const headCount = 29;

/** A plan as executors' definitions see it: without what only the host counts. */
export type PackedFields = Omit<AttnPlan, 'work' | 'stats'>;

/**
 * A plan in one i32 buffer: a header of 32 words (version, sizes, offsets of sections), then the sections.
 *
 * @throws OptionError when rows of positions and segments differ in length.
 */
export function packPlan(plan: PackedFields): Int32Array {
  const { positions, segments, batch } = plan;
  const sections: Partial<Record<keyof typeof at, ArrayLike<number> | undefined>> = {
    headMap: plan.headMap,
    qOffset: plan.qOffset,
    lenQ: plan.lenQ,
    lenK: plan.lenK,
    rangeBeg: plan.rangeBeg,
    rangeCnt: plan.rangeCnt,
    ranges: plan.ranges,
    colBeg: plan.colBeg,
    colCnt: plan.colCnt,
    cols: plan.cols,
    order: plan.order,
    bits: plan.bits,
    colBits: plan.colBits,
    kvMap: plan.kvMap,
    positionsQ: positions?.q,
    positionsK: positions?.k,
    segmentsQ: segments?.q,
    segmentsK: segments?.k,
    cells: plan.cells,
  };
  const total = Object.values(sections).reduce<number>((sum, section) => sum + (section?.length ?? 0), planHeader);
  const packed = new Int32Array(total);
  packed.set([planVersion, batch, plan.maskHeads, plan.rowsPerHead, plan.blockQ, plan.causal ? 1 : 0, plan.window, total]);
  packed[rowLengthQ] = rowLength('q', batch, positions, segments);
  packed[rowLengthK] = rowLength('k', batch, positions, segments);
  packed[headCount] = plan.headMap.length;
  let next = planHeader;
  for (const [name, word] of Object.entries(at)) {
    const section = sections[name as keyof typeof at];
    if (!section) continue;
    packed[word] = next;
    packed.set(section, next);
    next += section.length;
  }
  return packed;
}

function rowLength(side: 'q' | 'k', batch: number, ...given: (PerToken | undefined)[]): number {
  const [length = 0, ...others] = given.flatMap((tokens) => (tokens ? [tokens[side].length] : []));
  if (others.some((other) => other !== length) || (batch > 0 && length % batch !== 0)) {
    throw new OptionError(`packPlan: positions and segments of ${side} must have one length that ${batch} elements share`);
  }
  return batch > 0 ? length / batch : 0;
}

/**
 * The fields of a packed plan.
 *
 * @throws OptionError when the header is not one of this version, or a section lies outside of the buffer.
 */
export function unpackPlan(packed: ArrayLike<number>): PackedFields {
  if (packed.length < planHeader || packed[0] !== planVersion) {
    throw new OptionError(`planned attention: the plan has no header of version ${planVersion}; make it with packPlan`);
  }
  const [, batch, maskHeads, rowsPerHead, blockQ, flags, window] = Array.from({ length: 7 }, (_, word) => packed[word]);
  const read = (name: keyof typeof at, length: number): Int32Array => {
    const from = packed[at[name]];
    if (from < planHeader || from + length > packed.length)
      throw new OptionError(`planned attention: section ${name} of the plan lies outside of its ${packed.length} words`);
    return Int32Array.from({ length }, (_, item) => packed[from + item]);
  };
  const optional = (name: keyof typeof at, length: number): Int32Array | undefined =>
    packed[at[name]] === 0 ? undefined : read(name, length);
  const words = (name: keyof typeof at, length: number): Uint32Array | undefined => {
    const section = optional(name, length);
    return section && new Uint32Array(section.buffer);
  };
  const perToken = (q: 'positionsQ' | 'segmentsQ', k: 'positionsK' | 'segmentsK'): PerToken | undefined =>
    packed[at[q]] === 0 ? undefined : { q: read(q, batch * packed[rowLengthQ]), k: read(k, batch * packed[rowLengthK]) };
  const rows = batch * maskHeads * rowsPerHead;
  const [rangeBeg, rangeCnt] = [read('rangeBeg', rows), read('rangeCnt', rows)];
  const [colBeg, colCnt] = [read('colBeg', rows), read('colCnt', rows)];
  const ranges = read('ranges', 3 * extent(rangeBeg, rangeCnt));
  const columns = extent(colBeg, colCnt);
  const heads = packed[headCount];
  return {
    batch,
    maskHeads,
    rowsPerHead,
    blockQ,
    causal: (flags & 1) !== 0,
    window,
    headMap: read('headMap', heads),
    qOffset: read('qOffset', batch),
    lenQ: read('lenQ', batch),
    lenK: read('lenK', batch),
    rangeBeg,
    rangeCnt,
    ranges,
    colBeg,
    colCnt,
    cols: read('cols', columns),
    bits: words('bits', bitWords(ranges, blockQ)),
    colBits: words('colBits', columns * Math.ceil(blockQ / 32)),
    kvMap: optional('kvMap', heads),
    positions: perToken('positionsQ', 'positionsK'),
    segments: perToken('segmentsQ', 'segmentsK'),
    order: optional('order', rows) ?? Int32Array.from({ length: rows }, (_, row) => row),
    cells: new Uint32Array(read('cells', rows).buffer),
  };
}

/** Items that rows refer to. */
function extent(begin: Int32Array, count: Int32Array): number {
  return begin.reduce((end, from, row) => (count[row] > 0 ? Math.max(end, from + count[row]) : end), 0);
}

/** Words of `bits` that ranges refer to. */
function bitWords(ranges: Int32Array, blockQ: number): number {
  const words = Math.ceil(blockQ / 32);
  let end = 0;
  for (let index = 0; index < ranges.length; index += 3) {
    const flag = ranges[index + 2];
    if (flag < 2) continue;
    const masks = (flag - 2) & 1 ? ranges[index + 1] - ranges[index] : 1;
    end = Math.max(end, ((flag - 2) >> 1) + masks * words);
  }
  return end;
}
