import {
  caseTensor,
  defineOp,
  DTypeError,
  formatShape,
  OptionError,
  scope,
  ShapeError,
  type HostTensor,
  type Tensor,
} from '@filigree/core-tensor';
import { queryLayouts, type QueryLayout } from './check.js';
import { mergeKernel } from './webgpu-merge.js';

/**
 * Attention over two disjoint sets of keys from attention over each: lse = ln(e^lse₁ + e^lse₂), o = e^(lse₁ − lse) o₁ + e^(lse₂ − lse) o₂.
 *
 * o, otherO [B,Hq,Lq,Dv] (or [B,Lq,Hq,Dv] with queryLayout `blhd`)   lse [B,Hq,Lq]   otherLse [B,Hq,Lq], or [Hq]: one for every row of a head
 * Without otherO the other part's values are 0: a learnable sink. Rows of which both parts are empty (−∞) give o = 0, lse = −∞.
 */
export const mergeOp = /* @__PURE__ */ defineOp({
  name: 'sparse-attention/merge',
  inputs: ['o', 'lse', 'otherO?', 'otherLse'],
  outputs: ['merged', 'mergedLse'],
  attributes: { queryLayout: { type: 'enum', values: queryLayouts, default: 'bhld' } },
  infer({ o, lse, otherO, otherLse }, { queryLayout }) {
    for (const [name, meta] of Object.entries({ o, lse, otherO, otherLse }))
      if (meta && meta.dtype !== 'f32') throw new DTypeError(`merge: ${name} is ${meta.dtype}, it takes f32`);
    if (o.shape.length !== 4) throw new ShapeError(`merge: o is ${formatShape(o.shape)}, it takes four axes`);
    const [batch, heads, length] = rowShape(o, queryLayout);
    const expectRows = (name: string, { shape }: { readonly shape: readonly number[] }): void => {
      if (shape.join() !== [batch, heads, length].join())
        throw new ShapeError(`merge: ${name} is ${formatShape(shape)}, o has rows [${batch}, ${heads}, ${length}]`);
    };
    expectRows('lse', lse);
    if (otherLse.shape.length !== 1 || otherLse.shape[0] !== heads) expectRows('otherLse', otherLse);
    if (otherO && otherO.shape.join() !== o.shape.join())
      throw new ShapeError(`merge: otherO is ${formatShape(otherO.shape)}, o is ${formatShape(o.shape)}`);
    return { merged: o, mergedLse: lse };
  },
  reference({ o, lse, otherO, otherLse, merged, mergedLse }, { queryLayout }) {
    const [, heads, length] = rowShape(o, queryLayout);
    const dim = o.shape[3];
    for (let row = 0; row < lse.data.length; row++) {
      const [batch, head, query] = [Math.floor(row / (heads * length)), Math.floor(row / length) % heads, row % length];
      const at = queryLayout === 'bhld' ? row : (batch * length + query) * heads + head;
      const [own, other] = [lse.data[row], otherLse.data[otherLse.shape.length === 1 ? head : row]];
      const largest = Math.max(own, other);
      mergedLse.data[row] = largest;
      if (largest === -Infinity) continue;
      const [weight, otherWeight] = [Math.exp(own - largest), Math.exp(other - largest)];
      const sum = weight + otherWeight;
      mergedLse.data[row] = largest + Math.log(sum);
      for (let channel = at * dim; channel < (at + 1) * dim; channel++) {
        const value = weight * o.data[channel] + (otherO ? otherWeight * otherO.data[channel] : 0);
        merged.data[channel] = value / sum;
      }
    }
  },
  native: 'sparse_attention_merge',
  webgpu: mergeKernel,
  tolerance: { default: { absolute: 1e-5, relative: 1e-5 } },
  cases: (fc) =>
    fc
      .record({
        size: fc.tuple(fc.constantFrom(0, 1, 2), fc.constantFrom(1, 2, 3, 5), fc.constantFrom(1, 7, 33)),
        dim: fc.constantFrom(1, 8, 35, 64),
        queryLayout: fc.constantFrom(...queryLayouts),
        kind: fc.constantFrom('part', 'part', 'sink', 'sinks'),
      })
      .chain(({ size: [batch, heads, length], dim, queryLayout, kind }) => {
        const shape = queryLayout === 'bhld' ? [batch, heads, length, dim] : [batch, length, heads, dim];
        const rows = caseTensor(fc, [batch, heads, length], { low: -8, high: 8 }).map(withEmptyRows);
        return fc.record({
          inputs: fc.record({
            o: caseTensor(fc, shape),
            lse: rows,
            otherO: kind === 'part' ? caseTensor(fc, shape) : fc.constant(undefined),
            otherLse: kind === 'sinks' ? caseTensor(fc, [heads], { low: -8, high: 8 }).map(withEmptyRows) : rows,
          }),
          attributes: fc.constant({ queryLayout }),
        });
      }),
});

function rowShape(o: { readonly shape: readonly number[] }, layout: string): readonly [number, number, number] {
  const [batch, first, second] = o.shape;
  return layout === 'bhld' ? [batch, first, second] : [batch, second, first];
}

/** Every third row has seen no key; weights of the others are numbers of f32. */
function withEmptyRows(tensor: HostTensor): HostTensor {
  for (let index = 0; index < tensor.data.length; index++) tensor.data[index] = Math.max(-30, Math.min(30, tensor.data[index]));
  for (let index = 0; index < tensor.data.length; index += 3) tensor.data[index] = -Infinity;
  return tensor;
}

/**
 * Attention over the keys of all parts, which must be disjoint. `sinks` f32 [Hq] are learnable logits that take part in the softmax and add no
 * value. One part alone comes back as it is.
 *
 * @throws OptionError when there is no part.
 */
export function mergeAttention(
  parts: readonly { readonly o: Tensor; readonly lse: Tensor }[],
  { sinks, queryLayout }: { readonly sinks?: Tensor | undefined; readonly queryLayout?: QueryLayout | undefined } = {},
): { o: Tensor; lse: Tensor } {
  if (parts.length === 0) throw new OptionError('mergeAttention: there are no parts');
  const merge = (
    part: { o: Tensor; lse: Tensor },
    otherO: Tensor | undefined,
    otherLse: Tensor,
  ): { o: Tensor; lse: Tensor } => {
    const { merged, mergedLse } = mergeOp({ ...part, otherO, otherLse }, { queryLayout });
    return { o: merged, lse: mergedLse };
  };
  return scope(() => {
    const whole = parts.reduce((before, { o, lse }) => merge(before, o, lse));
    return sinks ? merge(whole, undefined, sinks) : { o: whole.o, lse: whole.lse };
  });
}
