import { codesAt, putGroupedCode } from '../grouped/blocks.js';
import { groupedType, groupSizes, isInteger, type GroupedKind, type GroupedType } from '../grouped/types.js';
import type { PartReader } from './parts.js';

/** A weight of a checkpoint as rows of blocks, which `QuantizedLinear` runs. */
export interface ConvertedWeight {
  /** Name of a grouped type, or of one of GGUF. */
  readonly type: string;
  readonly outFeatures: number;
  readonly inFeatures: number;
  /** u8 [outFeatures, rowBytes]. */
  readonly blocks: Uint8Array;
  /** Where the inputs of the rows come from: input k of a block is element `inputOrder[k]` of x. */
  readonly inputOrder?: Int32Array;
  /** Multiplies all weights. */
  readonly scale?: number;
}

/** Rows of a grouped type that are being filled. */
export class GroupedRows {
  readonly type: GroupedType;
  readonly bytes: Uint8Array;
  readonly #rowBytes: number;
  readonly #view: DataView;

  /** @param share inputs that are sure to share a scale; blocks are the largest that divide it and the rows. */
  constructor(
    reader: PartReader,
    kind: GroupedKind,
    readonly outFeatures: number,
    readonly inFeatures: number,
    share: number,
  ) {
    const size = groupSizes.findLast((candidate) => share % candidate === 0 && inFeatures % candidate === 0);
    if (size === undefined || share <= 0)
      throw reader.error(
        `groups of ${share} and rows of ${inFeatures} inputs are not both multiples of ${groupSizes[0]}, the smallest group that runs`,
      );
    const type = groupedType(`${kind}_G${size}`);
    if (!type) throw reader.error(`${kind} is no grouped type`);
    this.type = type;
    this.#rowBytes = (inFeatures / size) * type.bytes;
    this.bytes = new Uint8Array(outFeatures * this.#rowBytes);
    this.#view = new DataView(this.bytes.buffer);
  }

  /** Puts the code of input k of row n; once each. */
  put(n: number, k: number, code: number): void {
    const { elements, bytes } = this.type;
    putGroupedCode(this.type, this.bytes, n * this.#rowBytes + Math.floor(k / elements) * bytes, k % elements, code);
  }

  /** Sets scale and offset of every block from its first input. */
  setFactors(factors: (n: number, k: number) => { readonly scale: number; readonly offset?: number }): void {
    const { elements, bytes } = this.type;
    for (let n = 0; n < this.outFeatures; n++) {
      for (let block = 0; block < this.inFeatures / elements; block++) {
        const at = n * this.#rowBytes + block * bytes;
        const { scale, offset = 0 } = factors(n, block * elements);
        this.#view.setFloat32(at, scale, true);
        if (isInteger(this.type)) this.#view.setFloat32(at + 4, offset, true);
      }
    }
  }

  /** Copies the codes of 8-bit types: row n, 32 inputs from k, from `codes` at `from`. */
  copy(n: number, k: number, codes: Uint8Array, from: number): void {
    const { elements, bytes } = this.type;
    const at = n * this.#rowBytes + Math.floor(k / elements) * bytes + codesAt(this.type) + (k % elements);
    this.bytes.set(codes.subarray(from, from + 32), at);
  }

  weight(inputOrder?: Int32Array): ConvertedWeight {
    const { type, outFeatures, inFeatures, bytes } = this;
    return { type: type.name, outFeatures, inFeatures, blocks: bytes, ...(inputOrder ? { inputOrder } : {}) };
  }
}

/** The integer kind of so many bits. */
export function integerKind(reader: PartReader, bits: number): GroupedKind {
  const kind = ({ 2: 'INT2', 3: 'INT3', 4: 'INT4', 8: 'INT8' } as const)[bits];
  if (!kind) throw reader.error(`codes of ${bits} bits cannot be run; 2, 3, 4 and 8 can`);
  return kind;
}

/** A reader of codes of `bits` bits that lie one after the other in words, from the lowest bit on. */
export function bitStream(words: Uint32Array, bits: number, first = 0, stride = 1): (index: number) => number {
  const mask = 2 ** bits - 1;
  return (index) => {
    const at = index * bits;
    const [word, shift] = [at >>> 5, at & 31];
    const low = words[first + word * stride] >>> shift;
    const rest = shift + bits > 32 ? words[first + (word + 1) * stride] << (32 - shift) : 0;
    return (low | rest) & mask;
  };
}
