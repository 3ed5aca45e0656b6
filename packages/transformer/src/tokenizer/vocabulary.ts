import { byteLevelBytes } from './byte-level.js';
import { TokenizerError } from './errors.js';
import { writeUtf8 } from './utf8.js';

/** How the texts of a vocabulary stand for bytes: one character a byte, or UTF-8 with ▁ for the space. */
export type TextForm = 'byte-level' | 'spaces';

/** Stands for the space in vocabularies of the form `spaces`. */
export const metaspace = '\u2581';

/** What a token is, as GGUF numbers it. */
export const tokenType = { normal: 1, unknown: 2, control: 3, userDefined: 4, unused: 5, byte: 6 } as const;

/**
 * The bytes of every token, and the ids of bytes: one block of bytes and a hash table of ids, about 15 bytes a token beside the text.
 * A `Map` from strings takes ten times as much, which counts with 262,144 tokens.
 */
export class Vocabulary {
  readonly size: number;
  /** Bytes of the longest token that {@link find} can return. */
  readonly longest: number;
  /** {@link tokenType} of each token. */
  readonly types: Uint8Array;
  readonly #bytes: Uint8Array;
  /** Token `id` is `#bytes[#offsets[id]]` to `#bytes[#offsets[id + 1]]`. */
  readonly #offsets: Int32Array;
  /** Open addressing, id + 1, 0 where free. */
  readonly #slots: Int32Array;

  /**
   * @param texts  of all tokens, as the file writes them
   * @param types  of all tokens
   * @param key  names `texts` in messages
   */
  constructor(texts: readonly string[], types: Uint8Array, form: TextForm, key: string) {
    this.types = types;
    this.size = texts.length;
    this.#offsets = new Int32Array(this.size + 1);
    this.#slots = new Int32Array(tableSize(this.size));
    let bytes = new Uint8Array(8 * this.size + 64);
    let at = 0;
    let longest = 0;
    for (const [id, text] of texts.entries()) {
      if (at + 3 * text.length > bytes.length) bytes = grown(bytes, at + 3 * text.length);
      const { length, findable } = writeToken(text, types[id], form, bytes, at);
      if (length < 0)
        throw new TokenizerError(
          `${key}[${id}]: a byte token should be <0x00> to <0xFF>, the file has ${JSON.stringify(text)}`,
        );
      this.#offsets[id + 1] = at + length;
      if (findable) {
        this.#insert(id, bytes);
        longest = Math.max(longest, length);
      }
      at += length;
    }
    this.#bytes = bytes.slice(0, at);
    this.longest = longest;
  }

  /** The bytes of a token, not a copy. */
  bytes(id: number): Uint8Array {
    return this.#bytes.subarray(this.#start(id), this.#end(id));
  }

  /** The token that `text[start, end)` is, -1 where none is; control, unknown and byte tokens are never found. Of equal ones the last. */
  find(text: Uint8Array, start: number, end: number): number {
    if (end - start > this.longest) return -1;
    const mask = this.#slots.length - 1;
    for (let slot = hash(text, start, end) & mask; ; slot = (slot + 1) & mask) {
      const id = this.#slots[slot] - 1;
      if (id < 0 || this.#equals(id, this.#bytes, text, start, end)) return id;
    }
  }

  get byteLength(): number {
    return this.#bytes.byteLength + this.#offsets.byteLength + this.#slots.byteLength + this.types.byteLength;
  }

  #insert(id: number, bytes: Uint8Array): void {
    const start = this.#start(id);
    const end = this.#end(id);
    const mask = this.#slots.length - 1;
    let slot = hash(bytes, start, end) & mask;
    for (; ; slot = (slot + 1) & mask) {
      const other = this.#slots[slot] - 1;
      if (other < 0) break;
      if (!this.#equals(other, bytes, bytes, start, end)) continue;
      // The text of a user's token may be the bytes of an ordinary one, in the byte-level form.
      if (this.types[id] === tokenType.userDefined) return;
      break;
    }
    this.#slots[slot] = id + 1;
  }

  #equals(id: number, bytes: Uint8Array, text: Uint8Array, start: number, end: number): boolean {
    const own = this.#start(id);
    const length = end - start;
    if (this.#end(id) - own !== length) return false;
    for (let index = 0; index < length; index++) if (bytes[own + index] !== text[start + index]) return false;
    return true;
  }

  #start(id: number): number {
    return this.#offsets[id];
  }

  #end(id: number): number {
    return this.#offsets[id + 1];
  }
}

/** What became of a token's text: count of bytes, -1 for a byte token that names none; and whether text can become this token. */
interface Written {
  readonly length: number;
  readonly findable: boolean;
}

function writeToken(text: string, type: number, form: TextForm, out: Uint8Array, at: number): Written {
  switch (type) {
    case tokenType.byte: {
      const digits = /^<0x([0-9A-Fa-f]{2})>$/.exec(text)?.[1];
      if (digits === undefined) return { length: -1, findable: false };
      out[at] = Number.parseInt(digits, 16);
      return { length: 1, findable: false };
    }
    case tokenType.control:
    case tokenType.unknown:
      return { length: writeUtf8(text, out, at), findable: false };
    case tokenType.userDefined:
      return { length: writeUtf8(text, out, at), findable: text !== '' && !(form === 'spaces' && text.includes(' ')) };
    default:
      return writeOrdinary(text, form, out, at);
  }
}

function writeOrdinary(text: string, form: TextForm, out: Uint8Array, at: number): Written {
  const length = writeText(text, form, out, at);
  // In the form `spaces` text never has a space of its own, so that tokens with one are never found. Texts that are not of the byte-level form
  // are added tokens that a converter took for ordinary ones.
  if (length < 0) return { length: writeUtf8(text, out, at), findable: false };
  return { length, findable: length > 0 && !(form === 'spaces' && text.includes(' ')) };
}

/** Writes the bytes that a vocabulary's text stands for to `out` at `at`; returns their count, -1 for a text that is not of the form. */
export function writeText(text: string, form: TextForm, out: Uint8Array, at: number): number {
  return form === 'spaces' ? writeUtf8(text.replaceAll(metaspace, ' '), out, at) : byteLevelBytes(text, out, at);
}

function grown(bytes: Uint8Array, needed: number): Uint8Array<ArrayBuffer> {
  const larger = new Uint8Array(Math.max(2 * bytes.length, needed));
  larger.set(bytes);
  return larger;
}

/** A power of two with at most half of the slots taken. */
export function tableSize(entries: number): number {
  return 1 << Math.max(4, 33 - Math.clz32(Math.max(1, entries)));
}

/** FNV-1a, with its high bits mixed into the low ones that index a table. */
function hash(text: Uint8Array, start: number, end: number): number {
  let value = 0x811c9dc5;
  for (let index = start; index < end; index++) value = Math.imul(value ^ text[index], 0x01000193);
  return value ^ (value >>> 15);
}
