import { throwIfAborted } from '@filigree/core-tensor';
import { GgufFormatError } from '../errors.js';
import { maxReadBytes, type ByteSource } from '../sources/byte-source.js';

/** Thrown inside of the reader when the prefix read so far ends before `end`; the step is repeated after reading on. */
export class MoreBytesNeeded extends Error {
  constructor(readonly end: number) {
    super(`bytes up to ${end} are needed`);
  }
}

// fatal: a wrong byte is an error, not U+FFFD. ignoreBOM: a leading U+FEFF is text, as in any other string.
const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/**
 * Reads little-endian fields from the growing prefix of a file. Every length is checked against the size of the file before
 * anything is allocated, so that a field cannot make the reader ask for more than the file has.
 */
export class HeaderCursor {
  position = 0;
  /** What is being read, for messages. */
  context = 'header';
  /** Elements of arrays so far that become objects of their own. */
  boxedElements = 0;
  #bytes = new Uint8Array(0);
  #view = new DataView(this.#bytes.buffer);

  constructor(
    readonly source: ByteSource,
    readonly maxBytes: number,
  ) {}

  fail(detail: string): GgufFormatError {
    return new GgufFormatError(`${this.source.name}: ${this.context}: ${detail}`);
  }

  /** Runs a parsing step; repeats it from its start with more bytes when it runs out of them. */
  async step<T>(parse: () => T, signal?: AbortSignal): Promise<T> {
    const { position, boxedElements } = this;
    for (;;) {
      try {
        return parse();
      } catch (error) {
        if (!(error instanceof MoreBytesNeeded)) throw error;
        this.position = position;
        this.boxedElements = boxedElements;
        await this.#grow(error.end, signal);
      }
    }
  }

  /** Fails unless `length` more bytes are in the file; asks for them unless they were read already. */
  need(length: number): void {
    const end = this.position + length;
    if (end > this.source.size)
      throw this.fail(
        `${length} bytes at ${this.position} go past the end of the file (${this.source.size} bytes); is the file complete?`,
      );
    if (end > this.maxBytes)
      throw this.fail(`the header goes on past ${this.maxBytes} bytes; raise maxHeaderBytes if the file is right`);
    if (end > this.#bytes.byteLength) throw new MoreBytesNeeded(end);
  }

  u8(): number {
    this.need(1);
    return this.#view.getUint8(this.#advance(1));
  }

  i8(): number {
    this.need(1);
    return this.#view.getInt8(this.#advance(1));
  }

  u16(): number {
    this.need(2);
    return this.#view.getUint16(this.#advance(2), true);
  }

  i16(): number {
    this.need(2);
    return this.#view.getInt16(this.#advance(2), true);
  }

  u32(): number {
    this.need(4);
    return this.#view.getUint32(this.#advance(4), true);
  }

  i32(): number {
    this.need(4);
    return this.#view.getInt32(this.#advance(4), true);
  }

  f32(): number {
    this.need(4);
    return this.#view.getFloat32(this.#advance(4), true);
  }

  f64(): number {
    this.need(8);
    return this.#view.getFloat64(this.#advance(8), true);
  }

  u64(): bigint {
    this.need(8);
    return this.#view.getBigUint64(this.#advance(8), true);
  }

  i64(): bigint {
    this.need(8);
    return this.#view.getBigInt64(this.#advance(8), true);
  }

  bool(): boolean {
    const byte = this.u8();
    if (byte > 1) throw this.fail(`a bool is 0 or 1, got ${byte} at ${this.position - 1}`);
    return byte === 1;
  }

  /** A u64 that must be a safe integer. */
  size(what: string): number {
    this.need(8);
    const low = this.#view.getUint32(this.position, true);
    const high = this.#view.getUint32(this.position + 4, true);
    if (high >= 2 ** 21) throw this.fail(`${what} is ${this.u64()}, more than any file holds`);
    this.#advance(8);
    return high * 2 ** 32 + low;
  }

  /** A u64 count of things of at least `minBytes` each, which must fit in the rest of the file. */
  count(what: string, minBytes: number): number {
    const count = this.size(what);
    const rest = this.source.size - this.position;
    if (count > rest / minBytes)
      throw this.fail(
        `${what} is ${count}, but only ${rest} bytes of the file remain (at least ${minBytes} each); is the file complete?`,
      );
    return count;
  }

  /** A string: u64 length in bytes, then UTF-8 without terminator. */
  string(maxBytes = Number.MAX_SAFE_INTEGER): string {
    const length = this.count('string length', 1);
    if (length > maxBytes) throw this.fail(`a string of ${length} bytes where at most ${maxBytes} are allowed`);
    this.need(length);
    const start = this.#advance(length);
    try {
      return utf8.decode(this.#bytes.subarray(start, start + length));
    } catch {
      throw this.fail(`the string at ${start} (${length} bytes) is not valid UTF-8`);
    }
  }

  /** A copy of the next bytes in a buffer of its own. */
  take(length: number): Uint8Array<ArrayBuffer> {
    this.need(length);
    const start = this.#advance(length);
    return this.#bytes.slice(start, start + length);
  }

  #advance(length: number): number {
    const at = this.position;
    this.position += length;
    return at;
  }

  /** Extends the prefix to at least `end`: fourfold each time, so that a long header costs few reads and little repetition. */
  async #grow(end: number, signal: AbortSignal | undefined): Promise<void> {
    const have = this.#bytes.byteLength;
    const target = Math.min(this.source.size, this.maxBytes, Math.max(end, 4 * have, 2 ** 19));
    const bytes = new Uint8Array(target);
    bytes.set(this.#bytes);
    for (let at = have; at < target; at += maxReadBytes) {
      throwIfAborted(signal);
      bytes.set(await this.source.read(at, Math.min(maxReadBytes, target - at), signal), at);
    }
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer);
  }
}
