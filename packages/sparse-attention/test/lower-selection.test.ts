import { createNativeBackend } from '@filigree/backend-native';
import { createReferenceBackend, fromArray, Random, type Backend, type HostTensor } from '@filigree/core-tensor';
import {
  isVisible,
  lowerSelection,
  unpackPlan,
  visibleKeys,
  type BlockMask,
  type LowerSelectionOptions,
} from '@filigree/sparse-attention';
import * as fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';

/** A selection as sets of numbers, per element and mask head. */
interface Drawn {
  readonly seed: number;
  readonly batch: number;
  readonly maskHeads: number;
  readonly lengthQ: number;
  readonly past: number;
  readonly blockQ: number;
  readonly blockK: number;
  readonly slashStep: number;
  readonly window: number;
  readonly density: number;
}

const drawn: fc.Arbitrary<Drawn> = fc.record({
  seed: fc.nat(0x7fffffff),
  batch: fc.constantFrom(1, 2),
  maskHeads: fc.constantFrom(1, 3),
  lengthQ: fc.integer({ min: 1, max: 130 }),
  past: fc.constantFrom(0, 7, 150),
  blockQ: fc.constantFrom(1, 16, 64),
  blockK: fc.constantFrom(1, 16, 64),
  slashStep: fc.constantFrom(1, 8),
  window: fc.constantFrom(0, 0, 0, 9, 90),
  density: fc.constantFrom(3, 20, 60),
});

interface Lists {
  /** Set bits of each row. */
  readonly rows: number[][];
  readonly tensor: HostTensor;
}

function draw(random: Random, shape: readonly number[], bits: number, density: number): Lists {
  const words = Math.ceil(bits / 32);
  const count = shape.reduce((product, size) => product * size, 1);
  const data = new Uint32Array(count * words);
  const rows = Array.from({ length: count }, (_, row) => {
    const set = Array.from({ length: bits }, (_, bit) => bit).filter(() => random.nextInt(100) < density);
    for (const bit of set) data[row * words + (bit >>> 5)] |= 1 << (bit & 31);
    return set;
  });
  return { rows, tensor: { shape: [...shape, words], dtype: 'u32', data } };
}

/** Offsets of lists one behind the other. */
function pointers(lists: readonly (readonly unknown[])[]): Int32Array {
  const ends = [0];
  for (const list of lists) ends.push(ends[ends.length - 1] + list.length);
  return Int32Array.from(ends);
}

/** The selection as bits, and as a mask with the same meaning. */
function both(sizes: Drawn): { mask: BlockMask; bits: Record<string, HostTensor>; options: LowerSelectionOptions } {
  const { batch, maskHeads, lengthQ, past, blockQ, blockK, slashStep, window, density } = sizes;
  const random = new Random(sizes.seed);
  const capacity = lengthQ + past;
  const rows = Math.ceil(lengthQ / blockQ);
  const blocks = draw(random, [batch, maskHeads, rows], Math.ceil(capacity / blockK), density);
  const columns = draw(random, [batch, maskHeads, rows], capacity, density);
  const slashes = draw(random, [batch, maskHeads, 1], Math.ceil(capacity / slashStep), density / 4);
  // One element always has all its queries, which the number of row blocks of the mask follows from.
  const lenQ = Array.from({ length: batch }, (_, index) => (index === 0 ? lengthQ : random.nextInt(lengthQ + 1)));
  const lenK = lenQ.map((length) => length + random.nextInt(past + 1));
  const offsets = slashes.rows.map((row) => row.map((bit) => bit * slashStep));
  const mask: BlockMask = {
    batch,
    maskHeads,
    headMap: Int32Array.from({ length: maskHeads }, (_, head) => head),
    lenQ: Int32Array.from(lenQ),
    lenK: Int32Array.from(lenK),
    qOffset: Int32Array.from(lenK, (length, index) => length - lenQ[index]),
    blockQ,
    blockK,
    causal: true,
    window,
    rowPtr: pointers(blocks.rows),
    colIdx: Int32Array.from(blocks.rows.flat()),
    colPtr: pointers(columns.rows),
    cols: Int32Array.from(columns.rows.flat()),
    slashPtr: pointers(offsets),
    slashes: Int32Array.from(offsets.flat()),
  };
  const lengths = Int32Array.from(lenQ.flatMap((length, index) => [length, lenK[index]]));
  return {
    mask,
    bits: {
      blocks: blocks.tensor,
      columns: columns.tensor,
      slashes: slashes.tensor,
      lengths: { shape: [batch, 2], dtype: 'i32', data: lengths },
    },
    options: { lengthQ, heads: maskHeads, blockQ, blockK, capacity, slashStep, window },
  };
}

