import { codedCodec, type CodedKvCodec } from './coded-codec.js';

/** Eight bits a number, symmetric, a scale per entry and head: 8 + 16/D bits, relative error about 1e-2. Keys and values alike. */
export function int8Kv(): CodedKvCodec {
  return codedCodec('int8');
}
