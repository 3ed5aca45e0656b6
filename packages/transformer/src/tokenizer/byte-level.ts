/**
 * Byte-level BPE writes each byte as one printable character: the byte's own where Latin-1 has a printable one, else one from U+0100 on
 * (Radford et al., "Language Models are Unsupervised Multitask Learners", 2019).
 */
const characterOfByte: readonly string[] = /* @__PURE__ */ byteCharacters();

const byteOfUnit: Int16Array = /* @__PURE__ */ unitBytes();

function byteCharacters(): string[] {
  let next = 0x100;
  const printable = (byte: number): boolean => (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
  return Array.from({ length: 256 }, (_, byte) => String.fromCharCode(printable(byte) ? byte : next++));
}

function unitBytes(): Int16Array {
  const bytes = new Int16Array(0x144).fill(-1);
  characterOfByte.forEach((character, byte) => (bytes[character.charCodeAt(0)] = byte));
  return bytes;
}

/** Writes the bytes that a byte-level text stands for to `out` at `at`; returns their count, or -1 where a character stands for none. */
export function byteLevelBytes(text: string, out: Uint8Array, at: number): number {
  for (let index = 0; index < text.length; index++) {
    const unit = text.charCodeAt(index);
    const byte = unit < byteOfUnit.length ? byteOfUnit[unit] : -1;
    if (byte < 0) return -1;
    out[at + index] = byte;
  }
  return text.length;
}
