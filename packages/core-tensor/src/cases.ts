import type * as FastCheck from 'fast-check';
import type { DType } from './dtype.js';
import { bf16ToNumber, f16ToNumber, numberToBf16, numberToF16 } from './half.js';
import type { HostTensor } from './op.js';
import { numberArray } from './reference/host-tensor.js';
import { Random } from './rng.js';
import { sizeOf, type Shape } from './shape.js';

export interface CaseTensorOptions {
  readonly dtype?: DType;
  /** Integers: uniform in [low, high]. Floats: normal, scaled so that most lie within [low, high]. Default −2 … 2. */
  readonly low?: number;
  readonly high?: number;
}

/** A tensor of seeded random values whose seed and magnitude shrink; cheap for large shapes. */
export function caseTensor(
  fc: typeof FastCheck,
  shape: Shape,
  options: CaseTensorOptions = {},
): FastCheck.Arbitrary<HostTensor> {
  return fc
    .record({ seed: fc.nat(0x7fffffff), magnitude: fc.constantFrom(1, 1, 1, 1, 1e-3, 100) })
    .map(({ seed, magnitude }) => seededTensor(seed, shape, options, magnitude));
}

/** Deterministic values for a seed; floats of f16 and bf16 are exactly representable. */
export function seededTensor(seed: number, shape: Shape, options: CaseTensorOptions = {}, magnitude = 1): HostTensor {
  const { dtype = 'f32', low = -2, high = 2 } = options;
  const random = new Random(seed);
  const data = numberArray(dtype, sizeOf(shape));
  const center = (low + high) / 2;
  const spread = (high - low) / 4;
  for (let index = 0; index < data.length; index++) {
    if (dtype === 'f32' || dtype === 'f64' || dtype === 'f16' || dtype === 'bf16') {
      data[index] = roundTo(center + spread * magnitude * random.nextNormal(), dtype);
    } else if (dtype === 'bool') data[index] = random.nextInt(2);
    else data[index] = Math.floor(low) + random.nextInt(Math.floor(high) - Math.floor(low) + 1);
  }
  return { shape, dtype, data };
}

/** Dimensions worth testing: 0, 1, odd sizes, and sizes around multiples of the usual block. */
export function caseDimension(fc: typeof FastCheck, maximum: number, minimum = 0): FastCheck.Arbitrary<number> {
  const edges = [0, 1, 2, 3, 5, 7, 8, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129].filter(
    (n) => n >= minimum && n <= maximum,
  );
  return fc.oneof(fc.constantFrom(...edges), fc.integer({ min: minimum, max: maximum }));
}

function roundTo(value: number, dtype: DType): number {
  if (dtype === 'f16') return f16ToNumber(numberToF16(value));
  if (dtype === 'bf16') return bf16ToNumber(numberToBf16(value));
  return value;
}
