import { cast, empty, fromArray, gatherRows, scope, type Backend, type KvCodec, type Tensor } from '@filigree/core-tensor';
import { decodeOp } from '../ops/decode.js';
import { encodeOp } from '../ops/encode.js';
import { rotateOp } from '../ops/rotate.js';
import { codedLayout, groupColumns, type KvFormat, type KvSide } from './layout.js';

/** Pages as codes, which attention reads as they are. Raw rows are encoded a whole page at a time. */
export interface CodedKvCodec extends KvCodec {
  readonly format: KvFormat;
  /** Seed of the rotation that rows go through before they are encoded; codes alone are of rotated rows. None without one. */
  readonly rotation?: number | undefined;
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

export function codedCodec(format: KvFormat, rotation?: number): CodedKvCodec {
  return {
    id: format,
    format,
    rotation,
    unit: groupColumns,
    bytesPerEntry: (headDim, side = 'keys') => codedLayout(format, side, groupColumns, headDim).bytes / groupColumns,
    allocate: (backend, side, { pages, heads, pageSize, dim }) =>
      empty(backend, [pages, heads, codedLayout(format, side, pageSize, dim).bytes], 'u8'),
    encodePages: (side, { pages, sources, targets, coded }) => {
      if (rotation === undefined) {
        encodeOp({ pages, sources, targets, coded }, { side, format });
        return;
      }
      scope(() => {
        const rows = gatherRows(pages, sources);
        const rotated = rotate(rows.dtype === 'f32' ? rows : cast(rows, 'f32'), rotation);
        const count = sources.shape[0];
        const places = fromArray(pages.backend, [...Array(count).keys()], [count], 'i32');
        encodeOp({ pages: rotated, sources: places, targets, coded }, { side, format });
      });
    },
    decodePages: (side, coded, ids, { pageSize, dim }) => {
      const { rows } = decodeOp({ coded, ids }, { side, format, pageSize, dim });
      return rotation === undefined ? rows : rotateBack(rows, rotation);
    },
  };
}

/** Rows […, D] as a codec of this rotation encodes them. */
export function rotate(x: Tensor, seed: number): Tensor {
  return rotateOp({ x }, { seed, inverse: false }).y;
}

/** What {@link rotate} made of rows, undone. */
export function rotateBack(x: Tensor, seed: number): Tensor {
  return rotateOp({ x }, { seed, inverse: true }).y;
}
