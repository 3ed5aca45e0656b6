import { GroupedRows, integerKind, type ConvertedWeight } from './grouped-rows.js';
import { PartReader, type CheckpointParts } from './parts.js';

/** The nibble of a word that holds output o of eight. */
const nibbleOf = [0, 4, 1, 5, 2, 6, 3, 7];

/**
 * A weight of an AWQ checkpoint in its `gemm` layout (Lin et al., arXiv:2306.00978): qweight i32 [K, N/8], qzeros i32 [G, N/8], scales [G, N].
 * A word holds eight outputs in the order 0 2 4 6 1 3 5 7. w[n, k] = scales[g, n] · (q − z).
 *
 * @throws CheckpointFormatError
 */
export function convertAwq(name: string, parts: CheckpointParts, { bits }: { readonly bits: number }): ConvertedWeight {
  const reader = new PartReader(name, parts);
  if (bits !== 4) throw reader.error(`AWQ of ${bits} bits cannot be run; 4 can`);
  const [inFeatures, columns] = reader.matrix('qweight');
  const outFeatures = columns * 8;
  const [groups] = reader.matrix('scales');
  reader.assertShape('scales', [groups, outFeatures]);
  reader.assertShape('qzeros', [groups, columns]);
  const size = inFeatures / groups;
  if (!Number.isInteger(size)) throw reader.error(`${groups} groups do not divide ${inFeatures} inputs`);
  const scales = reader.floats('scales');
  const [words, zeros] = [reader.words('qweight'), reader.words('qzeros')];
  const field = (of: Uint32Array, row: number, n: number): number =>
    (of[row * columns + (n >> 3)] >>> (4 * nibbleOf[n & 7])) & 15;
  const out = new GroupedRows(reader, integerKind(reader, bits), outFeatures, inFeatures, size);
  for (let n = 0; n < outFeatures; n++) for (let k = 0; k < inFeatures; k++) out.put(n, k, field(words, k, n));
  out.setFactors((n, k) => {
    const group = k / size;
    const scale = scales[Math.floor(group) * outFeatures + n];
    return { scale, offset: -scale * field(zeros, Math.floor(group), n) };
  });
  return out.weight();
}
