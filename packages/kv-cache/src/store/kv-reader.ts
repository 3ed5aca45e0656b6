import type { ByteSource } from '@filigree/checkpoint';
import { decodeBytes } from '@filigree/core-tensor';
import { KvCorruptError, KvFormatError, type KvDamage } from '../errors.js';
import { pageChecksum, readChecksum, type KvFrame } from './kv-frame.js';
import type { KvHeader } from './kv-header.js';
import { checksumBytes, kvRecords, type KvRecord } from './kv-records.js';

/** A page as it is in a file, its rows packed. */
export interface KvFilePage {
  readonly record: KvRecord;
  /** Of streams; empty otherwise. */
  readonly positions: Int32Array;
  /** Of streams, as the header names them. */
  readonly numbers: readonly Float32Array[];
  readonly keys: Uint8Array;
  readonly values: Uint8Array;
}

/** Reads the pages of a file in order, up to where it is damaged if a part is enough. */
export class KvReader {
  readonly #source: ByteSource;
  readonly #frame: KvFrame;
  readonly #partial: boolean;
  #damage: KvCorruptError | undefined;
  /** Position of the next token after what is intact. */
  #end: number;
  /** Records before the damage, as far as it is known. */
  #records = Infinity;

  /** @throws KvFormatError, KvCorruptError when the file has not the size that its header implies. */
  constructor(source: ByteSource, frame: KvFrame, partial: boolean) {
    this.#source = source;
    this.#frame = frame;
    this.#partial = partial;
    this.#end = frame.header.positionsEnd;
    let end = frame.pagesAt;
    for (const record of kvRecords(frame.header)) {
      end += record.bytes + checksumBytes;
      if (end <= source.size) continue;
      this.#damaged('truncated', record);
      return;
    }
    if (end !== source.size) throw new KvFormatError(`${source.name}: has ${source.size} bytes, its header describes ${end}`);
  }

  get damage(): KvCorruptError | undefined {
    return this.#damage;
  }

  /** Position of the next token of the cache that was saved. */
  get savedEnd(): number {
    return this.#frame.header.positionsEnd;
  }

  /** What the file holds before the damage that is known so far. */
  get header(): KvHeader {
    const { header } = this.#frame;
    const missing = header.positionsEnd - this.#end;
    const lengths = header.lengths.map((length) => length - missing);
    return { ...header, positionsEnd: this.#end, tokens: header.tokens.slice(0, this.#end), lengths };
  }

  /** Every page before the damage. The last ones may have entries behind the {@link header}'s end. */
  async *pages(signal?: AbortSignal): AsyncGenerator<KvFilePage, undefined> {
    const { header, checksum, pagesAt } = this.#frame;
    let at = pagesAt;
    for (const record of kvRecords(header)) {
      if (record.index >= this.#records) return;
      const bytes = await this.#source.read(at, record.bytes + checksumBytes, signal);
      at += bytes.length;
      const page = bytes.subarray(0, record.bytes);
      if (pageChecksum(checksum, record.index, page) !== readChecksum(bytes)) {
        this.#damaged('checksum', record);
        return;
      }
      const { entries, positionBytes, numberBytes } = record;
      const keysAt = positionBytes + numberBytes;
      const valuesAt = keysAt + record.keyBytes;
      const positions = Int32Array.from(decodeBytes(page.subarray(0, positionBytes), 'i32'), Number);
      const numbers = header.numbers.map((_, index) => {
        const at = positionBytes + 4 * index * entries;
        return Float32Array.from(decodeBytes(page.subarray(at, at + 4 * entries), 'f32'), Number);
      });
      yield { record, positions, numbers, keys: page.subarray(keysAt, valuesAt), values: page.subarray(valuesAt) };
    }
  }

  /** Notes where the file is damaged, if what lies before it can do without the rest. */
  #damaged(kind: KvDamage['kind'], record: KvRecord): void {
    const { positionsEnd, floor } = this.#frame.header;
    const end = positionsEnd - record.remaining;
    const usable = end >= floor;
    const advice = usable
      ? `the ${end} of ${positionsEnd} positions before it are intact, take them with partial: true`
      : 'entries before it were evicted, so that nothing can be taken from the file';
    const error = new KvCorruptError(this.#source.name, { kind, ...record }, advice);
    if (!this.#partial || !usable) throw error;
    this.#damage = error;
    this.#end = end;
    this.#records = record.index;
  }
}
