/** The least number of bf16 that is not less: the upper bits of a float are its neighbour towards 0, the next pattern the one away from it. */
export function bf16Above(value: number): number {
  const bits = new Uint32Array(Float32Array.of(value).buffer);
  if (value > 0 && (bits[0] & 0xffff) !== 0) bits[0] += 0x10000;
  bits[0] &= 0xffff0000;
  return Number.isNaN(value) ? NaN : new Float32Array(bits.buffer)[0];
}
