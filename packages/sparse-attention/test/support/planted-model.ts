import { fromArray, type Backend, type HookedRunOptions, type Tensor } from '@filigree/core-tensor';
import type { CalibratedModel } from '@filigree/sparse-attention';
import type { PlantedPrompt } from './planted.js';

/** [H, L, D] → [L, H, D], from row `start` to `end`. */
function tokenMajor(
  data: Float32Array,
  heads: number,
  { length, dim }: PlantedPrompt,
  start: number,
  end: number,
): Float32Array {
  const rows = new Float32Array((end - start) * heads * dim);
  for (let position = start; position < end; position++) {
    for (let head = 0; head < heads; head++) {
      const from = (head * length + position) * dim;
      rows.set(data.subarray(from, from + dim), ((position - start) * heads + head) * dim);
    }
  }
  return rows;
}

/** A model whose layers have the planted queries, keys and values, whatever it is asked about: token i of text t picks prompt `texts[t]`. */
export class PlantedModel implements CalibratedModel {
  readonly config: CalibratedModel['config'];
  runs = 0;

  /** `layers[layer](text)`: the prompt of a layer; a text is its first token. */
  constructor(
    readonly backend: Backend,
    private readonly prompts: readonly ((text: number) => PlantedPrompt)[],
    windows: readonly number[] = prompts.map(() => 0),
  ) {
    const { heads, kvHeads, dim } = prompts[0](0);
    this.config = {
      ...{ layers: prompts.length, heads, kvHeads, headDim: dim, windows },
      ...{ attentionScale: 1 / Math.sqrt(dim), attentionSoftcap: 0 },
    };
  }

  hooks(): string[] {
    return [];
  }

  /** Calls the readers once per chunk of 100 tokens, as models do with theirs. */
  async run(tokens: ArrayLike<number>, { read = {} }: HookedRunOptions = {}): Promise<Tensor> {
    this.runs++;
    for (const [layer, promptOf] of this.prompts.entries()) {
      const prompt = promptOf(tokens[0]);
      const { heads, kvHeads, dim } = prompt;
      for (let start = 0; start < tokens.length; start += 100) {
        const end = Math.min(tokens.length, start + 100);
        for (const [part, data, count] of [
          ['query', prompt.q, heads],
          ['key', prompt.k, kvHeads],
          ['value', prompt.v, kvHeads],
        ] as const) {
          const name = `layers.${layer}.attention.${part}`;
          if (!(name in read)) continue;
          const rows = tokenMajor(data, count, prompt, start, end);
          const shown = fromArray(this.backend, rows, [end - start, count, dim]);
          read[name](shown);
          shown.dispose();
        }
      }
    }
    await this.backend.ready();
    return fromArray(this.backend, [0], [1, 1]);
  }
}
