import { defineOp, OptionError, ShapeError, type HostTensor, type Tensor, cut, uniform } from '@filigree/core-tensor';
import shader from '@filigree/wgsl/sparse-attention/select-row.wgsl';
import { expectArgument, expectIntegers, lengthsOf, visibleBlocks, wordsOf } from './row-blocks.js';
import { selectRowCases } from './select-row-cases.js';
import { selectionShader } from './shader.js';

export const selectScopes = ['row', 'head'] as const;
export type SelectScope = (typeof selectScopes)[number];

/** How much of a list is taken. */
interface Limits {
  readonly topK: number;
  readonly topShare: number;
  readonly topP: number;
  readonly threshold: number;
  readonly min: number;
  readonly max: number;
}

/**
 * The best key blocks of every row block (or keys, or offsets: whatever the last axis is), exactly.
 *
 * scores f32 [B,H,R,C]   budget?, least? f32 [B,H,R or 1]   lengths? i32 [B,2]   bits u32 [B,H,R,ceil(C/32)], little end first   counts i32 [B,H,R]
 *
 * Row block r has blockQ queries; of its entries, those whose first key the last of them sees take part: n = ⌊position / blockK⌋ + 1. Without `lengths`
 * there are R·blockQ queries and C·blockK keys. The first `sinks` entries and the last `local` ones up to the diagonal are taken first; the others follow in
 * descending order of score, ties to the lower index, NaN last. Of that order the shortest is taken of what these ask for:
 *
 * - topK entries (−1: no limit); `budget`, rounded down, in its place; the share topShare of the ⌈lenK / blockK⌉ entries, rounded down
 * - until the scores above 0 add up to the share topP of all that take part; 1: everything
 * - entries of at least `threshold`, and the forced ones before them
 *
 * and then at least `min` and `least`, at most `max` (−1: no limit), at least the forced entries. Scope `head` makes one list of all rows of a head: n is what
 * all rows see, limits hold for the list (budget and least are [B,H,1]), ties go to the lower row first.
 */
export const selectRowOp = /* @__PURE__ */ defineOp({
  name: 'sparse-attention/select-row',
  inputs: ['scores', 'budget?', 'least?', 'lengths?'],
  outputs: ['bits', 'counts'],
  attributes: {
    topK: { type: 'number', default: -1 },
    topShare: { type: 'number', default: 1 },
    topP: { type: 'number', default: 1 },
    threshold: { type: 'number', default: -Infinity },
    min: { type: 'number', default: 0 },
    max: { type: 'number', default: -1 },
    sinks: { type: 'number', default: 0 },
    local: { type: 'number', default: 0 },
    scope: { type: 'enum', values: selectScopes, default: 'row' },
    blockQ: { type: 'number', default: 1 },
    blockK: { type: 'number', default: 1 },
  },
  infer({ scores, budget, least, lengths }, { topK, topShare, topP, min, max, sinks, local, scope, blockQ, blockK }) {
    const op = 'select-row';
    expectArgument(op, 'scores', scores, 'f32', [-1, -1, -1, -1]);
    const [batch, heads, rows, columns] = scores.shape;
    for (const [name, meta] of Object.entries({ budget, least }))
      expectArgument(op, name, meta, 'f32', [batch, heads, scope === 'head' ? 1 : [rows, 1]]);
    expectArgument(op, 'lengths', lengths, 'i32', [batch, 2]);
    expectIntegers(op, { topK, max }, -1);
    expectIntegers(op, { min, sinks, local }, 0);
    expectIntegers(op, { blockQ, blockK }, 1);
    for (const [name, value] of Object.entries({ topP, topShare }))
      if (!(value >= 0)) throw new OptionError(`${op}: ${name} is ${value}, it must not be negative`);
    if (rows * columns > 2 ** 30)
      throw new ShapeError(`${op}: ${rows} × ${columns} scores of a head are more than a list holds`);
    return {
      bits: { shape: [batch, heads, rows, wordsOf(columns)], dtype: 'u32' },
      counts: { shape: [batch, heads, rows], dtype: 'i32' },
    };
  },
  reference({ scores, budget, least, lengths, bits, counts }, { sinks, local, scope, blockQ, blockK, ...limits }) {
    const [batches, heads, rows, columns] = scores.shape;
    const words = wordsOf(columns);
    const lists = scope === 'head' ? 1 : rows;
    for (let batch = 0; batch < batches; batch++) {
      const length = lengthsOf('select-row', lengths, batch, { queries: rows * blockQ, keys: columns * blockK });
      for (let head = 0; head < heads; head++) {
        for (let list = 0; list < lists; list++) {
          const members = scope === 'head' ? Array.from({ length: rows }, (_, row) => row) : [list];
          const first: number[] = [];
          const others: number[] = [];
          let keyBlocks = 0;
          for (const row of members) {
            const visible = Math.min(columns, visibleBlocks(row, blockQ, blockK, length));
            if (visible > 0) keyBlocks += Math.ceil(length.keys / blockK);
            for (let column = 0; column < visible; column++) {
              const forced = column < sinks || column >= visible - local;
              (forced ? first : others).push(row * columns + column);
            }
          }
          const at = (batch * heads + head) * rows * columns;
          const own = scores.data.subarray(at, at + rows * columns);
          const of = (given: HostTensor | undefined): number | undefined =>
            given?.data[(batch * heads + head) * given.shape[2] + (given.shape[2] === 1 ? 0 : list)];
          const taken = choose(own, first, others, keyBlocks, limits, of(budget), of(least));
          for (const entry of taken) {
            const row = (batch * heads + head) * rows + Math.floor(entry / columns);
            const column = entry % columns;
            bits.data[row * words + (column >>> 5)] |= 1 << (column & 31);
            counts.data[row]++;
          }
        }
      }
    }
  },
  native: 'sparse_attention_select_row',
  webgpu: {
    shader: (_, io) =>
      selectionShader(
        {
          op: 'sparse-attention/select-row',
          source: shader,
          inputs: [
            ['scores', 'f32'],
            ['budget', 'f32'],
            ['least', 'f32'],
            ['lengths', 'i32'],
          ],
          outputs: [
            ['bits', 'u32'],
            ['counts', 'i32'],
          ],
        },
        io,
      ),
    plan({ scores, budget, least }, attributes, limits) {
      if (!scores || scores.shape.slice(0, 3).includes(0)) return [];
      const [batch, heads, rows, columns] = scores.shape;
      const lists = attributes['scope'] === 'head' ? 1 : rows;
      const members = rows / lists;
      const words = wordsOf(columns);
      const numbers = (...names: string[]): number[] => names.map((name) => Number(attributes[name]));
      const [topK, min, max, sinks, local, blockQ, blockK] = numbers(
        'topK',
        'min',
        'max',
        'sinks',
        'local',
        'blockQ',
        'blockK',
      );
      const [topShare, topP, threshold] = numbers('topShare', 'topP', 'threshold');
      const perList = { scores: 4 * members * columns, bits: 4 * members * words, counts: 4 * members };
      const pieces = cut(batch * heads * lists, perList, limits);
      return pieces.map(({ start, count, ranges }) => ({
        workgroups: [count] as const,
        uniforms: [
          ...[start, count, lists, heads, rows, columns, words, blockQ, blockK].map(uniform.u32),
          ...[budget?.shape[2] ?? 1, least?.shape[2] ?? 1].map(uniform.u32),
          ...[uniform.i32(topK), uniform.u32(min), uniform.i32(max)],
          ...[sinks, local, topShare < 1 ? 1 : 0, topP < 1 ? 1 : 0, threshold > -Infinity ? 1 : 0].map(uniform.u32),
          ...[topShare, topP, Math.max(threshold, -3e38)].map(uniform.f32),
        ],
        ranges,
      }));
    },
  },
  cases: selectRowCases,
});

