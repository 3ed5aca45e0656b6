const encoder = /* @__PURE__ */ new TextEncoder();

/** Writes a text as UTF-8 to `out` at `at` and returns the count of bytes. There must be room: three bytes for every UTF-16 unit. */
export function writeUtf8(text: string, out: Uint8Array, at: number): number {
  // Short ASCII, which nearly all pieces of text are, is faster by hand.
  for (let index = 0; index < text.length; index++) {
    const unit = text.charCodeAt(index);
    if (unit >= 0x80 || index === 64) return encoder.encodeInto(text, out.subarray(at)).written;
    out[at + index] = unit;
  }
  return text.length;
}

/** A decoder that turns bytes that are no UTF-8 into U+FFFD, and keeps U+FEFF. */
export function utf8Decoder(): TextDecoder {
  return new TextDecoder('utf-8', { ignoreBOM: true });
}
