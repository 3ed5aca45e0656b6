// Are the weights that transformers computes with the ones that we compute with? Compares the SHA-256 of every dequantised tensor.
import { createHash } from 'node:crypto';
import { fileSource, readGguf, readSafetensors } from '@filigree/checkpoint';
import { decodeRow } from '@filigree/quantization';

/** SHA-256 of a tensor's values in f32, row-major. */
async function hashOf(info) {
  const columns = info.shape.at(-1) ?? 1;
  const rowBytes = info.byteLength / info.shape.slice(0, -1).reduce((product, size) => product * size, 1);
  const row = new Float32Array(columns);
  const hash = createHash('sha256');
  const rowsAtOnce = Math.max(1, Math.floor(2 ** 22 / rowBytes));
  for (let start = 0; start < info.byteLength; start += rowsAtOnce * rowBytes) {
    const length = Math.min(rowsAtOnce * rowBytes, info.byteLength - start);
    const bytes = await info.source.read(info.offset + start, length);
    for (let at = 0; at < length; at += rowBytes) {
      decodeRow(info.type, bytes, at, columns, row);
      hash.update(new Uint8Array(row.buffer));
    }
  }
  return hash.digest('hex');
}

/** Names of the tensors whose values differ. */
export async function differingWeights(modelPath, truthPath) {
  const truth = await readSafetensors(await fileSource(truthPath));
  const expected = JSON.parse(truth.metadata.get('dequantized') ?? '{}');
  const model = await readGguf(await fileSource(modelPath));
  const differing = [];
  for (const info of model.tensors)
    if ((await hashOf(info)) !== expected[info.name]) differing.push(`${info.name} (${info.type})`);
  return { tensors: model.tensors.length, differing };
}
