/** Bytes as byte-level BPE writes them, by the definition: bytes that Latin-1 prints are themselves, the others follow from U+0100. */
export function byteLevelText(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => characters[byte]).join('');
}

const isPrinted = (byte: number): boolean =>
  (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || (byte >= 174 && byte <= 255);
const others = Array.from({ length: 256 }, (_, byte) => byte).filter((byte) => !isPrinted(byte));
const characters = Array.from({ length: 256 }, (_, byte) =>
  String.fromCodePoint(isPrinted(byte) ? byte : 256 + others.indexOf(byte)),
);
