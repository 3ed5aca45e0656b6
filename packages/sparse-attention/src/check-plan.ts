import { OptionError } from '@filigree/core-tensor';
import type { PackedFields } from './pack-plan.js';

export interface CheckPlanOptions {
  /** Whether every query sees a key, as in a mask that is not a part of one. Default false. */
  readonly complete?: boolean;
}

/**
 * What executors rely on: ranges and columns of a row ascend and are disjoint (a key counted twice doubles its weight), and nothing lies beyond
 * the keys, or beyond the causal limit, which are positions where the plan has none of its own.
 *
 * @throws OptionError naming the first row that breaks a rule.
 */
export function checkPlan(plan: PackedFields, { complete = false }: CheckPlanOptions = {}): void {
  const rows = plan.batch * plan.maskHeads * plan.rowsPerHead;
  for (const [name, list] of Object.entries({ rangeBeg: plan.rangeBeg, rangeCnt: plan.rangeCnt, colBeg: plan.colBeg }))
    if (list.length !== rows) throw new OptionError(`checkPlan: ${name} has ${list.length} items for ${rows} rows`);
  if (plan.headMap.some((head) => head < 0 || head >= plan.maskHeads))
    throw new OptionError(`checkPlan: headMap names a mask head beyond ${plan.maskHeads}`);
  for (let row = 0; row < rows; row++) checkRow(plan, row, complete);
}

function checkRow(plan: PackedFields, row: number, complete: boolean): void {
  const batch = Math.floor(row / (plan.maskHeads * plan.rowsPerHead));
  const first = (row % plan.rowsPerHead) * plan.blockQ;
  const queries = Math.min(plan.blockQ, plan.lenQ[batch] - first);
  const last = plan.qOffset[batch] + first + queries - 1;
  const limit = plan.causal && !plan.positions ? Math.min(plan.lenK[batch], last + 1) : plan.lenK[batch];
  const spans: [number, number][] = [];
  const collect = (begin: number, count: number, span: (index: number) => [number, number]): void => {
    for (let index = begin; index < begin + count; index++) {
      const [start, end] = span(index);
      const before = index > begin ? spans[spans.length - 1][1] : 0;
      if (start < before || end <= start || end > limit)
        throw new OptionError(`checkPlan: row ${row} has keys ${start} … ${end} behind ${before}, its limit is ${limit}`);
      spans.push([start, end]);
    }
  };
  collect(plan.rangeBeg[row], plan.rangeCnt[row], (index) => [plan.ranges[3 * index], plan.ranges[3 * index + 1]]);
  collect(plan.colBeg[row], plan.colCnt[row], (index) => [plan.cols[index], plan.cols[index] + 1]);
  const sorted = spans.sort((a, b) => a[0] - b[0]);
  const twice = sorted.findIndex(([start], index) => index > 0 && start < sorted[index - 1][1]);
  if (twice > 0) throw new OptionError(`checkPlan: row ${row} counts key ${sorted[twice][0]} twice`);
  if (queries <= 0 && sorted.length > 0) throw new OptionError(`checkPlan: row ${row} has keys and no queries`);
  if (complete && queries > 0 && plan.cells[row] < queries)
    throw new OptionError(`checkPlan: row ${row} has ${plan.cells[row]} cells for ${queries} queries`);
}
