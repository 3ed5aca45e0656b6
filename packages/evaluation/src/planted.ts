import { fromArray, Random, type Backend, type Tensor } from '@filigree/core-tensor';
import {
  attendByPolicyAsync,
  attentionMethod,
  type AttentionPolicy,
  type SelectContext,
  type Selector,
} from '@filigree/sparse-attention';
import { methodLabel, type MethodRun } from './record.js';
import { mean, median } from './statistics.js';

/** What is planted. */
export type PlantedKind =
  /** Faint keys and one that the asking queries point at: every reasonable estimate finds it. */
  | 'easy'
  /** Keys as large as the one that is asked for, so that bounds and means over blocks say little: tells estimates apart. */
  | 'hard';

export interface PlantedOptions {
  readonly backend: Backend;
  readonly method: MethodRun;
  readonly kind: PlantedKind;
  /** Keys. */
  readonly length: number;
  readonly seed: number;
  readonly sample: number;
  /** Times the step is run for its time, of which the median counts; default 3. */
  readonly runs?: number | undefined;
}

/** What a method leaves of attention whose evidence is known. Shares are those of dense attention, means over the asking queries. */
export interface PlantedResult {
  readonly label: string;
  readonly kind: PlantedKind;
  readonly length: number;
  readonly sample: number;
  /** Share of the evidence's weight that is kept. */
  readonly evidenceKept: number;
  /** Share of all weight that is kept. */
  readonly massKept: number;
  /** |o − o_dense| / |o_dense|. */
  readonly outputError: number;
  /** Cells over causal cells of the step; 1 for dense attention. */
  readonly density: number;
  readonly seconds: number;
  readonly denseSeconds: number;
}

const headDim = 64;
const heads = 4;
const kvHeads = 2;
const pageSize = 64;
/** Queries of a step of a prompt, the last of which ask. */
const promptQueries = 512;
const askingQueries = 64;

/**
 * One step of attention without a model: the last queries ask for a key whose place is known. The step is the last chunk of a prompt, or for
 * methods of decoding one token.
 */
export async function planted(options: PlantedOptions): Promise<PlantedResult> {
  const { method, kind, length, sample, runs = 3 } = options;
  const { phase, create } = attentionMethod(method.id);
  const policy = create(method.options);
  const dense = attentionMethod('dense').create();
  const count = phase === 'decode' ? 1 : Math.min(promptQueries, length);
  const step = plantedStep(options, count, phase === 'decode');
  const selector = policy.kind === 'selector' ? policy.selector : undefined;
  const state = selector && stateOf(selector, step);
  try {
    const [own, base] = [await attend(step.context, policy, state), await attend(step.context, dense, undefined)];
    const seconds: number[] = [];
    const denseSeconds: number[] = [];
    for (let run = 0; run < runs; run++) {
      seconds.push((await attend(step.context, policy, state)).seconds);
      denseSeconds.push((await attend(step.context, dense, undefined)).seconds);
    }
    return {
      ...{ label: methodLabel(method), kind, length, sample },
      ...compared(own, base, Math.min(count, askingQueries)),
      density: own.density,
      seconds: median(seconds),
      denseSeconds: median(denseSeconds),
    };
  } finally {
    if (selector) selector.dispose?.(state);
    step.dispose();
  }
}

interface Step {
  readonly context: SelectContext;
  /** The keys as they were appended: [length, kvHeads, headDim]. */
  readonly keyRows: Tensor;
  dispose(): void;
}

