import {
  byteSize,
  createReferenceBackend,
  ExecutionError,
  fromArray,
  OptionError,
  resolveAttributes,
  sizeOf,
  softmax,
  type AnyOp,
  type OpCase,
  type Tensor,
  type TensorMeta,
  type WebGpuDispatch,
  type WebGpuLimits,
} from '@filigree/core-tensor';
import type { WebGpuBackend } from '@filigree/backend-webgpu';
import { attention } from '@filigree/sparse-attention';
import { difference, runCase } from '@filigree/testing';
import * as fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { testBackend } from './device.js';
import { shaderOps } from './ops.js';

const plain = { f16: false, dot4: false, subgroups: false };
/** From so small that a few elements fill a binding to where the longest row of a generated case fits. */
const bindings = [512, 1024, 4096];
const backends: WebGpuBackend[] = [];
type Io = Record<string, TensorMeta | undefined>;
const reference = createReferenceBackend();

beforeAll(async () => {
  for (const maxStorageBufferBindingSize of bindings)
    backends.push(
      await testBackend({
        variants: plain,
        limits: { maxStorageBufferBindingSize, maxComputeWorkgroupsPerDimension: 2 },
      }),
    );
});

afterAll(() => {
  for (const backend of backends) backend.dispose();
});

const limitsOf = (backend: WebGpuBackend): WebGpuLimits => backend.capabilities.limits as unknown as WebGpuLimits;

/** Dispatches of a case; none where the op refuses to plan it, as attention does where tiles decide upon keys of several bindings. */
function plan(op: AnyOp, io: Io, { attributes }: OpCase, backend: WebGpuBackend): readonly WebGpuDispatch[] {
  try {
    return op.webgpu?.plan(io, attributes, limitsOf(backend), plain) ?? [];
  } catch (error) {
    if (error instanceof ExecutionError) return [];
    throw error;
  }
}

/** Cases with every attribute there. */
function casesOf(op: AnyOp, numRuns: number, seed: number): OpCase[] {
  if (!op.cases) throw new Error(`${op.name} has no cases`);
  return fc
    .sample(op.cases(fc), { numRuns, seed })
    .map(({ inputs, attributes }) => ({ inputs, attributes: resolveAttributes(op.name, op.attributes, attributes) }));
}

function ioOf(op: AnyOp, { inputs, attributes }: OpCase): Io {
  return { ...inputs, ...op.infer(inputs, attributes) };
}

function scratchBytes(op: AnyOp, io: Io, { attributes }: OpCase, backend: WebGpuBackend): number {
  return op.webgpu?.scratch?.(io, attributes, limitsOf(backend), plain) ?? 0;
}

/** How many dispatches the op plans for a case. */
function dispatches(op: AnyOp, generated: OpCase, backend: WebGpuBackend): number {
  return plan(op, ioOf(op, generated), generated, backend).length;
}

/** False where a single row, or a workspace that is bound whole, is longer than a binding: those are refused. */
function fits(op: AnyOp, generated: OpCase, backend: WebGpuBackend): boolean {
  const io = ioOf(op, generated);
  const most = limitsOf(backend).maxStorageBufferBindingSize;
  const scratch = scratchBytes(op, io, generated, backend);
  return plan(op, io, generated, backend).every(({ ranges = {} }) => {
    if (!('scratch' in ranges) && scratch > most) return false;
    const whole = Object.entries(io).map(([name, meta]) =>
      meta && !(name in ranges) ? sizeOf(meta.shape) * byteSize(meta.dtype) : 0,
    );
    return Math.max(...whole, ...Object.values(ranges).map(({ byteLength }) => byteLength)) <= most;
  });
}

describe('tensors above the binding limit', () => {
  it.each(shaderOps.map((op) => [op.name, op] as const))('%s is split and agrees with its reference', async (_name, op) => {
    const generated = casesOf(op, 400, 5);
    let split = 0;
    for (const backend of backends) {
      let own = 0;
      for (const one of generated) {
        if (own === 5) break;
        // Some hundred dispatches teach nothing more and take seconds.
        const count = dispatches(op, one, backend);
        if (count <= 1 || count >= 40 || !fits(op, one, backend)) continue;
        expect(difference(op, one, await runCase(backend, op, one), await runCase(reference, op, one))).toBeUndefined();
        own++;
      }
      split += own;
      await backend.sync();
    }
    expect(split).toBeGreaterThanOrEqual(5);
  });

  it('never has more storage buffers than every device has', () => {
    const [backend] = backends;
    for (const op of shaderOps) {
      for (const one of casesOf(op, 20, 1)) {
        const io = ioOf(op, one);
        const tensors = Object.values(io).filter((meta) => meta !== undefined).length;
        const scratch = scratchBytes(op, io, one, backend);
        expect(tensors + (scratch > 0 ? 1 : 0), op.name).toBeLessThanOrEqual(8);
      }
    }
  });

  it('refuses by name what no binding holds: a row longer than the limit', async () => {
    const [backend] = backends;
    const y = softmax(fromArray(backend, new Float32Array(200), [2, 100]));
    await expect(y.read()).rejects.toThrow(ExecutionError);
    await expect(y.read()).rejects.toThrow(/core\/softmax.*x needs 400 bytes in one binding, the device allows 256/);
    await expect(backend.sync()).rejects.toThrow(ExecutionError);
  });

  it('refuses by name keys of several bindings that are decided upon by tiles', async () => {
    const [backend] = backends;
    const tensor = (rows: number): Tensor => fromArray(backend, new Float32Array(2 * rows), [1, 1, rows, 2]);
    const { o } = attention(tensor(3), tensor(100), tensor(100), { pvSkip: 1 });
    await expect(o.read()).rejects.toThrow(ExecutionError);
    await expect(o.read()).rejects.toThrow(/attention: pvSkip and scoreM need k and v within a binding of 256 bytes/);
    await expect(backend.sync()).rejects.toThrow(ExecutionError);
  });

  it('refuses limits it does not know or cannot keep', async () => {
    await expect(testBackend({ limits: { maxStorageBufferBindingSize: 100 } })).rejects.toThrow(OptionError);
    await expect(testBackend({ limits: { maxBindGroups: 1 } as never })).rejects.toThrow(/maxBindGroups/);
  });
});
