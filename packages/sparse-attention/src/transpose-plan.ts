import { OptionError } from '@filigree/core-tensor';
import type { AttnPlan } from './plan.js';

/** A plan seen from the keys: which row blocks read each tile of keys. */
export interface TransposedPlan {
  readonly tileK: number;
  /** Tiles per mask head: ceil(longest lenK / tileK). */
  readonly tiles: number;
  /** Shape [B · maskHeads · tiles + 1]: where the rows of a tile start. */
  readonly tilePtr: Int32Array;
  /** Rows of the plan, ascending within a tile. */
  readonly rows: Int32Array;
}

/**
 * Key tile → rows that have a range or a column in it, by a counting sort: O(tiles that rows touch).
 *
 * @throws OptionError when tileK is not a positive integer.
 */
export function transposePlan(plan: AttnPlan, tileK: number): TransposedPlan {
  if (!Number.isInteger(tileK) || tileK < 1)
    throw new OptionError(`transposePlan: tileK is ${tileK}, it must be a positive integer`);
  const tiles = Math.ceil(plan.lenK.reduce((a, b) => Math.max(a, b), 0) / tileK);
  const tilePtr = new Int32Array(plan.batch * plan.maskHeads * tiles + 1);
  eachTouch(plan, tileK, tiles, (tile) => tilePtr[tile + 1]++);
  for (let tile = 0; tile + 1 < tilePtr.length; tile++) tilePtr[tile + 1] += tilePtr[tile];
  const next = tilePtr.slice();
  const rows = new Int32Array(tilePtr[tilePtr.length - 1]);
  eachTouch(plan, tileK, tiles, (tile, row) => (rows[next[tile]++] = row));
  return { tileK, tiles, tilePtr, rows };
}

/** Every pair of a tile and a row that reads some of its keys, once, rows ascending. */
function eachTouch(plan: AttnPlan, tileK: number, tiles: number, touch: (tile: number, row: number) => void): void {
  const last = new Int32Array(plan.batch * plan.maskHeads * tiles).fill(-1);
  for (let row = 0; row < plan.rangeBeg.length; row++) {
    const first = Math.floor(row / plan.rowsPerHead) * tiles;
    const see = (tile: number): void => {
      if (last[tile] === row) return;
      last[tile] = row;
      touch(tile, row);
    };
    for (let index = plan.rangeBeg[row]; index < plan.rangeBeg[row] + plan.rangeCnt[row]; index++) {
      const [start, end] = [plan.ranges[3 * index], plan.ranges[3 * index + 1]];
      for (let tile = Math.floor(start / tileK); tile * tileK < end; tile++) see(first + tile);
    }
    for (let index = plan.colBeg[row]; index < plan.colBeg[row] + plan.colCnt[row]; index++)
      see(first + Math.floor(plan.cols[index] / tileK));
  }
}
