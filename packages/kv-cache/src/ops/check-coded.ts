import { DTypeError, formatShape, ShapeError, type TensorMeta } from '@filigree/core-tensor';
import type { CodedLayout } from '../codecs/layout.js';

/** @throws ShapeError unless `coded` is u8 [pages, Hk, bytes of the layout]. */
export function checkCodedPages(op: string, name: string, coded: TensorMeta, layout: CodedLayout): void {
  if (coded.dtype !== 'u8') throw new DTypeError(`${op}: ${name} is ${coded.dtype}, it takes u8`);
  if (coded.shape.length !== 3 || coded.shape[2] !== layout.bytes)
    throw new ShapeError(
      `${op}: ${name} is ${formatShape(coded.shape)}; ${layout.side} of ${layout.dim} channels in ${layout.format}, ` +
        `${layout.pageSize} entries a page, take [pages, heads, ${layout.bytes}]`,
    );
}

/** @throws DTypeError unless `ids` is i32 [n]. */
export function checkIds(op: string, name: string, ids: TensorMeta): void {
  if (ids.dtype !== 'i32' || ids.shape.length !== 1)
    throw new DTypeError(`${op}: ${name} is ${ids.dtype} ${formatShape(ids.shape)}, it takes i32 [n]`);
}
