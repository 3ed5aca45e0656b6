import { OptionError } from '@filigree/core-tensor';
import {
  ggufMaxNesting,
  ggufNumberArrays,
  ggufValueTypes,
  type GgufArray,
  type GgufValue,
  type GgufValueType,
} from './value.js';

const utf8 = new TextEncoder();

/** Builds the header of a GGUF file: little-endian fields in a growing buffer. */
export class HeaderBuilder {
  #bytes = new Uint8Array(4096);
  #view = new DataView(this.#bytes.buffer);
  #length = 0;

  u32(value: number): void {
    const at = this.#reserve(4);
    this.#view.setUint32(at, value, true);
  }

  /** A non-negative safe integer as u64. */
  size(value: number): void {
    const at = this.#reserve(8);
    this.#view.setBigUint64(at, BigInt(value), true);
  }

  string(text: string): void {
    const bytes = utf8.encode(text);
    this.size(bytes.byteLength);
    this.#append(bytes);
  }

  /** Type and value. `key` is for messages. */
  value(key: string, entry: GgufValue): void {
    this.u32(typeId(entry.type));
    switch (entry.type) {
      case 'bool':
        this.#append(Uint8Array.of(entry.value ? 1 : 0));
        return;
      case 'string':
        this.string(entry.value);
        return;
      case 'array':
        this.#array(key, entry.value, 1);
        return;
      case 'u64':
      case 'i64':
        this.#scalar(key, entry.value, ggufNumberArrays[entry.type].of(entry.value));
        return;
      default:
        this.#scalar(key, entry.value, ggufNumberArrays[entry.type].of(entry.value));
    }
  }

  finish(): Uint8Array {
    return this.#bytes.subarray(0, this.#length);
  }

  #scalar(key: string, value: number | bigint, stored: NumberArray): void {
    const exact =
      stored instanceof Float32Array ? Object.is(Math.fround(Number(value)), stored[0]) : Object.is(stored[0], value);
    // Integers that wrap around would be read back as something else.
    if (!exact) throw new OptionError(`writeGguf: metadata "${key}": ${value} is out of the range of its type`);
    this.#append(bytesOf(stored));
  }

  #array(key: string, array: GgufArray, depth: number): void {
    if (depth > ggufMaxNesting)
      throw new OptionError(`writeGguf: metadata "${key}": arrays nest more than ${ggufMaxNesting} deep`);
    this.u32(typeId(array.elementType));
    this.size(array.values.length);
    switch (array.elementType) {
      case 'bool':
        this.#append(Uint8Array.from(array.values, Number));
        return;
      case 'string':
        for (const text of array.values) this.string(text);
        return;
      case 'array':
        for (const inner of array.values) this.#array(key, inner, depth + 1);
        return;
      default:
        this.#append(bytesOf(array.values));
    }
  }

  #append(bytes: Uint8Array): void {
    const at = this.#reserve(bytes.byteLength);
    this.#bytes.set(bytes, at);
  }

  /** Where the next bytes go. May replace the buffer and its view. */
  #reserve(length: number): number {
    const at = this.#length;
    this.#length += length;
    if (this.#length > this.#bytes.byteLength) {
      const grown = new Uint8Array(Math.max(2 * this.#bytes.byteLength, this.#length));
      grown.set(this.#bytes);
      this.#bytes = grown;
      this.#view = new DataView(grown.buffer);
    }
    return at;
  }
}

type NumberArray = Extract<GgufArray['values'], ArrayBufferView>;

function bytesOf(values: NumberArray): Uint8Array {
  return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
}

function typeId(type: GgufValueType): number {
  return ggufValueTypes.indexOf(type);
}
