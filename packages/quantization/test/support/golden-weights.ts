import { Random } from '@filigree/core-tensor';

export const goldenRows = 12;
export const goldenWidth = 1024;

/** Weights f32 [12, 1024] of many kinds: normal of several sizes, one-sided, sparse, with outliers, constant, zero. */
export function goldenWeights(): Float32Array {
  const random = new Random(2026);
  const kinds: readonly (() => number)[] = [
    () => random.nextNormal(),
    () => random.nextNormal() / 50,
    () => 1000 * random.nextNormal(),
    () => random.nextNormal() * 1e-6,
    () => Math.abs(random.nextNormal()),
    () => 0.5 + random.nextFloat() / 16,
    () => random.nextNormal() ** 3 / 20,
    () => (random.nextFloat() < 0.9 ? 0 : random.nextNormal()),
    () => random.nextInt(16) / 8 - 1,
    () => (random.nextFloat() < 0.01 ? 30 : 0.1) * random.nextNormal(),
    () => -0.25,
    () => 0,
  ];
  return Float32Array.from({ length: goldenRows * goldenWidth }, (_, index) => kinds[Math.floor(index / goldenWidth)]());
}
