import { createNativeBackend } from '@filigree/backend-native';
import { fromArray, Random, reshape, scope, type Tensor } from '@filigree/core-tensor';
import type { AttentionPolicy, SelectContext } from '@filigree/sparse-attention';

export interface SelectingStep {
  readonly keys: number;
  /** Queries of the step, the last ones. */
  readonly queries: number;
  readonly dtype?: 'f32' | 'f16';
  /** Whether the layer has rotary positions; turns are not done, only asked for. */
  readonly rotary?: boolean;
}

/** Shares of the bytes that keys and values of the layer take. */
export interface MemoryOfSelecting {
  /** Most that a selector holds at once before it lowers what it chose. */
  readonly scratch: number;
  /** Plans that it gives to the executor. */
  readonly plans: number;
}

const [heads, dim] = [3, 64];

/** What selecting takes on the native backend, for three query heads of 64 channels on one key-value head, in pages. */
export function memoryOfSelecting(
  policy: AttentionPolicy,
  { keys, queries, dtype = 'f32', rotary = false }: SelectingStep,
): MemoryOfSelecting {
  if (policy.kind !== 'selector') throw new TypeError('memoryOfSelecting: the policy is no selector');
  const { selector } = policy;
  const backend = createNativeBackend({ threads: 2, fallback: 'error' });
  const random = new Random(1);
  const floats = (shape: readonly number[], type: 'f32' | 'f16' = 'f32'): Tensor => {
    const size = shape.reduce((a, b) => a * b, 1);
    return fromArray(
      backend,
      Float32Array.from({ length: size }, () => random.nextNormal()),
      shape,
      type,
    );
  };
  const integers = (values: readonly number[], shape: readonly number[]): Tensor => fromArray(backend, values, shape, 'i32');
  const page = 256;
  const pages = keys / page;
  const k = floats([pages, 1, page, dim], dtype);
  const context: SelectContext = {
    ...{ layer: 0, layers: 1, scale: 1 / Math.sqrt(dim), softcap: 0, kvMap: undefined },
    rotate: rotary ? (q): Tensor => reshape(q, q.shape) : undefined,
    ...{ q: floats([1, queries, heads, dim]), queryLayout: 'blhd', k, v: k },
    table: integers(
      Array.from({ length: pages }, (_, index) => index),
      [1, pages],
    ),
    lengths: integers([queries, keys], [1, 2]),
    lengthsK: integers([keys], [1]),
    ...{ lenQ: [queries], lenK: [keys], promptEnd: [keys] },
  };
  const before = backend.memory().liveBytes;
  let [peak, plans] = [0, 0];
  let scratch: number | undefined;
  const original = backend.run;
  backend.run = (op, inputs, ...call) => {
    const chosen = ['blocks', 'moreBlocks', 'columns', 'slashes'].some((name) => inputs[name] !== undefined);
    if (op.name.endsWith('/lower-selection') && chosen) scratch ??= peak;
    const result = original.call(backend, op, inputs, ...call);
    peak = Math.max(peak, backend.memory().liveBytes - before);
    return result;
  };
  const values = 2 * keys * dim * (dtype === 'f16' ? 2 : 4);
  scope(() => {
    const selection = selector.select(context, undefined);
    for (const part of selection === 'dense' ? [] : selection.parts) if ('plan' in part) plans += 4 * part.plan.size;
  });
  backend.dispose();
  return { scratch: (scratch ?? peak) / values, plans: plans / values };
}
