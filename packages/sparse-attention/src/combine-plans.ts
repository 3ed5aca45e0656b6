import { ShapeError } from '@filigree/core-tensor';
import { planStats, type AttnPlan } from './plan.js';

/** A plan and the query heads it is for: head i of the plan is `heads[i]`. */
export interface HeadsPlan {
  readonly plan: AttnPlan;
  readonly heads: readonly number[];
}

/** Whether plans are of the same queries and keys, cut into the same row blocks, with one window: what {@link combinePlans} joins. */
export function combinable(a: AttnPlan, b: AttnPlan): boolean {
  const same = (x: Int32Array, y: Int32Array): boolean =>
    x.length === y.length && x.every((value, index) => value === y[index]);
  if (a.positions || a.segments || a.kvMap || b.positions || b.segments || b.kvMap) return false;
  if (a.batch !== b.batch || a.rowsPerHead !== b.rowsPerHead || a.blockQ !== b.blockQ) return false;
  if (a.causal !== b.causal || a.window !== b.window) return false;
  return same(a.lenQ, b.lenQ) && same(a.lenK, b.lenK) && same(a.qOffset, b.qOffset);
}

/**
 * One plan of one batch element for the heads of several: their masks beside each other.
 *
 * The heads of the result are those of the parts together, ascending. `kvHeads`, [head] → key-value head, becomes its map where the heads are
 * not all of a layer's.
 *
 * @throws ShapeError when the parts are not {@link combinable}, or there is more than one batch element.
 */
export function combinePlans(parts: readonly HeadsPlan[], kvHeads?: readonly number[]): AttnPlan {
  const [first] = parts;
  if (parts.length === 0 || first.plan.batch !== 1 || parts.some(({ plan }) => !combinable(first.plan, plan)))
    throw new ShapeError('combinePlans: the plans are not of the same queries and keys of one batch element, with one window');
  const rows = new Rows(parts.map(({ plan }) => plan));
  const heads = parts.flatMap((part) => part.heads).sort((a, b) => a - b);
  const headMap = new Int32Array(heads.length);
  let masks = 0;
  for (const part of parts) {
    for (const [index, head] of part.heads.entries()) headMap[heads.indexOf(head)] = masks + part.plan.headMap[index];
    masks += part.plan.maskHeads;
  }
  const { batch, rowsPerHead, blockQ, lenQ, lenK, qOffset, causal, window } = first.plan;
  const combined = {
    ...{ batch, rowsPerHead, blockQ, lenQ, lenK, qOffset, causal, window },
    maskHeads: masks,
    headMap,
    ...(kvHeads ? { kvMap: Int32Array.from(heads, (head) => kvHeads[head]) } : {}),
    ...rows.joined(),
  };
  return { ...combined, stats: planStats(combined) };
}

/** Rows of several plans behind each other. */
class Rows {
  constructor(private readonly plans: readonly AttnPlan[]) {}

  joined(): Pick<
    AttnPlan,
    'rangeBeg' | 'rangeCnt' | 'ranges' | 'bits' | 'colBeg' | 'colCnt' | 'cols' | 'colBits' | 'cells' | 'work' | 'order'
  > {
    const work = this.#words('work');
    return {
      rangeBeg: this.#begins('rangeBeg', ({ ranges }) => ranges.length / 3),
      rangeCnt: this.#numbers('rangeCnt'),
      ranges: this.#ranges(),
      bits: this.plans.some(({ bits }) => bits) ? this.#words('bits') : undefined,
      colBeg: this.#begins('colBeg', ({ cols }) => cols.length),
      colCnt: this.#numbers('colCnt'),
      cols: this.#numbers('cols'),
      colBits: this.plans.some(({ colBits }) => colBits) ? this.#colBits() : undefined,
      cells: this.#words('cells'),
      work,
      order: Int32Array.from([...work.keys()].sort((a, b) => work[b] - work[a] || a - b)),
    };
  }

  #numbers(name: 'rangeCnt' | 'colCnt' | 'cols'): Int32Array {
    return Int32Array.from(this.plans.flatMap((plan) => [...plan[name]]));
  }

  #words(name: 'work' | 'cells' | 'bits'): Uint32Array {
    return Uint32Array.from(this.plans.flatMap((plan) => [...(plan[name] ?? [])]));
  }

  #begins(name: 'rangeBeg' | 'colBeg', items: (plan: AttnPlan) => number): Int32Array {
    let before = 0;
    return Int32Array.from(
      this.plans.flatMap((plan) => {
        const moved = Array.from(plan[name], (begin) => begin + before);
        before += items(plan);
        return moved;
      }),
    );
  }

  #ranges(): Int32Array {
    let before = 0;
    return Int32Array.from(
      this.plans.flatMap(({ ranges, bits }) => {
        // Flags from 2 on are offsets into bits, doubled.
        const moved = Array.from(ranges, (value, index) => (index % 3 === 2 && value >= 2 ? value + 2 * before : value));
        before += bits?.length ?? 0;
        return moved;
      }),
    );
  }

  /** Columns of plans without bits are seen by all queries of the block. */
  #colBits(): Uint32Array {
    return Uint32Array.from(
      this.plans.flatMap(({ cols, colBits, blockQ }) =>
        colBits ? [...colBits] : Array<number>(cols.length * Math.ceil(blockQ / 32)).fill(0xffffffff),
      ),
    );
  }
}
