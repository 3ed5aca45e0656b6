import { unscoped, type Backend, type NumberArray, type Tensor } from '@filigree/core-tensor';
import { unpackPlan, visibleKeys, type SelectContext } from '@filigree/sparse-attention';

/** One call of an executor: its tensors on the host, and its attributes. */
interface ExecutorCall {
  readonly op: string;
  readonly inputs: Readonly<Record<string, { readonly shape: readonly number[]; readonly data: NumberArray }>>;
  readonly attributes: Readonly<Record<string, unknown>>;
  readonly plan: ReturnType<typeof unpackPlan> | undefined;
}

const executors = ['attention', 'planned-attention', 'gather-attention'].map((name) => `sparse-attention/${name}`);

/** What queries of a step attended to. */
export interface Attended {
  /** Per element, head and query: keys, ascending; a key that was counted twice is there twice. */
  readonly keys: readonly (readonly (readonly number[][])[])[];
  /** Brute force over these keys, in f64: o [B, Hq, Lq, D], lse [B, Hq, Lq]. */
  readonly o: Float64Array;
  readonly lse: Float64Array;
}

/**
 * Runs `attend` and reads back what its calls of executors saw: whatever a policy does with plans and parts, this is what entered its result.
 */
export async function attendedBy<T>(
  context: SelectContext,
  attend: () => T | Promise<T>,
): Promise<{ result: T; attended: Attended }> {
  const { backend } = context.q;
  const watch = watchExecutors(backend);
  let result: T;
  try {
    result = await attend();
  } finally {
    watch.stop();
  }
  return { result, attended: bruteForce(context, await watch.calls()) };
}

function watchExecutors(backend: Backend): { stop(): void; calls(): Promise<ExecutorCall[]> } {
  const seen: { op: string; inputs: [string, Tensor][]; attributes: Readonly<Record<string, unknown>> }[] = [];
  const original = backend.run;
  backend.run = (op, inputs, attributes, options) => {
    if (executors.includes(op.name)) {
      const kept = unscoped(() =>
        Object.entries(inputs).flatMap(([name, tensor]): [string, Tensor][] =>
          tensor ? [[name, tensor.view(tensor.shape)]] : [],
        ),
      );
      seen.push({ op: op.name, inputs: kept, attributes });
    }
    return original.call(backend, op, inputs, attributes, options);
  };
  return {
    stop() {
      backend.run = original;
    },
    async calls() {
      const calls: ExecutorCall[] = [];
      for (const { op, inputs, attributes } of seen) {
        const host: [string, { shape: readonly number[]; data: NumberArray }][] = [];
        for (const [name, tensor] of inputs) {
          host.push([name, { shape: tensor.shape, data: await tensor.readNumbers() }]);
          tensor.dispose();
        }
        const read: ExecutorCall['inputs'] = Object.fromEntries(host);
        calls.push({ op, inputs: read, attributes, plan: 'plan' in read ? unpackPlan(read['plan'].data) : undefined });
      }
      return calls;
    },
  };
}

/** Keys that a query of a call sees. */
function keysOf(call: ExecutorCall, context: SelectContext, { element, head, query }: Place): number[] {
  const { inputs, attributes } = call;
  if (call.plan) return visibleKeys(call.plan, element, head, query).keys;
  if (call.op.endsWith('gather-attention')) {
    const { shape, data } = inputs['indices'];
    const [, maskHeads, lengthQ, slots] = shape;
    const maskHead = maskHeads === 1 ? 0 : maskHeads === headsOf(context) ? head : kvHeadOf(context, maskHeads, head);
    const start = ((element * maskHeads + maskHead) * lengthQ + query) * slots;
    return Array.from(data.subarray(start, start + slots)).filter((key) => key >= 0);
  }
  const lengthQ = context.q.shape[context.queryLayout === 'bhld' ? 2 : 1];
  const given = Number(attributes['lengthK'] ?? -1);
  const lenK = 'lengths' in inputs ? inputs['lengths'].data[element] : given < 0 ? inputs['k'].shape[2] : given;
  const window = Number(attributes['window'] ?? 0);
  const position = lenK - lengthQ + query;
  const first = window > 0 ? Math.max(0, position + 1 - window) : 0;
  const last = attributes['causal'] === false ? lenK - 1 : position;
  return Array.from({ length: Math.max(0, last + 1 - first) }, (_, index) => first + index);
}

