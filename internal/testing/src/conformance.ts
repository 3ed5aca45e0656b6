import {
  createReferenceBackend,
  ExecutionError,
  fromArray,
  inputNames,
  isFloat,
  MissingKernelError,
  type AnyOp,
  type Backend,
  type HostTensor,
  type NumberArray,
  type OpCase,
  type Tensor,
} from '@filigree/core-tensor';
import * as fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { backendsUnderTest, type BackendUnderTest } from './backends.js';
import { firstDifference, toleranceOf } from './compare.js';
import { casesPerOp, fullTier } from './tier.js';

export interface ConformanceOptions {
  /** Cases that must have run per op and backend; the suite fails when it shrinks. */
  readonly minimumCases?: number;
}

/** Results of one call: outputs and mutated inputs, by name. */
type Results = Record<string, { data: NumberArray; dtype: HostTensor['dtype'] }>;

/** Puts a host tensor on a backend; `padded` makes it a view with a non-zero offset. */
function upload(backend: Backend, host: HostTensor, padded: boolean): Tensor {
  if (!padded || host.shape.length === 0) return fromArray(backend, host.data, host.shape, host.dtype);
  const front = Math.max(1, Math.ceil(8 / Math.max(1, host.data.length)));
  const inner = host.shape.slice(1).reduce((product, dimension) => product * dimension, 1);
  const values = new Float64Array((front + host.shape[0]) * inner);
  values.set(host.data, front * inner);
  const whole = fromArray(backend, values, [front + host.shape[0], ...host.shape.slice(1)], host.dtype);
  const view = whole.view(host.shape, front * inner);
  whole.dispose();
  return view;
}

/** Runs one case and reads everything it produced. */
export async function runCase(backend: Backend, op: AnyOp, generated: OpCase, padded = false): Promise<Results> {
  const inputs: Record<string, Tensor> = {};
  for (const name of inputNames(op)) {
    const host = generated.inputs[name];
    if (host) inputs[name] = upload(backend, host, padded);
  }
  const results: Results = {};
  const outputs = backend.run(op, inputs, generated.attributes);
  try {
    for (const [name, tensor] of [...Object.entries(outputs), ...op.mutates.map((name) => [name, inputs[name]] as const)]) {
      results[name] = { data: await tensor.readNumbers(), dtype: tensor.dtype };
    }
  } finally {
    for (const tensor of [...Object.values(inputs), ...Object.values(outputs)]) tensor.dispose();
  }
  return results;
}

/** Results of a case, or that the op refused the values in it. */
async function outcome(backend: Backend, op: AnyOp, generated: OpCase): Promise<Results | 'refused'> {
  try {
    return await runCase(backend, op, generated);
  } catch (error) {
    if (!(error instanceof ExecutionError)) throw error;
    // Reported here: what comes next is not to fail with it again.
    await backend.sync().catch(() => undefined);
    return 'refused';
  }
}

/** What differs between two outcomes of a case, or undefined: what the reference refuses others refuse too. */
async function outcomeDifference(
  backend: Backend,
  op: AnyOp,
  generated: OpCase,
  reference: Backend,
): Promise<string | undefined> {
  const actual = await outcome(backend, op, generated);
  const expected = await outcome(reference, op, generated);
  if (actual !== 'refused' && expected !== 'refused') return difference(op, generated, actual, expected);
  return actual === expected
    ? undefined
    : `${op.name}: ${actual === 'refused' ? 'refused' : 'not refused'}, unlike the reference`;
}

/** What differs between two runs of a case, or undefined. */
export function difference(op: AnyOp, { attributes }: OpCase, actual: Results, expected: Results): string | undefined {
  for (const [name, { data, dtype }] of Object.entries(expected)) {
    const found = firstDifference(actual[name].data, data, toleranceOf(op, name, dtype, attributes));
    if (found !== undefined) return `${op.name}: ${name} ${found}`;
  }
  return undefined;
}

/** An op without a kernel must say so and not run on anything else. */
function expectRefusal(backend: Backend, op: AnyOp): void {
  if (!op.cases) throw new Error(`${op.name} declares no cases`);
  const [generated] = fc.sample(op.cases(fc), { numRuns: 1, seed: 7 });
  const inputs = Object.entries(generated.inputs).map(([name, host]) => [name, host && upload(backend, host, false)] as const);
  try {
    expect(() => backend.run(op, Object.fromEntries(inputs), generated.attributes)).toThrow(MissingKernelError);
  } finally {
    for (const [, tensor] of inputs) tensor?.dispose();
  }
}

/** The case with NaN and ∞ planted in its f32 inputs. */
function withSpecials(generated: OpCase, seed: number): OpCase {
  const specials = [NaN, Infinity, -Infinity];
  const inputs = Object.entries(generated.inputs).map(([name, host]) => {
    if (!host || !isFloat(host.dtype) || host.data.length === 0) return [name, host] as const;
    const data = host.data.slice();
    data[seed % data.length] = specials[seed % 3];
    return [name, { ...host, data }] as const;
  });
  return { ...generated, inputs: Object.fromEntries(inputs) };
}

