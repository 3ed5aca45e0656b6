import { cpuPaths, createNativeBackend } from '@filigree/backend-native';
import { createReferenceBackend, fromArray, Random, type Backend, type Tensor } from '@filigree/core-tensor';
import { attention, lowerMask, plannedAttention, planTensor, streaming, type Precision } from '@filigree/sparse-attention';
import { describe, expect, it } from 'vitest';

const [heads, kvHeads, queries, keys, dim] = [6, 2, 40, 301, 64];

/** Results on normally distributed q, k and v; `planned` ones see sinks and a window that begins at odd keys too. */
async function run(backend: Backend, precision: Precision, planned: boolean): Promise<{ o: number[]; lse: number[] }> {
  const random = new Random(11);
  const normal = (...shape: number[]): Tensor =>
    fromArray(
      backend,
      Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, () => random.nextNormal()),
      shape,
    );
  const [q, k, v] = [normal(1, heads, queries, dim), normal(1, kvHeads, keys, dim), normal(1, kvHeads, keys, dim)];
  const mask = streaming({ sinks: 3, window: 101 })({ batch: 1, heads, lenQ: [queries], lenK: [keys] });
  const { o, lse } = planned
    ? plannedAttention(q, k, v, planTensor(backend, lowerMask(mask)), { precision })
    : attention(q, k, v, { precision });
  return { o: Array.from(await o.readNumbers()), lse: Array.from(await lse.readNumbers()) };
}

const distance = (a: readonly number[], b: readonly number[]): number =>
  Math.hypot(...a.map((value, index) => value - b[index])) / Math.hypot(...b);

describe.each([
  ['dense', false],
  ['planned', true],
] as const)('%s attention', async (_, planned) => {
  const reference = createReferenceBackend();
  const [exact, rounded] = [await run(reference, 'f32', planned), await run(reference, 'bf16', planned)];
  reference.dispose();

  it('bf16 is off by what its documentation says', () => {
    expect(distance(rounded.o, exact.o)).toBeCloseTo(0.0033, 3);
  });

  it.each(cpuPaths())('the %s path rounds where the definition does', async (cpu) => {
    const backend = createNativeBackend({ cpu, threads: 2, fallback: 'error' });
    const found = await run(backend, 'bf16', planned);
    backend.dispose();
    expect(distance(found.o, rounded.o)).toBeLessThan(0.1 * distance(rounded.o, exact.o));
  });
});
