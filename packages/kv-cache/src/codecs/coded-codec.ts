import { empty, type Backend, type KvCodec, type Tensor } from '@filigree/core-tensor';
import { decodeOp } from '../ops/decode.js';
import { encodeOp } from '../ops/encode.js';
import { codedLayout, groupColumns, type KvFormat, type KvSide } from './layout.js';

/** Pages as codes, which attention reads as they are. Raw rows are encoded a whole page at a time. */
export interface CodedKvCodec extends KvCodec {
  readonly format: KvFormat;
  /** Keys and values of one head need not take the same where the head dim is not a multiple of 32. */
  bytesPerEntry(headDim: number, side?: KvSide): number;
  /** Empty pages u8 [pages, heads, bytes]. */
  allocate(backend: Backend, side: KvSide, size: CodedPagesSize): Tensor;
  /** Pages `sources` of raw rows [n, Hk, P, D] become the coded pages `targets`; ids are i32 [n]. */
  encodePages(
    side: KvSide,
    io: { readonly pages: Tensor; readonly sources: Tensor; readonly targets: Tensor; readonly coded: Tensor },
  ): void;
  /** Rows f32 [n, Hk, P, D] of the pages `ids`, i32 [n]. */
  decodePages(side: KvSide, coded: Tensor, ids: Tensor, size: Pick<CodedPagesSize, 'pageSize' | 'dim'>): Tensor;
}

export interface CodedPagesSize {
  readonly pages: number;
  readonly heads: number;
  /** Entries of a page, a multiple of 32. */
  readonly pageSize: number;
  readonly dim: number;
}

export function codedCodec(format: KvFormat): CodedKvCodec {
  return {
    id: format,
    format,
    unit: groupColumns,
    bytesPerEntry: (headDim, side = 'keys') => codedLayout(format, side, groupColumns, headDim).bytes / groupColumns,
    allocate: (backend, side, { pages, heads, pageSize, dim }) =>
      empty(backend, [pages, heads, codedLayout(format, side, pageSize, dim).bytes], 'u8'),
    encodePages: (side, io) => {
      encodeOp(io, { side, format });
    },
    decodePages: (side, coded, ids, { pageSize, dim }) => decodeOp({ coded, ids }, { side, format, pageSize, dim }).rows,
  };
}
