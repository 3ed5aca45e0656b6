import { defineOp, ExecutionError } from '@filigree/core-tensor';
import { codedLayout, kvFormats, kvSides } from '../codecs/layout.js';
import { decodePage } from '../codecs/page-codes.js';
import { checkCodedPages, checkIds } from './check-coded.js';
import { idsCase, layoutCase, pagesOf } from './coded-cases.js';
import { decodeKernel } from './webgpu-coded.js';

/**
 * The rows that pages of codes stand for.
 *
 * coded [pages,Hk,bytes] u8   ids i32 [n]   rows [n,Hk,P,D] f32: code · scale, code · scale + zero, or level[code] · scale, rotated as
 * they were encoded; of `bitmap` what was kept, and 0. Writes 4·n·Hk·P·D bytes.
 */
export const decodeOp = /* @__PURE__ */ defineOp({
  name: 'kv-cache/decode',
  inputs: ['coded', 'ids'],
  outputs: ['rows'],
  attributes: {
    side: { type: 'enum', values: kvSides },
    format: { type: 'enum', values: kvFormats },
    pageSize: { type: 'number' },
    dim: { type: 'number' },
  },
  infer({ coded, ids }, { side, format, pageSize, dim }) {
    checkCodedPages('decode', 'coded', coded, codedLayout(format, side, pageSize, dim));
    checkIds('decode', 'ids', ids);
    return { rows: { shape: [ids.shape[0], coded.shape[1], pageSize, dim], dtype: 'f32' } };
  },
  reference({ coded, ids, rows }, { side, format, pageSize, dim }) {
    const layout = codedLayout(format, side, pageSize, dim);
    const [count, heads] = coded.shape;
    const size = pageSize * dim;
    const bytes = coded.data as Uint8Array;
    for (const [index, id] of ids.data.entries()) {
      if (id < 0 || id >= count) throw new ExecutionError(`decode: page ${id} is outside of the ${count} pages`);
      for (let head = 0; head < heads; head++) {
        const [from, to] = [(id * heads + head) * layout.bytes, (index * heads + head) * size];
        decodePage(layout, bytes.subarray(from, from + layout.bytes), rows.data.subarray(to, to + size));
      }
    }
  },
  native: 'kv_cache_decode',
  webgpu: decodeKernel,
  cases: (fc) =>
    fc
      .record({
        layout: layoutCase(fc),
        pages: fc.integer({ min: 1, max: 4 }),
        heads: fc.integer({ min: 1, max: 3 }),
        count: fc.nat(3),
      })
      .chain(({ layout, pages, heads, count }) =>
        fc.record({
          inputs: fc.record({ coded: pagesOf(fc, layout, pages, heads), ids: idsCase(fc, count, pages) }),
          attributes: fc.constant({
            ...{ side: layout.side, format: layout.format },
            ...{ pageSize: layout.pageSize, dim: layout.dim },
          }),
        }),
      ),
});