function headsOf({ q, queryLayout }: SelectContext): number {
  return q.shape[queryLayout === 'bhld' ? 1 : 2];
}

/** Softmax over all that the calls saw together, every score from the queries of its call. */
function bruteForce(context: SelectContext, calls: readonly ExecutorCall[]): Attended {
  const heads = headsOf(context);
  const [batch, lengthQ] = [context.q.shape[0], context.q.shape[context.queryLayout === 'bhld' ? 2 : 1]];
  const dim = context.v.shape[3];
  const o = new Float64Array(batch * heads * lengthQ * dim);
  const lse = new Float64Array(batch * heads * lengthQ).fill(-Infinity);
  const keys = Array.from({ length: batch }, (_, element) =>
    Array.from({ length: heads }, (__, head) =>
      Array.from({ length: context.lenQ[element] }, (___, query) => {
        const row = (element * heads + head) * lengthQ + query;
        const at = { element, head, query };
        const seen = calls.flatMap((call) =>
          keysOf(call, context, at).map((key) => ({ call, key, score: scoreOf(context, call, at, key) })),
        );
        lse[row] = attend(context, seen, at, o.subarray(row * dim, (row + 1) * dim));
        return seen.map(({ key }) => key).sort((a, b) => a - b);
      }),
    ),
  );
  return { keys, o, lse };
}

interface Place {
  readonly element: number;
  readonly head: number;
  readonly query: number;
}

interface Scored {
  readonly call: ExecutorCall;
  readonly key: number;
  readonly score: number;
}

function attend(context: SelectContext, seen: readonly Scored[], at: Place, o: Float64Array): number {
  const kept = keptOfTiles(keptOfGroups(context, seen, at));
  const largest = kept.reduce((most, { score }) => Math.max(most, score), -Infinity);
  const weights = kept.map(({ score }) => Math.exp(score - largest));
  const sum = weights.reduce((a, b) => a + b, 0);
  for (const [index, { call, key }] of kept.entries()) {
    const { data, shape } = call.inputs['v'];
    const row = keyRow(call, at.element, kvHeadOf(context, shape[1], at.head), key) * shape[3];
    for (let channel = 0; channel < o.length; channel++) o[channel] += (weights[index] / sum) * data[row + channel];
  }
  return sum === 0 ? -Infinity : largest + Math.log(sum);
}

/** What N:M softmax leaves: the n greatest of every m neighbours between the sinks and the recent keys, where a call asks for it. */
function keptOfGroups({ lenQ, lenK }: SelectContext, seen: readonly Scored[], { element, query }: Place): readonly Scored[] {
  const position = (lenK?.[element] ?? 0) - lenQ[element] + query;
  return seen.filter((own) => {
    const option = (name: string): number => Number(own.call.attributes[name] ?? 0);
    const [n, m] = [option('scoreN'), option('scoreM')];
    const competes = (key: number): boolean => key >= option('scoreSinks') && position - key >= option('scoreRecent');
    if (m === 0 || !competes(own.key)) return true;
    const ahead = seen.filter(
      ({ call, key, score }) =>
        call === own.call &&
        competes(key) &&
        Math.floor(key / m) === Math.floor(own.key / m) &&
        (score > own.score || (score === own.score && key < own.key)),
    );
    return ahead.length < n;
  });
}