/** The first entries of the order that is made here, as many as the limits say. */
function choose(
  scores: ArrayLike<number>,
  first: readonly number[],
  others: number[],
  keyBlocks: number,
  { topK, topShare, topP, threshold, min, max }: Limits,
  budget: number | undefined,
  least: number | undefined,
): number[] {
  const mass = (entry: number): number => (scores[entry] > 0 ? scores[entry] : 0);
  others.sort((a, b) => rank(scores[b]) - rank(scores[a]) || a - b);
  const order = [...first, ...others];
  const limits = [order.length];
  if (budget !== undefined) limits.push(budget > 0 ? Math.floor(budget) : 0);
  else if (topK >= 0) limits.push(topK);
  if (topShare < 1) limits.push(Math.floor(Math.fround(Math.fround(topShare) * keyBlocks)));
  if (topP < 1) {
    const wanted = Math.fround(topP) * order.reduce((sum, entry) => sum + mass(entry), 0);
    let [count, sum] = [0, 0];
    while (count < order.length && sum < wanted) sum += mass(order[count++]);
    limits.push(count);
  }
  if (threshold > -Infinity)
    limits.push(first.length + others.filter((entry) => scores[entry] >= Math.fround(threshold)).length);
  let count = Math.max(Math.min(...limits), min, least !== undefined && least > 0 ? Math.floor(least) : 0);
  if (max >= 0) count = Math.min(count, max);
  return order.slice(0, Math.max(count, first.length));
}

/** Scores as numbers that compare, NaN below everything; −0 is 0. Differences of infinities are NaN, which finite stand-ins avoid. */
function rank(score: number): number {
  if (Number.isNaN(score)) return -3e300;
  if (score === Infinity) return 1e300;
  return score === -Infinity ? -1e300 : score;
}

export interface SelectRowOptions {
  readonly budget?: Tensor | undefined;
  readonly least?: Tensor | undefined;
  readonly lengths?: Tensor | undefined;
  readonly topK?: number | undefined;
  readonly topShare?: number | undefined;
  readonly topP?: number | undefined;
  readonly threshold?: number | undefined;
  readonly min?: number | undefined;
  readonly max?: number | undefined;
  readonly sinks?: number | undefined;
  readonly local?: number | undefined;
  readonly scope?: SelectScope | undefined;
  readonly blockQ?: number | undefined;
  readonly blockK?: number | undefined;
}

/** The best entries of each row of scores; see {@link selectRowOp}. */
export function selectRow(scores: Tensor, options: SelectRowOptions = {}): { bits: Tensor; counts: Tensor } {
  const { budget, least, lengths, ...attributes } = options;
  return selectRowOp({ scores, budget, least, lengths }, attributes);
}
