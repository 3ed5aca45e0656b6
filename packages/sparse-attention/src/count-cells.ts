import { rangeBit } from './mask.js';
import type { AttnPlan } from './plan.js';
import { predicatesHold } from './visible-keys.js';

type Counted = Omit<AttnPlan, 'stats' | 'cells' | 'work' | 'order'>;

/** Visible cells of a row for one query head, counted from its ranges and columns. */
export function countCells(plan: Counted, row: number): number {
  const batch = Math.floor(row / (plan.maskHeads * plan.rowsPerHead));
  const firstQuery = (row % plan.rowsPerHead) * plan.blockQ;
  const queries = Math.min(plan.blockQ, plan.lenQ[batch] - firstQuery);
  const first = plan.qOffset[batch] + firstQuery;
  const last = first + queries - 1;
  const byIndex = !plan.positions && !plan.segments;
  /** Queries of the block that see a key, by predicates and bits. */
  const seenBy = (key: number, bit: (query: number) => boolean): number => {
    let count = 0;
    for (let query = 0; query < queries; query++)
      if (bit(query) && predicatesHold(plan, batch, firstQuery + query, key)) count++;
    return count;
  };
  /** The same without bits, for causality and window alone. */
  const between = (key: number): number => {
    const from = plan.causal ? Math.max(first, key) : first;
    const to = plan.window > 0 ? Math.min(last, key + plan.window - 1) : last;
    return Math.max(0, to - from + 1);
  };
  const everyone = (): boolean => true;
  let cells = 0;
  for (let index = plan.rangeBeg[row]; index < plan.rangeBeg[row] + plan.rangeCnt[row]; index++) {
    const [start, end, flag] = [plan.ranges[3 * index], plan.ranges[3 * index + 1], plan.ranges[3 * index + 2]];
    if (flag === 0) cells += queries * (end - start);
    else
      for (let key = start; key < end; key++) {
        if (flag > 1) cells += seenBy(key, (query) => rangeBit(plan, flag, key - start, query));
        else cells += byIndex ? between(key) : seenBy(key, everyone);
      }
  }
  const { colBits } = plan;
  const words = Math.ceil(plan.blockQ / 32);
  for (let index = plan.colBeg[row]; index < plan.colBeg[row] + plan.colCnt[row]; index++) {
    const key = plan.cols[index];
    if (colBits) cells += seenBy(key, (query) => ((colBits[index * words + (query >> 5)] >>> (query & 31)) & 1) === 1);
    else cells += byIndex ? between(key) : seenBy(key, everyone);
  }
  return cells;
}
