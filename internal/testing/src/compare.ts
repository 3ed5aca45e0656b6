import {
  isFloat,
  statedTolerance,
  type AnyOp,
  type AttributeValue,
  type DType,
  type NumberArray,
  type Tolerance,
} from '@filigree/core-tensor';

const exact: Tolerance = { absolute: 0, relative: 0 };
const byDType: Readonly<Partial<Record<DType, Tolerance>>> = {
  f32: { absolute: 1e-5, relative: 1e-5 },
  f64: { absolute: 1e-10, relative: 1e-10 },
  f16: { absolute: 2e-3, relative: 2e-3 },
  bf16: { absolute: 2e-2, relative: 2e-2 },
};

/** The tolerance an op states for an output of a call, or the one of its dtype. */
export function toleranceOf(
  op: AnyOp,
  output: string,
  dtype: DType,
  attributes: Readonly<Record<string, AttributeValue>>,
): Tolerance {
  return statedTolerance(op, output, attributes) ?? (isFloat(dtype) ? byDType[dtype] : undefined) ?? exact;
}

/** The first element that differs by more than the tolerance, in words; undefined when all agree. NaN equals NaN, ∞ equals ∞. */
export function firstDifference(
  actual: NumberArray,
  expected: NumberArray,
  { absolute, relative }: Tolerance,
): string | undefined {
  if (actual.length !== expected.length) return `has ${actual.length} elements, expected ${expected.length}`;
  for (let index = 0; index < expected.length; index++) {
    const [a, b] = [actual[index], expected[index]];
    if (Object.is(a, b) || a === b || (Number.isNaN(a) && Number.isNaN(b))) continue;
    const finite = Number.isFinite(a) && Number.isFinite(b);
    if (!finite || Math.abs(a - b) > absolute + relative * Math.abs(b)) return `element ${index} is ${a}, expected ${b}`;
  }
  return undefined;
}