/** Keys, values and queries: in channel 0 of the values the evidence alone has a 1. */
function plantedStep({ backend, kind, length, seed, sample }: PlantedOptions, count: number, decode: boolean): Step {
  const random = new Random(seed, sample);
  const pages = Math.ceil(length / pageSize);
  const size = pages * kvHeads * pageSize * headDim;
  const [k, v] = [new Float32Array(size), new Float32Array(size)];
  const q = new Float32Array(heads * count * headDim);
  const normal = (into: Float32Array, start: number, scale: number): void => {
    for (let channel = 0; channel < headDim; channel++) into[start + channel] = scale * random.nextNormal();
  };
  const rowOf = (head: number, position: number): number =>
    ((Math.floor(position / pageSize) * kvHeads + head) * pageSize + (position % pageSize)) * headDim;
  for (let head = 0; head < kvHeads; head++) {
    for (let position = 0; position < length; position++) {
      const row = rowOf(head, position);
      normal(k, row, kind === 'easy' ? 0.3 : 1);
      normal(v, row, 1);
      v[row] = 0;
    }
    // Neither among the first keys nor among the last, which windows see anyway.
    const evidence = Math.floor((0.1 + 0.7 * random.nextFloat()) * length);
    const row = rowOf(head, evidence);
    if (kind === 'easy') scaled(k, row, 11, () => random.nextNormal());
    v[row] = 1;
    const direction = k.slice(row, row + headDim);
    const norm = Math.hypot(...direction);
    const strength = kind === 'easy' ? 11 : 16;
    for (let query = head * (heads / kvHeads); query < (head + 1) * (heads / kvHeads); query++) {
      for (let index = 0; index < count; index++) {
        const start = (query * count + index) * headDim;
        const asks = index >= count - askingQueries;
        normal(q, start, asks ? 0.1 : 1);
        if (!asks) continue;
        for (let channel = 0; channel < headDim; channel++) q[start + channel] += (strength * direction[channel]) / norm;
      }
    }
  }
  const made: Tensor[] = [];
  const tensor = (values: ArrayLike<number>, shape: readonly number[], dtype: 'f32' | 'i32' = 'f32'): Tensor => {
    const one = fromArray(backend, values, shape, dtype);
    made.push(one);
    return one;
  };
  const context: SelectContext = {
    layer: 0,
    layers: 1,
    q: tensor(q, [1, heads, count, headDim]),
    queryLayout: 'bhld',
    k: tensor(k, [pages, kvHeads, pageSize, headDim]),
    v: tensor(v, [pages, kvHeads, pageSize, headDim]),
    table: tensor(
      Array.from({ length: pages }, (_, page) => page),
      [1, pages],
      'i32',
    ),
    lengths: tensor([count, length], [1, 2], 'i32'),
    lengthsK: tensor([length], [1], 'i32'),
    lenQ: [count],
    lenK: [length],
    promptEnd: decode ? undefined : [length],
    kvMap: undefined,
    scale: 1 / Math.sqrt(headDim),
    softcap: 0,
    rotate: undefined,
  };
  const rows = new Float32Array(length * kvHeads * headDim);
  for (let position = 0; position < length; position++) {
    for (let head = 0; head < kvHeads; head++) {
      const row = rowOf(head, position);
      rows.set(k.subarray(row, row + headDim), (position * kvHeads + head) * headDim);
    }
  }
  return {
    context,
    keyRows: tensor(rows, [length, kvHeads, headDim]),
    dispose: () => {
      for (const one of made) one.dispose();
    },
  };
}

/** A random direction of this length. */
function scaled(into: Float32Array, start: number, length: number, next: () => number): void {
  const direction = Array.from({ length: headDim }, next);
  const norm = Math.hypot(...direction);
  for (let channel = 0; channel < headDim; channel++) into[start + channel] = (length * direction[channel]) / norm;
}

/** What a selector keeps of the keys, fed as a cache would feed it. */
function stateOf(selector: Selector, { context: { k }, keyRows }: Step): unknown {
  const { backend } = k;
  const state = selector.init?.({
    ...{ backend, layer: 0, layers: 1, heads, kvHeads, headDim, pages: k.shape[0], pageSize },
    dtype: 'f32',
  });
  const entries = Array.from({ length: keyRows.shape[0] }, (_, entry) => entry);
  const slots = fromArray(backend, entries, [entries.length], 'i32');
  selector.append?.(state, { k: keyRows, pages: k, slots });
  slots.dispose();
  return state;
}

interface Attended {
  readonly o: ArrayLike<number>;
  readonly lse: ArrayLike<number>;
  readonly density: number;
  readonly seconds: number;
}

async function attend(context: SelectContext, policy: AttentionPolicy, state: unknown): Promise<Attended> {
  const { backend } = context.q;
  await backend.sync();
  const started = performance.now();
  const { o, lse, cells } = await attendByPolicyAsync(context, policy, state);
  const all = await lse.readNumbers();
  const seconds = (performance.now() - started) / 1000;
  const visible = typeof cells === 'number' ? cells / heads : cells === undefined ? undefined : await cellsOf(cells);
  const [count, length] = [context.lenQ[0], context.lenK?.[0] ?? 0];
  const causal = (count * (2 * length - count + 1)) / 2;
  const result = { o: await o.readNumbers(), lse: all, density: visible === undefined ? 1 : visible / causal, seconds };
  for (const one of [o, lse, ...(typeof cells === 'object' ? cells : [])]) one.dispose();
  return result;
}

/** Cells per head, over the parts of a selection: f32 [1, mask heads, R] each. */
async function cellsOf(parts: readonly Tensor[]): Promise<number> {
  let sum = 0;
  for (const part of parts) sum += Array.from(await part.readNumbers()).reduce((a, b) => a + b, 0) / part.shape[1];
  return sum;
}

function compared(
  own: Attended,
  base: Attended,
  asking: number,
): Pick<PlantedResult, 'evidenceKept' | 'massKept' | 'outputError'> {
  const count = own.lse.length / heads;
  const evidence: number[] = [];
  const mass: number[] = [];
  const errors: number[] = [];
  for (let head = 0; head < heads; head++) {
    for (let query = count - asking; query < count; query++) {
      const row = head * count + query;
      const kept = Math.exp(own.lse[row] - base.lse[row]);
      mass.push(kept);
      evidence.push((kept * own.o[row * headDim]) / base.o[row * headDim]);
      let [difference, norm] = [0, 0];
      for (let at = row * headDim; at < (row + 1) * headDim; at++) {
        difference += (own.o[at] - base.o[at]) ** 2;
        norm += base.o[at] ** 2;
      }
      errors.push(Math.sqrt(difference / norm));
    }
  }
  return { evidenceKept: mean(evidence), massKept: mean(mass), outputError: mean(errors) };
}
