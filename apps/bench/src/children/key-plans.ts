import { Random } from '@filigree/core-tensor';
import { lowerMask, type AttnPlan } from '@filigree/sparse-attention';

/** What a plan's keys are: blocks at multiples of 64, bands of 64 keys from anywhere, single columns, or half bands and half columns. */
export const keyKinds = ['blocks', 'bands', 'columns', 'mixed'] as const;
export type KeyKind = (typeof keyKinds)[number];

export interface KeyPlanShape {
  readonly kind: KeyKind;
  readonly density: number;
  readonly length: number;
  readonly heads: number;
  /** Distinct masks: as many as key-value heads, or one per query head. */
  readonly maskHeads: number;
}

const block = 64;

/** A causal plan over row blocks of 64 queries whose keys are drawn anew in every one, about `density` of those before the diagonal block. */
export function keyPlan({ kind, density, length, heads, maskHeads }: KeyPlanShape): AttnPlan {
  const random = new Random(1);
  const rows = maskHeads * Math.ceil(length / block);
  const [rowPtr, rangePtr, colPtr] = [0, 1, 2].map(() => new Int32Array(rows + 1));
  const [colIdx, ranges, cols]: number[][] = [[], [], []];
  for (let row = 0; row < rows; row++) {
    const diagonal = row % (rows / maskHeads);
    const end = diagonal * block;
    if (kind === 'blocks') for (let at = 0; at < diagonal; at++) if (random.nextFloat() < density) colIdx.push(at);
    colIdx.push(diagonal);
    const bands = kind === 'bands' ? density : kind === 'mixed' ? density / 2 : 0;
    const [drawn, chance] = [drawBands(random, end, bands), kind === 'columns' ? density : kind === 'mixed' ? density / 2 : 0];
    ranges.push(...drawn);
    for (let key = 0; chance > 0 && key < end; key++) if (random.nextFloat() < chance) cols.push(key);
    [rowPtr[row + 1], rangePtr[row + 1], colPtr[row + 1]] = [colIdx.length, ranges.length / 2, cols.length];
  }
  return lowerMask({
    batch: 1,
    maskHeads,
    headMap: Int32Array.from({ length: heads }, (_, head) => Math.floor(head / (heads / maskHeads))),
    lenQ: Int32Array.of(length),
    lenK: Int32Array.of(length),
    qOffset: Int32Array.of(0),
    blockQ: block,
    blockK: block,
    causal: true,
    window: 0,
    rowPtr,
    colIdx: Int32Array.from(colIdx),
    rangePtr,
    ranges: Int32Array.from(ranges),
    colPtr,
    cols: Int32Array.from(cols),
  });
}

/** Bands of 64 keys at any start, one for every so many keys that they hold `density` of them. */
function drawBands(random: Random, end: number, density: number): number[] {
  const count = Math.round((end * density) / block);
  const room = count === 0 ? 0 : end / count - block;
  return Array.from({ length: count }, (_, index) => Math.floor(index * (block + room) + random.nextFloat() * room)).flatMap(
    (start) => [start, start + block],
  );
}
