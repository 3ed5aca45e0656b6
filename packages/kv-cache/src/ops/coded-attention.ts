import {
  caseTensor,
  defineOp,
  DTypeError,
  ExecutionError,
  formatShape,
  ShapeError,
  type HostTensor,
} from '@filigree/core-tensor';
import { codedLayout, isTurbo, kvFormats, type CodedLayout, type KvFormat } from '../codecs/layout.js';
import { decodePage } from '../codecs/page-codes.js';
import { checkCodedPages } from './check-coded.js';
import { codedPages, formatCase, idsCase, layoutCase } from './coded-cases.js';
import { codedAttentionKernel } from './webgpu-coded.js';

/**
 * Exact attention over whole pages of codes, read as they are: o = softmax(scale · q kᵀ) v for k and v as {@link decodeOp} gives them, of turbo rotated, and its log-sum-exp.
 * Every query sees every entry: coded pages are older than the queries. Entries behind them are attended to with `attention` and merged.
 *
 * q [B,Lq,Hq,D] f32   kPages, vPages [pages,Hk,bytes] u8   table i32 [B,pages of an element]   lengths i32 [B]: entries, multiples of pageSize
 * o [B,Lq,Hq,Dv] f32   lse [B,Hq,Lq] f32, natural logarithm; without entries o = 0, lse = −∞
 *
 * Query head h reads key-value head floor(h / (Hq/Hk)). softcap c > 0: scores become c·tanh(score / c). A query with NaN or ∞ in it gives NaN. Reads
 * the coded pages once for the query heads that share them; 2·cells·(D + Dv) operations.
 */
