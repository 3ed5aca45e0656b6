import { caseDimension, Random, type HostTensor, type OpCase } from '@filigree/core-tensor';
import type * as FastCheck from 'fast-check';

/** Scores that are exact in every order of adding: whole numbers, all different or with ties, some scaled by a power of two. */
export function rankedScores(seed: number, shape: readonly number[], ties: boolean, factor: number): HostTensor {
  const random = new Random(seed);
  const size = shape.reduce((product, dimension) => product * dimension, 1);
  const data = Float32Array.from({ length: size }, (_, index) => (ties ? random.nextInt(6) : index - Math.floor(size / 5)));
  for (let index = size - 1; index > 0; index--) {
    const other = random.nextInt(index + 1);
    [data[index], data[other]] = [data[other], data[index]];
  }
  return { shape, dtype: 'f32', data: data.map((value) => value * factor) };
}

export function selectRowCases(fc: typeof FastCheck): FastCheck.Arbitrary<OpCase> {
  return fc
    .record({
      batch: fc.constantFrom(1, 1, 2),
      heads: fc.constantFrom(1, 2, 3),
      rows: fc.oneof(fc.constant(1), fc.nat(6)),
      columns: caseDimension(fc, 150),
      blockQ: fc.constantFrom(1, 3, 16),
      blockK: fc.constantFrom(1, 4, 16),
      scope: fc.constantFrom('row', 'row', 'head'),
      seed: fc.nat(0x7fffffff),
      ties: fc.boolean(),
      factor: fc.constantFrom(1, 1, 2 ** -14),
      ragged: fc.boolean(),
      limits: fc.record({
        topK: fc.constantFrom(-1, 0, 1, 7, 40),
        topShare: fc.constantFrom(1, 1, 0.5, 0.3),
        topP: fc.constantFrom(1, 1, 0.25, 0.5, 0.875),
        threshold: fc.constantFrom(-Infinity, -Infinity, 2),
        min: fc.constantFrom(0, 0, 1, 9),
        max: fc.constantFrom(-1, -1, 3, 30),
        sinks: fc.constantFrom(0, 0, 1, 3),
        local: fc.constantFrom(0, 0, 1, 2),
      }),
      budget: fc.option(fc.constantFrom(-1, 0, 2.5, 5, 20), { nil: undefined }),
      least: fc.option(fc.constantFrom(-1, 0, 2, 1e9), { nil: undefined }),
      perRow: fc.boolean(),
    })
    .map((drawn): OpCase => {
      const { batch, heads, rows, columns, blockQ, blockK, scope, limits } = drawn;
      const random = new Random(drawn.seed);
      const lists = scope === 'head' || !drawn.perRow ? 1 : rows;
      const perList = (around: number | undefined): HostTensor | undefined =>
        around === undefined
          ? undefined
          : {
              shape: [batch, heads, lists],
              dtype: 'f32',
              data: Float32Array.from({ length: batch * heads * lists }, () => around + random.nextInt(3)),
            };
      const lengths = Int32Array.from({ length: 2 * batch }, (_, index) =>
        random.nextInt(1 + (index % 2 === 0 ? rows * blockQ : columns * blockK)),
      );
      return {
        inputs: {
          scores: rankedScores(drawn.seed, [batch, heads, rows, columns], drawn.ties, drawn.factor),
          budget: perList(drawn.budget),
          least: perList(drawn.least),
          lengths: drawn.ragged ? { shape: [batch, 2], dtype: 'i32', data: lengths } : undefined,
        },
        attributes: { ...limits, scope, blockQ, blockK },
      };
    });
}
