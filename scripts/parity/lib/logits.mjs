// Files of f32 logits [rows, vocabulary], read one row at a time: those of Gemma 3 take 1.6 GB.
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';

/** Rows of raw little-endian f32. */
export class LogitRows {
  #file;
  #offset;
  #row;

  /**
   * @param {string} path
   * @param {number} vocabulary values in a row
   * @param {{ offset?: number, rows?: number }} [place] of the rows inside of the file, in bytes; the whole file when absent
   */
  constructor(path, vocabulary, { offset = 0, rows } = {}) {
    this.#file = openSync(path, 'r');
    this.#offset = offset;
    this.#row = new Float32Array(vocabulary);
    const held = (fstatSync(this.#file).size - offset) / (vocabulary * 4);
    this.rows = rows ?? held;
    if (!Number.isInteger(this.rows) || this.rows > held) throw new Error(`${path} holds ${held} rows of ${vocabulary} values`);
  }

  /** Row `index`; the array is used again for the next one. */
  read(index) {
    const bytes = new Uint8Array(this.#row.buffer);
    const read = readSync(this.#file, bytes, 0, bytes.length, this.#offset + index * bytes.length);
    if (read !== bytes.length) throw new Error(`row ${index}: ${read} bytes of ${bytes.length}`);
    return this.#row;
  }

  close() {
    closeSync(this.#file);
  }
}
