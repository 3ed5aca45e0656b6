/** What a field of a GGUF header is, which decides how it is spoiled. */
export type FieldKind = 'magic' | 'version' | 'count' | 'length' | 'type' | 'dimensions' | 'size' | 'offset' | 'text' | 'value';

/** A field of a header: where it is and what it is. */
export interface Field {
  readonly kind: FieldKind;
  readonly at: number;
  readonly bytes: number;
}

/** A run of fields that belong together: a metadata pair or a tensor. */
export interface FieldGroup {
  readonly at: number;
  readonly bytes: number;
}

/** Writes GGUF byte by byte and notes the fields. Written from the format's description, apart from the package's own writer. */
export class GgufBytes {
  readonly fields: Field[] = [];
  readonly groups: FieldGroup[] = [];
  #bytes: number[] = [];

  get length(): number {
    return this.#bytes.length;
  }

  number(kind: FieldKind, value: number | bigint, bytes: 1 | 2 | 4 | 8): this {
    this.fields.push({ kind, at: this.length, bytes });
    let rest = BigInt.asUintN(64, BigInt(value));
    for (let index = 0; index < bytes; index++) {
      this.#bytes.push(Number(rest & 255n));
      rest >>= 8n;
    }
    return this;
  }

  string(text: string): this {
    const bytes = [...new TextEncoder().encode(text)];
    this.number('length', bytes.length, 8);
    this.fields.push({ kind: 'text', at: this.length, bytes: bytes.length });
    this.#bytes.push(...bytes);
    return this;
  }

  raw(bytes: Iterable<number>): this {
    for (const byte of bytes) this.#bytes.push(byte);
    return this;
  }

  preamble(tensors: number, pairs: number, version = 3): this {
    this.number('magic', 0x46554747, 4).number('version', version, 4);
    return this.number('count', tensors, 8).number('count', pairs, 8);
  }

  /** Notes what `write` writes as one group. */
  group(write: (to: this) => void): this {
    const at = this.length;
    write(this);
    this.groups.push({ at, bytes: this.length - at });
    return this;
  }

  /** `dimensions` in the order of the file, innermost first. */
  tensor(name: string, dimensions: readonly (number | bigint)[], type: number, offset: number | bigint): this {
    return this.group((to) => {
      to.string(name).number('dimensions', dimensions.length, 4);
      for (const size of dimensions) to.number('size', size, 8);
      to.number('type', type, 4).number('offset', offset, 8);
    });
  }

  pad(alignment = 32): this {
    while (this.length % alignment !== 0) this.#bytes.push(0);
    return this;
  }

  finish(): Uint8Array {
    return Uint8Array.from(this.#bytes);
  }
}

/** The id of each metadata type in the file. */
export const valueTypeIds = {
  u8: 0,
  i8: 1,
  u16: 2,
  i16: 3,
  u32: 4,
  i32: 5,
  f32: 6,
  bool: 7,
  string: 8,
  array: 9,
  u64: 10,
  i64: 11,
  f64: 12,
};
