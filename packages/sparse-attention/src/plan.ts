/**
 * Lowered form of a mask, the only one executors read. Per row block: sorted, disjoint, causally trimmed key ranges at arbitrary starts, and
 * single key columns outside of them. Rows may share a segment.
 */
export interface AttnPlan {
  readonly batch: number;
  readonly maskHeads: number;
  readonly rowsPerHead: number;
  readonly blockQ: number;
  readonly headMap: Int32Array;
  readonly lenQ: Int32Array;
  readonly lenK: Int32Array;
  readonly qOffset: Int32Array;
  readonly causal: boolean;
  readonly window: number;
  /** [rows] segment of `ranges`. */
  readonly rangeBeg: Int32Array;
  readonly rangeCnt: Int32Array;
  /** Triples (start, end, flag): flag 0 all cells visible, 1 the predicates apply. */
  readonly ranges: Int32Array;
  /** Masks that flags of ranges from 2 on refer to; see docs/design/sparse-attention.md. */
  readonly bits?: Uint32Array | undefined;
  /** [rows] segment of `cols`. */
  readonly colBeg: Int32Array;
  readonly colCnt: Int32Array;
  readonly cols: Int32Array;
  /** Queries of the block that see a column: ceil(blockQ / 32) words per column. Without it all do. */
  readonly colBits?: Uint32Array | undefined;
  /** [Hq] query head → key-value head; without it, contiguous groups. */
  readonly kvMap?: Int32Array | undefined;
  /** What causality and window compare instead of indices, where tokens were permuted. */
  readonly positions?: PerToken | undefined;
  /** Queries see keys of their own segment only. */
  readonly segments?: PerToken | undefined;
  /** Visible cells of a row, for one query head. */
  readonly cells: Uint32Array;
  /** Visible key slots per row. */
  readonly work: Uint32Array;
  /** Rows by descending work. */
  readonly order: Int32Array;
  readonly stats: PlanStats;
}

/** A number per query and per key: q [B · n], n at least every lenQ, and k [B · m], m at least every lenK. */
export interface PerToken {
  readonly q: Int32Array;
  readonly k: Int32Array;
}

export interface PlanStats {
  /** Visible cells over causal cells. */
  readonly density: number;
  readonly cells: number;
  readonly rangeKeys: number;
  readonly columnKeys: number;
}

/** Visible cells of a plan over the causally possible ones, all heads counted. */
export function planStats(plan: Omit<AttnPlan, 'stats'>): PlanStats {
  let [cells, possible, rangeKeys, columnKeys] = [0, 0, 0, 0];
  const share = new Uint32Array(plan.maskHeads);
  for (const head of plan.headMap) share[head]++;
  for (let row = 0; row < plan.rangeBeg.length; row++) {
    const batch = Math.floor(row / (plan.maskHeads * plan.rowsPerHead));
    const heads = share[Math.floor(row / plan.rowsPerHead) % plan.maskHeads];
    const firstQuery = (row % plan.rowsPerHead) * plan.blockQ;
    for (let query = firstQuery; query < Math.min(firstQuery + plan.blockQ, plan.lenQ[batch]); query++) {
      const seen = plan.qOffset[batch] + query + 1;
      possible += heads * Math.max(0, plan.causal ? Math.min(seen, plan.lenK[batch]) : plan.lenK[batch]);
    }
    cells += heads * plan.cells[row];
    columnKeys += plan.colCnt[row];
    for (let index = plan.rangeBeg[row]; index < plan.rangeBeg[row] + plan.rangeCnt[row]; index++) {
      rangeKeys += plan.ranges[3 * index + 1] - plan.ranges[3 * index];
    }
  }
  return { density: possible === 0 ? 1 : cells / possible, cells, rangeKeys, columnKeys };
}