async function lowered(
  backend: Backend,
  bits: Readonly<Record<string, HostTensor>>,
  options: LowerSelectionOptions,
): Promise<{ plan: ReturnType<typeof unpackPlan>; cells: ArrayLike<number> }> {
  const inputs = Object.entries(bits).map(
    ([name, { data, shape, dtype }]) => [name, fromArray(backend, data, shape, dtype)] as const,
  );
  const { plan, cells } = lowerSelection(Object.fromEntries(inputs), options);
  try {
    return { plan: unpackPlan(await plan.readNumbers()), cells: await cells.readNumbers() };
  } finally {
    for (const tensor of [plan, cells, ...inputs.map(([, input]) => input)]) tensor.dispose();
  }
}

/** Keys that every query of the mask sees, in one list. */
function cellsOf(mask: BlockMask, seen: (batch: number, head: number, query: number) => readonly number[]): string[] {
  const cells: string[] = [];
  for (let batch = 0; batch < mask.batch; batch++)
    for (let head = 0; head < mask.maskHeads; head++)
      for (let query = 0; query < mask.lenQ[batch]; query++)
        cells.push(`${batch} ${head} ${query}: ${seen(batch, head, query).join()}`);
  return cells;
}

const backends = [
  ['reference', createReferenceBackend()],
  ['native', createNativeBackend({ threads: 2, fallback: 'error' })],
] as const;

describe.each(backends)('lower-selection on %s', (_, backend) => {
  afterAll(() => {
    backend.dispose();
  });

  it('shows every query the cells that the same mask shows', async () => {
    await fc.assert(
      fc.asyncProperty(drawn, async (sizes) => {
        const { mask, bits, options } = both(sizes);
        const { plan } = await lowered(backend, bits, options);
        const expected = cellsOf(mask, (batch, head, query) =>
          Array.from({ length: mask.lenK[batch] }, (_, key) => key).filter((key) => isVisible(mask, batch, head, query, key)),
        );
        expect(cellsOf(mask, (batch, head, query) => visibleKeys(plan, batch, head, query).keys)).toEqual(expected);
      }),
      { numRuns: 40, seed: 1 },
    );
  });

  it('counts the cells that it shows', async () => {
    await fc.assert(
      fc.asyncProperty(drawn, async (sizes) => {
        const { mask, bits, options } = both(sizes);
        const { plan, cells } = await lowered(backend, bits, options);
        const counted = new Float64Array(cells.length);
        const rows = Math.ceil(sizes.lengthQ / sizes.blockQ);
        for (let batch = 0; batch < mask.batch; batch++)
          for (let head = 0; head < mask.maskHeads; head++)
            for (let query = 0; query < mask.lenQ[batch]; query++)
              counted[(batch * mask.maskHeads + head) * rows + Math.floor(query / sizes.blockQ)] += visibleKeys(
                plan,
                batch,
                head,
                query,
              ).keys.length;
        expect(Array.from(cells)).toEqual(Array.from(counted));
      }),
      { numRuns: 20, seed: 2 },
    );
  });

  it('leaves out of all sources what is excluded, and nothing else', async () => {
    await fc.assert(
      fc.asyncProperty(drawn, fc.nat(40), fc.integer({ min: 1, max: 60 }), async (sizes, sinks, window) => {
        const { mask, bits, options } = both({ ...sizes, window: 0 });
        const data = Int32Array.from([0, 0, 0, sinks || 1, -window, 0]);
        const ranges: HostTensor = { shape: [1, 3, 2], dtype: 'i32', data };
        const { plan } = await lowered(backend, { ...bits, ranges }, { ...options, excluded: 2 });
        const seen = cellsOf(mask, (batch, head, query) => visibleKeys(plan, batch, head, query).keys);
        const expected = cellsOf(mask, (batch, _, query) => {
          const position = mask.qOffset[batch] + query;
          const first = mask.qOffset[batch] + Math.floor(query / sizes.blockQ) * sizes.blockQ;
          return Array.from({ length: position + 1 }, (_, key) => key).filter(
            (key) => key >= (sinks || 1) && key < first + 1 - window,
          );
        });
        expect(seen).toEqual(expected);
      }),
      { numRuns: 20, seed: 3 },
    );
  });
});
