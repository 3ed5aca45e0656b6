import type { PackedFields } from './pack-plan.js';
import type { AttnPlan } from './plan.js';

/** Positions of a tile of the executors; what `pvSkip` leaves out. */
export const tileKeys = 64;

/** What a query of a plan sees: keys, ascending, and the tile each is in: entries 64 t … 64 t + 63 of its row's list. */
export interface PlannedKeys {
  readonly keys: number[];
  readonly tiles: number[];
  readonly position: number;
}

/** Row of a plan that holds a query. */
export function planRow(
  plan: Pick<AttnPlan, 'maskHeads' | 'rowsPerHead' | 'blockQ' | 'headMap'>,
  batch: number,
  head: number,
  query: number,
): number {
  return (batch * plan.maskHeads + plan.headMap[head]) * plan.rowsPerHead + Math.floor(query / plan.blockQ);
}

/** Whether causality, window and segments let a query see a key. */
export function predicatesHold(
  plan: Pick<AttnPlan, 'batch' | 'qOffset' | 'causal' | 'window' | 'positions' | 'segments'>,
  batch: number,
  query: number,
  key: number,
): boolean {
  const { positions, segments } = plan;
  const atQ = (tokens: { q: Int32Array }): number => tokens.q[batch * (tokens.q.length / plan.batch) + query];
  const atK = (tokens: { k: Int32Array }): number => tokens.k[batch * (tokens.k.length / plan.batch) + key];
  const from = positions ? atQ(positions) : plan.qOffset[batch] + query;
  const to = positions ? atK(positions) : key;
  return (
    (!plan.causal || to <= from) &&
    (plan.window === 0 || from - to < plan.window) &&
    (!segments || atQ(segments) === atK(segments))
  );
}

const bitAt = (words: Uint32Array, from: number, bit: number): boolean =>
  ((words[from + (bit >>> 5)] >>> (bit & 31)) & 1) === 1;

/** Keys that one query of a plan sees; `tilesByPosition` makes tiles of the keys with the same floor(j / 64). */
export function visibleKeys(
  plan: PackedFields,
  batch: number,
  head: number,
  query: number,
  tilesByPosition = false,
): PlannedKeys {
  const visible: PlannedKeys = { keys: [], tiles: [], position: plan.qOffset[batch] + query };
  if (query >= plan.lenQ[batch]) return visible;
  const row = planRow(plan, batch, head, query);
  const words = Math.ceil(plan.blockQ / 32);
  const bit = query % plan.blockQ;
  let entry = 0;
  const see = (key: number, seen: boolean): void => {
    if (seen) {
      visible.keys.push(key);
      visible.tiles.push(Math.floor((tilesByPosition ? key : entry) / tileKeys));
    }
    entry++;
  };
  let column = plan.colBeg[row];
  const seeColumns = (before: number): void => {
    for (; column < plan.colBeg[row] + plan.colCnt[row] && plan.cols[column] < before; column++) {
      const own = !plan.colBits || bitAt(plan.colBits, column * words, bit);
      see(plan.cols[column], own && predicatesHold(plan, batch, query, plan.cols[column]));
    }
  };
  for (let index = plan.rangeBeg[row]; index < plan.rangeBeg[row] + plan.rangeCnt[row]; index++) {
    const [start, end, flag] = plan.ranges.subarray(3 * index, 3 * index + 3);
    seeColumns(start);
    for (let key = start; key < end; key++) {
      const mask = ((flag - 2) >> 1) + ((flag - 2) & 1 ? (key - start) * words : 0);
      const own = flag < 2 || (plan.bits !== undefined && bitAt(plan.bits, mask, bit));
      see(key, own && (flag === 0 || predicatesHold(plan, batch, query, key)));
    }
  }
  seeColumns(Infinity);
  return visible;
}