/** What `pvSkip` of dense attention leaves: tiles of 64 positions of which some score is not far below all of the tiles before. */
function keptOfTiles(seen: readonly Scored[]): readonly Scored[] {
  if (seen.every(({ call }) => Number(call.attributes['pvSkip'] ?? 0) === 0)) return seen;
  let running = -Infinity;
  const tiles = new Map<number, Scored[]>();
  for (const scored of seen) {
    const tile = Math.floor(scored.key / 64);
    tiles.set(tile, [...(tiles.get(tile) ?? []), scored]);
  }
  return [...tiles.entries()]
    .sort(([a], [b]) => a - b)
    .flatMap(([, tile]) => {
      const largest = tile.reduce((most, { score }) => Math.max(most, score), -Infinity);
      const skipped = largest <= running - Number(tile[0].call.attributes['pvSkip']);
      running = Math.max(running, largest);
      return skipped ? [] : tile;
    });
}

/** Score of a query and a key, scale and softcap applied. */
function scoreOf(
  context: SelectContext,
  { inputs, attributes }: ExecutorCall,
  { element, head, query }: Place,
  key: number,
): number {
  const { q, k } = inputs;
  const bhld = context.queryLayout === 'bhld';
  const [heads, lengthQ] = bhld ? [q.shape[1], q.shape[2]] : [q.shape[2], q.shape[1]];
  const dim = q.shape[3];
  const row = (bhld ? (element * heads + head) * lengthQ + query : (element * lengthQ + query) * heads + head) * dim;
  const keyAt = keyRow({ inputs }, element, kvHeadOf(context, k.shape[1], head), key) * dim;
  let dot = 0;
  for (let channel = 0; channel < dim; channel++) dot += q.data[row + channel] * k.data[keyAt + channel];
  const score = Number(attributes['scale']) * dot;
  const softcap = Number(attributes['softcap'] ?? 0);
  return softcap > 0 ? softcap * Math.tanh(score / softcap) : score;
}

function kvHeadOf(context: SelectContext, kvHeads: number, head: number): number {
  return context.kvHeadOf?.[head] ?? Math.floor(head / (headsOf(context) / kvHeads));
}

function keyRow({ inputs }: Pick<ExecutorCall, 'inputs'>, element: number, kvHead: number, key: number): number {
  const [, kvHeads, size] = inputs['k'].shape;
  if (!('table' in inputs)) return (element * kvHeads + kvHead) * size + key;
  const { shape, data } = inputs['table'];
  return (data[element * shape[1] + Math.floor(key / size)] * kvHeads + kvHead) * size + (key % size);
}

/** The first number of a result that is not what brute force gives for the keys it saw, in words; undefined when all agree. */
export async function disagreement(
  context: SelectContext,
  { o, lse }: { readonly o: Tensor; readonly lse: Tensor },
  attended: Attended,
  tolerance = 2e-5,
): Promise<string | undefined> {
  const [actualO, actualLse] = [await o.readNumbers(), await lse.readNumbers()];
  const [batch, heads, lengthQ] = lse.shape;
  const dim = o.shape[3];
  const differs = (a: number, b: number): boolean => a !== b && !(Math.abs(a - b) <= tolerance * Math.max(1, Math.abs(b)));
  for (let row = 0; row < batch * heads * lengthQ; row++) {
    const [element, head, query] = [Math.floor(row / (heads * lengthQ)), Math.floor(row / lengthQ) % heads, row % lengthQ];
    const where = `of element ${element}, head ${head}, query ${query}`;
    if (differs(actualLse[row], attended.lse[row])) return `lse ${where} is ${actualLse[row]}, expected ${attended.lse[row]}`;
    const at = context.queryLayout === 'bhld' ? row : (element * lengthQ + query) * heads + head;
    for (let channel = 0; channel < dim; channel++) {
      const [actual, expected] = [actualO[at * dim + channel], attended.o[row * dim + channel]];
      if (differs(actual, expected)) return `o ${where}, channel ${channel} is ${actual}, expected ${expected}`;
    }
  }
  return undefined;
}
