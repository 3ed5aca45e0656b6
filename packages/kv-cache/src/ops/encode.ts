import {
  caseTensor,
  defineOp,
  DTypeError,
  ExecutionError,
  formatShape,
  ShapeError,
  type HostTensor,
} from '@filigree/core-tensor';
import { codedLayout, kvFormats, kvSides } from '../codecs/layout.js';
import { encodable, encodePage } from '../codecs/page-codes.js';
import { checkCodedPages, checkIds } from './check-coded.js';
import { idsCase, layoutCase } from './coded-cases.js';
import { encodeKernel } from './webgpu-coded.js';

/**
 * Whole pages of rows → pages of codes, in place; no other page is touched. What the bytes mean: `CodedLayout`.
 *
 * pages [pages,Hk,P,D] f32 or f16   sources, targets i32 [n]   coded [coded pages,Hk,bytes] u8 (mutated)
 *
 * `int8`: per entry, scale = max|x| / 127, code = x / scale. `kivi4`, `kivi2`: per channel over 32 entries of keys, per entry over 32 channels of values,
 * zero = min, scale = (max − zero) / 15 or 3, code = (x − zero) / scale. Scales are f16 rounded up and zeros f16 rounded down, codes are relative to them as
 * stored and rounded half to even. `turbo4`, `turbo2`: of rows that `rotateOp` made, per entry scale = √(mean x²), rounded up, code = the nearest of
 * 16 or 4 levels of the normal distribution to x / scale. `bitmap`: of every entry its largest magnitudes, of equal ones those of lower channels, rounded to
 * f16. Numbers beyond ±65504 — of turbo, roots of mean squares —, ∞ and NaN among them, are refused and nothing is written; a device that cannot refuse
 * writes a NaN scale, and what the scale belongs to decodes to NaN, or a NaN for each such number.
 *
 * Liu et al., "KIVI: A Tuning-Free Asymmetric 2bit Quantization for KV Cache", arXiv:2402.02750. Zandieh et al., "TurboQuant: Online Vector Quantization with
 * Near-optimal Distortion Rate", arXiv:2504.19874. Joo et al., "Mustafar: Promoting Unstructured Sparsity for KV Cache Pruning in LLM Inference",
 * arXiv:2505.22913.
 */
export const encodeOp = /* @__PURE__ */ defineOp({
  name: 'kv-cache/encode',
  inputs: ['pages', 'sources', 'targets', 'coded'],
  outputs: [],
  attributes: {
    side: { type: 'enum', values: kvSides },
    format: { type: 'enum', values: kvFormats },
  },
  mutates: ['coded'],
  infer({ pages, sources, targets, coded }, { side, format }) {
    if (pages.dtype !== 'f32' && pages.dtype !== 'f16')
      throw new DTypeError(`encode: pages are ${pages.dtype}, they take f32 or f16`);
    if (pages.shape.length !== 4 || pages.shape[1] !== coded.shape[1])
      throw new ShapeError(`encode: pages ${formatShape(pages.shape)} do not fit coded ${formatShape(coded.shape)}`);
    checkCodedPages('encode', 'coded', coded, codedLayout(format, side, pages.shape[2], pages.shape[3]));
    checkIds('encode', 'sources', sources);
    checkIds('encode', 'targets', targets);
    if (sources.shape[0] !== targets.shape[0])
      throw new ShapeError(`encode: there are ${sources.shape[0]} sources and ${targets.shape[0]} targets`);
    return {};
  },
  reference({ pages, sources, targets, coded }, { side, format }) {
    const [count, heads, pageSize, dim] = pages.shape;
    const layout = codedLayout(format, side, pageSize, dim);
    const size = pageSize * dim;
    const bytes = coded.data as Uint8Array;
    expectPages('source', sources, count);
    expectPages('target', targets, coded.shape[0]);
    if (new Set(targets.data).size !== targets.data.length) throw new ExecutionError('encode: a page is a target twice');
    const rowsOf = (index: number, head: number): HostTensor['data'] => {
      const at = (sources.data[index] * heads + head) * size;
      return pages.data.subarray(at, at + size);
    };
    for (let index = 0; index < sources.data.length; index++)
      for (let head = 0; head < heads; head++)
        if (!encodable(layout, rowsOf(index, head)))
          throw new ExecutionError('encode: a row has a number that half precision does not hold');
    for (let index = 0; index < sources.data.length; index++) {
      for (let head = 0; head < heads; head++) {
        const at = (targets.data[index] * heads + head) * layout.bytes;
        encodePage(layout, rowsOf(index, head), bytes.subarray(at, at + layout.bytes).fill(0));
      }
    }
  },
  native: 'kv_cache_encode',
  webgpu: encodeKernel,
  cases: (fc) =>
    fc
      .record({
        layout: layoutCase(fc),
        pages: fc.integer({ min: 1, max: 3 }),
        heads: fc.integer({ min: 1, max: 3 }),
        coded: fc.integer({ min: 1, max: 4 }),
        count: fc.nat(3),
        dtype: fc.constantFrom('f32' as const, 'f16' as const),
      })
      .chain(({ layout, pages, heads, coded, count, dtype }) => {
        const n = Math.min(count, coded);
        const { pageSize, dim } = layout;
        // f32 rows of the larger pages are more than the smallest binding holds.
        const fitting = 4 * pageSize * dim <= 3840 ? dtype : 'f16';
        return fc.record({
          inputs: fc.record({
            pages: caseTensor(fc, [pages, heads, pageSize, dim], { dtype: fitting }),
            sources: idsCase(fc, n, pages),
            targets: fc
              .shuffledSubarray([...Array(coded).keys()], { minLength: n, maxLength: n })
              .map((ids): HostTensor => ({ shape: [n], dtype: 'i32', data: Int32Array.from(ids) })),
            coded: caseTensor(fc, [coded, heads, layout.bytes], { dtype: 'u8', low: 0, high: 255 }),
          }),
          attributes: fc.constant({ side: layout.side, format: layout.format }),
        });
      }),
});

function expectPages(name: string, { data }: HostTensor, count: number): void {
  for (const id of data) {
    if (id < 0 || id >= count) throw new ExecutionError(`encode: ${name} ${id} is outside of the ${count} pages`);
  }
}
