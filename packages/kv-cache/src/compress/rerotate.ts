import { fromArray, gatherRows, OptionError, reshape, scope, type Tensor } from '@filigree/core-tensor';
import { appendOp } from '../ops/append.js';
import type { CompressContext, Compressor } from './compressor.js';
import { asFloat } from './norms.js';

/**
 * Turns the keys that are kept as if they were neighbours, the last of them just before the next token: of the positions that keys had, their order is left. The same distances as
 * if the sequence had begun with what is kept.
 *
 * Positions of the entries stay what they were and no longer say how keys are turned: what is kept cannot be moved, nor cut further by methods that turn keys back. Kept · D operations per key-value head.
 * As `KeyRerotationPress` of kvpress (Jegou and Jeblick, NVIDIA).
 *
 * @throws OptionError for a method that drops tokens from later layers, or reads the prompt again.
 */
export function rerotate(inner: Compressor): Compressor {
  const { id, queries, queryAgnostic, cascade, repeat } = inner;
  if (cascade || repeat) throw new OptionError(`${id}: rerotate takes methods that decide about one layer of a whole prompt`);
  return {
    id,
    queries,
    queryAgnostic,
    budget: (length, layer, layers) => inner.budget(length, layer, layers),
    async compress(context) {
      const kept = await inner.compress(context);
      for (const [head, ids] of kept.entries()) turnHead(context, head, ids);
      return kept;
    },
  };
}

function turnHead({ backend, k, v, kvHeads, length, rotate }: CompressContext, head: number, ids: Uint32Array): void {
  const first = length - ids.length;
  const by = Int32Array.from(ids, (id, index) => first + index - id);
  if (by.every((distance) => distance === 0)) return;
  scope(() => {
    const list = (values: ArrayLike<number>): Tensor => fromArray(backend, values, [ids.length], 'i32');
    const slots = list(ids.map((id) => head * length + id));
    const single = (x: Tensor): Tensor =>
      reshape(asFloat(gatherRows(reshape(x, [kvHeads * length, x.shape[2]]), slots)), [ids.length, 1, x.shape[2]]);
    const pages = (x: Tensor): Tensor => reshape(x, [kvHeads, 1, length, x.shape[2]]);
    // Values are written as they were.
    const rows = { k: rotate(single(k), list(by)), v: single(v) };
    appendOp({ keyPages: pages(k), valuePages: pages(v), ...rows, slots }, {});
  });
}
