import { seededTensor, type HostTensor } from '@filigree/core-tensor';
import type * as FastCheck from 'fast-check';
import { bitmapTenths } from '../codecs/bitmap-layout.js';
import { codedLayout, isTurbo, kvFormats, kvSides, type CodedLayout, type KvFormat } from '../codecs/layout.js';
import { encodePage } from '../codecs/page-codes.js';

/** Bytes that the smallest binding of a test holds: pages of heads are not cut. */
const smallestBinding = 3840;

/** Formats; two of three times one of codes. */
export function formatCase(fc: typeof FastCheck): FastCheck.Arbitrary<KvFormat> {
  const pruned = (format: KvFormat): boolean => bitmapTenths(format) !== undefined;
  return fc.oneof(
    { weight: 2, arbitrary: fc.constantFrom(...kvFormats.filter((format) => !pruned(format))) },
    { weight: 1, arbitrary: fc.constantFrom(...kvFormats.filter(pruned)) },
  );
}

/** Layouts of the coded pages of one side whose pages the smallest binding holds, raw ones in f16 among them. */
export function layoutCase(fc: typeof FastCheck): FastCheck.Arbitrary<CodedLayout> {
  return fc
    .record({
      format: formatCase(fc),
      side: fc.constantFrom(...kvSides),
      pageSize: fc.constantFrom(32, 32, 64, 96),
      dim: fc.constantFrom(1, 3, 16, 17, 24, 32, 40, 56),
    })
    .filter(({ format, dim }) => !isTurbo(format) || Number.isInteger(Math.log2(dim)))
    .map(({ format, side, pageSize, dim }) => codedLayout(format, side, pageSize, dim))
    .filter(({ bytes, pageSize, dim }) => Math.max(bytes, 2 * pageSize * dim) <= smallestBinding);
}

/** Pages [pages, Hk, bytes] of normally distributed rows. */
export function codedPages(layout: CodedLayout, pages: number, heads: number, seed: number, magnitude: number): HostTensor {
  const data = new Uint8Array(pages * heads * layout.bytes);
  const size = layout.pageSize * layout.dim;
  const rows = seededTensor(seed, [pages * heads, size], {}, magnitude).data as Float32Array;
  for (let page = 0; page < pages * heads; page++)
    encodePage(
      layout,
      rows.subarray(page * size, (page + 1) * size),
      data.subarray(page * layout.bytes, (page + 1) * layout.bytes),
    );
  return { shape: [pages, heads, layout.bytes], dtype: 'u8', data };
}

/** Seed and magnitude of {@link codedPages}, as those of other case tensors. */
export function pagesOf(
  fc: typeof FastCheck,
  layout: CodedLayout,
  pages: number,
  heads: number,
): FastCheck.Arbitrary<HostTensor> {
  return fc
    .record({ seed: fc.nat(0x7fffffff), magnitude: fc.constantFrom(1, 1, 1, 1e-3, 100) })
    .map(({ seed, magnitude }) => codedPages(layout, pages, heads, seed, magnitude));
}

/** i32 ids of `count` pages, any of them. */
export function idsCase(fc: typeof FastCheck, count: number, pages: number): FastCheck.Arbitrary<HostTensor> {
  return fc
    .array(fc.nat(pages - 1), { minLength: count, maxLength: count })
    .map((ids): HostTensor => ({ shape: [count], dtype: 'i32', data: Int32Array.from(ids) }));
}
