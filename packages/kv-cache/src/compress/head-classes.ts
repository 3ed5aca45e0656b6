import { fromArray, mul, OptionError, reduce, reshape, scope, slice, type Tensor } from '@filigree/core-tensor';
import { checkIntegers, type HeadPlan } from '@filigree/sparse-attention';
import { appendOp } from '../ops/append.js';
import { biasesOf, type CompressContext, type Compressor } from './compressor.js';
import { asFloat } from './norms.js';

export interface StreamingHeadsOptions {
  /** First entries that streaming heads keep. */
  readonly sinks: number;
  /** Newest entries that they keep: a number, or one that depends on the length of the prompt. */
  readonly recent: number | ((length: number) => number);
  /** One more entry for what streaming heads drop: the mean of its keys and of its values, which counts as often as there were some. Default false. */
  readonly compensate?: boolean | undefined;
  /** Name in errors; default `duo-attention`. */
  readonly id?: string | undefined;
}

/**
 * Retrieval heads keep all entries, streaming heads the first and the newest ones. A key-value head streams when the plan is dense for none of its query
 * heads.
 *
 * Xiao et al., "DuoAttention: Efficient Long-Context LLM Inference with Retrieval and Streaming Heads", arXiv:2410.10819, which finds the plan by training
 * gates; Tang et al., "RazorAttention", arXiv:2407.15891, finds it by probing, and adds an entry for what was dropped: `compensate`.
 *
 * @throws OptionError when an option is out of its range or the plan is of another shape than the model.
 */
export function streamingHeads(
  plan: HeadPlan,
  { sinks, recent, compensate = false, id = 'duo-attention' }: StreamingHeadsOptions,
): Compressor {
  checkIntegers(id, typeof recent === 'number' ? { sinks, recent } : { sinks });
  const { kvHeads, heads } = plan.model;
  const group = heads / kvHeads;
  const retrieval = plan.layers.map((layer) =>
    Array.from({ length: kvHeads }, (_, head) =>
      layer.heads.slice(head * group, (head + 1) * group).some(({ method }) => method === 'dense'),
    ),
  );
  const newest = typeof recent === 'number' ? () => recent : recent;
  const kept = sinks + (compensate ? 1 : 0);
  const streaming = (length: number): number => Math.min(length, Math.max(1, kept + newest(length)));
  const expectLayer = (layer: number, layers: number): readonly boolean[] => {
    if (layers !== retrieval.length)
      throw new OptionError(`${id}: the plan has ${retrieval.length} layers, the model ${layers}`);
    return retrieval[layer];
  };
  return {
    id,
    queries: 0,
    queryAgnostic: true,
    budget(length, layer, layers) {
      const whole = expectLayer(layer, layers).filter(Boolean).length;
      return Math.ceil((whole * length + (kvHeads - whole) * streaming(length)) / kvHeads);
    },
    compress(context) {
      const { length, layer, layers, kvHeads: found } = context;
      const classes = expectLayer(layer, layers);
      if (found !== kvHeads) throw new OptionError(`${id}: the plan has ${kvHeads} key-value heads, the model ${found}`);
      const dropped = length - streaming(length);
      const first = Math.min(kept, streaming(length));
      if (compensate && dropped > 0)
        for (const [head, whole] of classes.entries())
          if (!whole) summarize(id, context, head, { start: sinks, count: dropped + 1 });
      const lists = classes.map((whole) =>
        Uint32Array.from({ length: whole ? length : streaming(length) }, (_, index) =>
          whole || index < first ? index : index + dropped,
        ),
      );
      return Promise.resolve(lists);
    },
  };
}

/** Makes the first of some entries of a head their mean, which counts as much as all of them. */
function summarize(
  id: string,
  context: CompressContext,
  head: number,
  { start, count }: { readonly start: number; readonly count: number },
): void {
  const { backend, k, v, kvHeads, length } = context;
  const bias = biasesOf(id, context)[head];
  const masses = Array.from(bias.subarray(start, start + count), Math.exp);
  const total = masses.reduce((a, b) => a + b, 0);
  scope(() => {
    const shares = masses.map((mass) => mass / total);
    const factors = fromArray(backend, shares, [1, count, 1]);
    const mean = (x: Tensor): Tensor =>
      reduce(mul(asFloat(slice(x, [head, start, 0], [1, count, x.shape[2]])), factors), 'sum', { axis: 1, keepDims: true });
    const pages = (x: Tensor): Tensor => reshape(x, [kvHeads, 1, length, x.shape[2]]);
    const slots = fromArray(backend, [head * length + start], [1], 'i32');
    appendOp({ keyPages: pages(k), valuePages: pages(v), k: mean(k), v: mean(v), slots }, {});
  });
  bias[start] = Math.log(total);
}

export interface GateOptions {
  /** Share of the key-value heads that stream, those with the smallest gates. */
  readonly sparsity: number;
}

/**
 * A plan from gates [layers][kvHeads] within 0 and 1, as DuoAttention trains them: of all heads the `floor(sparsity · heads)` smallest stream. A layer without
 * gates, which has a window of its own, is left as it is.
 *
 * @throws OptionError when sparsity is not within 0 and 1, or gates are not of the model's shape.
 */
export function gatePlan(model: HeadPlan['model'], gates: readonly ArrayLike<number>[], { sparsity }: GateOptions): HeadPlan {
  if (!(sparsity >= 0 && sparsity <= 1)) throw new OptionError(`gatePlan: sparsity is ${sparsity}, it must lie within 0 and 1`);
  if (gates.length !== model.layers || gates.some((row) => row.length > 0 && row.length !== model.kvHeads))
    throw new OptionError(`gatePlan: gates must be [${model.layers}][${model.kvHeads}]`);
  const all = gates.flatMap((row, layer) => Array.from(row, (gate, head) => ({ gate, place: layer * model.kvHeads + head })));
  const bad = all.find(({ gate }) => !Number.isFinite(gate));
  if (bad) throw new OptionError(`gatePlan: gate ${bad.place} is ${bad.gate}, it must be a number`);
  all.sort((a, b) => a.gate - b.gate || a.place - b.place);
  const streams = new Set(all.slice(0, Math.floor(sparsity * all.length + 1e-9)).map(({ place }) => place));
  return streamingPlan(model, streams, { method: 'duo-attention', sparsity });
}

/** A plan whose heads are dense but for some key-value heads, which stream: `layer · kvHeads + head`. */
export function streamingPlan(
  model: HeadPlan['model'],
  streams: ReadonlySet<number>,
  calibration: HeadPlan['calibration'],
): HeadPlan {
  const group = model.heads / model.kvHeads;
  const layers = Array.from({ length: model.layers }, (_, layer) => ({
    heads: Array.from({ length: model.heads }, (_head, head) => ({
      method: streams.has(layer * model.kvHeads + Math.floor(head / group)) ? 'streaming-llm' : 'dense',
      options: {},
    })),
  }));
  return { version: 1, model, calibration, layers };
}
