import { binary, fromArray, OptionError, reduce, reshape, scope, slice, sub, unary, type Tensor } from '@filigree/core-tensor';
import { attendByPolicy, type PolicyResult } from '../attend-by-policy.js';
import { attentionMethod } from '../catalogue.js';
import type { HeadChoice } from '../head-plan.js';
import type { LayerSample } from './capture.js';

/** How one candidate does on one layer and text, per query head. */
export interface HeadFigures {
  /** Visible cells over causal cells. */
  readonly density: readonly number[];
  /** Mean share of the true attention mass that the visible keys hold, over the rows from `fromRow` on. */
  readonly mass: readonly number[];
  /** Σ |o − dense o| / Σ |dense o|. */
  readonly error: readonly number[];
  /** Σ |o − dense o| / rows. */
  readonly rowError: readonly number[];
}

/** Figures of every candidate over all heads of a layer, beside dense attention. */
export async function headFigures(
  sample: LayerSample,
  candidates: readonly HeadChoice[],
  fromRow: number,
): Promise<HeadFigures[]> {
  const { backend, context, length } = sample;
  const dense = attendByPolicy(context, attentionMethod('dense').create({}));
  try {
    const norms = await readAndDispose(sumOfHead(dense.o));
    const figures: HeadFigures[] = [];
    for (const { method, options } of candidates) {
      const policy = attentionMethod(method).create(options);
      if (policy.kind === 'selector' && policy.selector.init)
        throw new OptionError(`calibrate: ${method} selects while decoding; a candidate is a method for prompts`);
      const sparse = attendByPolicy(context, policy);
      try {
        const sums = await readAndDispose(scope(() => sumOfHead(sub(sparse.o, dense.o))));
        figures.push({
          density: await densities(sample, sparse.cells),
          mass: await readAndDispose(massOfHead(sparse, dense, Math.min(fromRow, length - 1))),
          error: sums.map((sum, head) => (norms[head] === 0 ? 0 : sum / norms[head])),
          rowError: sums.map((sum) => sum / length),
        });
      } finally {
        disposeResult(sparse);
      }
      await backend.ready();
    }
    return figures;
  } finally {
    disposeResult(dense);
  }
}

/** Σ |x| of each head, for x [1, L, Hq, D]. */
function sumOfHead(x: Tensor): Tensor {
  const [, length, heads, dim] = x.shape;
  return scope(() => {
    const channels = reduce(unary(reshape(x, [length, heads, dim]), 'abs'), 'sum', { axis: 2 });
    return reduce(channels, 'sum', { axis: 0 });
  });
}

/** Mean of e^(lse − dense lse) over the rows from `fromRow` on; rounding must not make it more than everything. */
function massOfHead(sparse: PolicyResult, dense: PolicyResult, fromRow: number): Tensor {
  const [, heads, length] = sparse.lse.shape;
  return scope(() => {
    const share = unary(reshape(sub(sparse.lse, dense.lse), [heads, length]), 'exp');
    const one = fromArray(share.backend, [1], [1]);
    const rows = slice(binary(share, one, 'min'), [0, fromRow], [heads, length - fromRow]);
    return reduce(rows, 'mean', { axis: 1 });
  });
}

async function readAndDispose(tensor: Tensor): Promise<number[]> {
  try {
    return Array.from(await tensor.readNumbers());
  } finally {
    tensor.dispose();
  }
}

/** Visible over causal cells of each head. */
async function densities({ heads, length }: LayerSample, cells: PolicyResult['cells']): Promise<number[]> {
  const causal = (length * (length + 1)) / 2;
  if (cells === undefined) return Array<number>(heads).fill(1);
  if (typeof cells === 'number') return Array<number>(heads).fill(cells / (heads * causal));
  const sums = Array<number>(heads).fill(0);
  for (const part of cells) {
    const [, maskHeads] = part.shape;
    const byHead = await readAndDispose(scope(() => reduce(reshape(part, part.shape.slice(1)), 'sum', { axis: 1 })));
    for (let head = 0; head < heads; head++) sums[head] += byHead[Math.floor((head * maskHeads) / heads)];
  }
  return sums.map((sum) => sum / causal);
}

function disposeResult({ o, lse, cells }: PolicyResult): void {
  for (const tensor of [o, lse, ...(Array.isArray(cells) ? (cells as Tensor[]) : [])]) tensor.dispose();
}