/** Compares an op with its reference on generated cases; throws naming the first difference. Returns how many cases ran. */
export async function expectAgreement(backend: Backend, op: AnyOp, reference: Backend): Promise<number> {
  if (!op.cases) throw new Error(`${op.name} declares no cases`);
  let ran = 0;
  await fc.assert(
    fc.asyncProperty(op.cases(fc), fc.boolean(), async (generated, padded) => {
      const actual = await runCase(backend, op, generated, padded);
      const found = difference(op, generated, actual, await runCase(reference, op, generated));
      if (found !== undefined) throw new Error(found);
      ran++;
    }),
    { numRuns: casesPerOp, seed: 20261124 },
  );
  return ran;
}

/** Ten times the cases of ops with many shaders take minutes on a software device. */
const agreementMs = fullTier ? 600_000 : 120_000;

function checkBackend(ops: readonly AnyOp[], under: BackendUnderTest, minimum: number): void {
  describe(under.name, () => {
    let backend: Backend;
    const reference = createReferenceBackend();
    let total = 0;

    beforeAll(async () => {
      backend = await under.create(ops);
    });

    afterAll(() => {
      console.log(`conformance ${under.name}: ${ops.length} ops, ${total} cases`);
      backend.dispose();
      expect(total).toBeGreaterThanOrEqual(ops.length * minimum);
    });

    for (const op of ops) {
      if (under.kind === 'webgpu' && op.nativeOnly !== undefined) {
        it(`${op.name} is refused: ${op.nativeOnly}`, () => {
          expectRefusal(backend, op);
          total += minimum;
        });
        continue;
      }
      it(`${op.name} agrees with its reference`, { timeout: agreementMs }, async () => {
        // What an op before this one failed with was reported there.
        await backend.sync().catch(() => undefined);
        const before = backend.memory();
        const profile = backend.profile();
        const ran = await expectAgreement(backend, op, reference);
        const entries = await profile.stop();
        expect(ran).toBeGreaterThanOrEqual(minimum);
        expect(new Set(entries.map((entry) => `${entry.op} ${entry.kernel} ${entry.variant}`))).toEqual(
          entries.length === 0 ? new Set() : new Set([`${op.name} ${under.kind} ${under.variant(op)}`]),
        );
        expect(entries.length).toBeGreaterThan(0);
        await backend.sync();
        expect(backend.memory().liveBytes).toBe(before.liveBytes);
        expect(backend.memory().buffers).toBe(before.buffers);
        total += ran;
      });

      if (under.exactSpecials) {
        it(`${op.name} treats NaN and infinities as its reference`, async () => {
          if (!op.cases) throw new Error(`${op.name} declares no cases`);
          await fc.assert(
            fc.asyncProperty(op.cases(fc), fc.nat(999), async (generated, seed) => {
              const special = withSpecials(generated, seed);
              const found = await outcomeDifference(backend, op, special, reference);
              if (found !== undefined) throw new Error(found);
            }),
            { numRuns: casesPerOp, seed: 20261125 },
          );
        });
      } else {
        it(`${op.name} survives NaN and infinities`, async () => {
          if (!op.cases) throw new Error(`${op.name} declares no cases`);
          const [generated] = fc.sample(op.cases(fc), { numRuns: 1, seed: 7 });
          await runCase(backend, op, withSpecials(generated, 1));
          await backend.sync();
        });
      }
    }
  });
}

/** Sizes and values that break kernels, and that a generator of cases must reach. */
function missingKinds(op: AnyOp): string[] {
  if (!op.cases) throw new Error(`${op.name} declares no cases`);
  const found = new Set<string>();
  for (const { inputs } of fc.sample(op.cases(fc), { numRuns: 400, seed: 20261126 })) {
    const tensors = Object.values(inputs).filter((host) => host !== undefined);
    const dimensions = tensors.flatMap(({ shape }) => shape);
    if (dimensions.includes(0)) found.add('a dimension of 0');
    if (dimensions.includes(1)) found.add('a dimension of 1');
    if (dimensions.some((size) => size > 1 && size % 2 === 1)) found.add('an odd dimension');
    const floats = tensors.filter(({ dtype }) => isFloat(dtype));
    const magnitudes = floats.map(({ data }) => Array.from(data, Math.abs).reduce((most, value) => Math.max(most, value), 0));
    if (floats.length === 0 || magnitudes.some((most) => most >= 4)) found.add('values of 4 and more');
    if (floats.length === 0 || magnitudes.some((most) => most > 0 && most < 0.05)) found.add('values below 0.05');
  }
  const wanted = ['a dimension of 0', 'a dimension of 1', 'an odd dimension', 'values of 4 and more', 'values below 0.05'];
  return wanted.filter((kind) => !found.has(kind));
}

/** Registers the conformance suite of some ops: every backend and variant against the reference, on generated cases. */
export function conformance(ops: readonly AnyOp[], { minimumCases = 20 }: ConformanceOptions = {}): void {
  it.each(ops.map((op) => [op.name, op] as const))(
    'the cases of %s reach empty, single and odd sizes and all magnitudes',
    (_, op) => {
      expect(missingKinds(op)).toEqual([]);
    },
  );
  for (const under of backendsUnderTest()) {
    const covered = ops.filter((op) => under.covers(op));
    if (covered.length > 0) checkBackend(covered, under, minimumCases);
  }
}