export const codedAttentionOp = /* @__PURE__ */ defineOp({
  name: 'kv-cache/coded-attention',
  inputs: ['q', 'kPages', 'vPages', 'table', 'lengths'],
  outputs: ['o', 'lse'],
  attributes: {
    scale: { type: 'number' },
    softcap: { type: 'number', default: 0 },
    kFormat: { type: 'enum', values: kvFormats },
    vFormat: { type: 'enum', values: kvFormats },
    pageSize: { type: 'number' },
    valueDim: { type: 'number' },
  },
  infer({ q, kPages, vPages, table, lengths }, attributes) {
    const { kFormat, vFormat, pageSize, valueDim } = attributes;
    if (q.dtype !== 'f32' || q.shape.length !== 4)
      throw new ShapeError(`coded-attention: q is ${q.dtype} ${formatShape(q.shape)}, it takes f32 [B, Lq, Hq, D]`);
    const [batch, lengthQ, heads, dim] = q.shape;
    checkCodedPages('coded-attention', 'kPages', kPages, codedLayout(kFormat, 'keys', pageSize, dim));
    checkCodedPages('coded-attention', 'vPages', vPages, codedLayout(vFormat, 'values', pageSize, valueDim));
    const [pages, kvHeads] = kPages.shape;
    if (vPages.shape[0] !== pages || vPages.shape[1] !== kvHeads)
      throw new ShapeError(
        `coded-attention: kPages ${formatShape(kPages.shape)} and vPages ${formatShape(vPages.shape)} do not fit`,
      );
    if (kvHeads === 0 || heads % kvHeads !== 0)
      throw new ShapeError(`coded-attention: ${heads} query heads do not share ${kvHeads} key-value heads`);
    if (table.dtype !== 'i32' || table.shape.length !== 2 || table.shape[0] !== batch)
      throw new ShapeError(
        `coded-attention: table is ${table.dtype} ${formatShape(table.shape)}, it takes i32 [${batch}, pages]`,
      );
    if (lengths.dtype !== 'i32' || lengths.shape.join() !== String(batch))
      throw new DTypeError(
        `coded-attention: lengths is ${lengths.dtype} ${formatShape(lengths.shape)}, it takes i32 [${batch}]`,
      );
    return {
      o: { shape: [batch, lengthQ, heads, valueDim], dtype: 'f32' },
      lse: { shape: [batch, heads, lengthQ], dtype: 'f32' },
    };
  },
  reference({ q, kPages, vPages, table, lengths, o, lse }, { scale, softcap, kFormat, vFormat, pageSize, valueDim }) {
    const [batch, lengthQ, heads, dim] = q.shape;
    const layouts = [codedLayout(kFormat, 'keys', pageSize, dim), codedLayout(vFormat, 'values', pageSize, valueDim)] as const;
    const group = heads / kPages.shape[1];
    for (let element = 0; element < batch; element++) {
      const pages = pagesOfElement(table, element, lengths.data[element], pageSize, kPages.shape[0]);
      for (let head = 0; head < heads; head++) {
        const kvHead = Math.floor(head / group);
        const keys = pages.flatMap((page) => decodedRows(layouts[0], kPages, page, kvHead));
        const values = pages.flatMap((page) => decodedRows(layouts[1], vPages, page, kvHead));
        for (let query = 0; query < lengthQ; query++) {
          const row = (element * lengthQ + query) * heads + head;
          const own = Array.from(q.data.subarray(row * dim, (row + 1) * dim));
          const finite = own.every((value) => Number.isFinite(value));
          const scores = keys.map((key) => {
            const dot = finite ? key.reduce((sum, value, channel) => sum + value * own[channel], 0) : NaN;
            return softcap > 0 ? softcap * Math.tanh((scale * dot) / softcap) : scale * dot;
          });
          const largest = scores.reduce((most, score) => (score > most ? score : most), -1e30);
          const weights = scores.map((score) => Math.exp(score - largest));
          const sum = weights.reduce((total, weight) => total + weight, 0);
          lse.data[(element * heads + head) * lengthQ + query] = sum === 0 ? -Infinity : largest + Math.log(sum);
          if (sum === 0) continue;
          for (let channel = 0; channel < valueDim; channel++)
            o.data[row * valueDim + channel] =
              weights.reduce((total, weight, entry) => total + weight * values[entry][channel], 0) / sum;
        }
      }
    }
  },
  native: 'kv_cache_coded_attention',
  webgpu: codedAttentionKernel,
  // Weights are off by as much as log-sum-exps are.
  tolerance: { o: { absolute: 1e-4, relative: 1e-4 }, lse: { absolute: 1e-4, relative: 1e-5 } },
  cases: (fc) =>
    fc
      .record({
        keys: layoutCase(fc),
        valueFormat: fc.option(formatCase(fc), { nil: undefined }),
        valueDim: fc.constantFrom(1, 16, 24, 35, 40),
        sizes: fc.tuple(fc.constantFrom(0, 1, 1, 2), fc.constantFrom(1, 1, 2, 7), fc.constantFrom(1, 2, 3)),
        group: fc.constantFrom(1, 2, 3, 5),
        pages: fc.integer({ min: 1, max: 4 }),
        width: fc.integer({ min: 1, max: 5 }),
        seed: fc.nat(0x7ffffff),
        magnitudes: fc.tuple(fc.constantFrom(1, 1, 1e-3, 8), fc.constantFrom(1, 1, 1e-3, 8)),
        softcap: fc.constantFrom(0, 0, 5),
      })
      .chain(({ keys, valueFormat, valueDim, sizes, group, pages, width, seed, magnitudes, softcap }) => {
        const [batch, lengthQ, kvHeads] = sizes;
        const { pageSize, dim } = keys;
        const kFormat = keys.format;
        const vFormat: KvFormat = valueFormat ?? kFormat;
        const kLayout = codedLayout(kFormat, 'keys', pageSize, dim);
        const vLayout = codedLayout(vFormat, 'values', pageSize, pageSize > 32 || isTurbo(vFormat) ? 16 : valueDim);
        return fc.record({
          inputs: fc.record({
            // Scores of some hundreds at most: what they lose to rounding goes into o as it is.
            q: caseTensor(fc, [batch, lengthQ, kvHeads * group, dim], { low: -0.5, high: 0.5 }),
            kPages: fc.constant(codedPages(kLayout, pages, kvHeads, seed, magnitudes[0])),
            vPages: fc.constant(codedPages(vLayout, pages, kvHeads, seed + 1, magnitudes[1])),
            table: idsCase(fc, batch * width, pages).map((ids): HostTensor => ({ ...ids, shape: [batch, width] })),
            lengths: fc.array(fc.nat(width), { minLength: batch, maxLength: batch }).map((counts): HostTensor => ({
              shape: [batch],
              dtype: 'i32',
              data: Int32Array.from(counts, (count) => count * pageSize),
            })),
          }),
          attributes: fc.constant({
            ...{ scale: 1 / Math.sqrt(dim), softcap, kFormat, vFormat },
            ...{ pageSize, valueDim: vLayout.dim },
          }),
        });
      }),
});

/** @throws ExecutionError unless the length is that of pages in the table, all of which are there. */
function pagesOfElement(table: HostTensor, element: number, length: number, pageSize: number, count: number): number[] {
  const width = table.shape[1];
  if (length < 0 || length % pageSize !== 0 || length / pageSize > width)
    throw new ExecutionError(
      `coded-attention: length ${length} is not whole pages of ${pageSize} of the ${width} in the table`,
    );
  const pages = Array.from({ length: length / pageSize }, (_, index) => table.data[element * width + index]);
  for (const page of pages) {
    if (page < 0 || page >= count) throw new ExecutionError(`coded-attention: page ${page} is outside of the ${count} pages`);
  }
  return pages;
}

/** The entries of a page of a head. */
function decodedRows(layout: CodedLayout, coded: HostTensor, page: number, head: number): number[][] {
  const at = (page * coded.shape[1] + head) * layout.bytes;
  const rows: number[] = new Array<number>(layout.pageSize * layout.dim).fill(0);
  decodePage(layout, (coded.data as Uint8Array).subarray(at, at + layout.bytes), rows);
  return Array.from({ length: layout.pageSize }, (_, entry) => rows.slice(entry * layout.dim, (entry + 1) * layout.dim));
}
