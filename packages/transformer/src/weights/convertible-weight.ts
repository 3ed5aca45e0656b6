import { readTensorChunks, type SafetensorsFile, type SafetensorsTensorInfo } from '@filigree/checkpoint';
import {
  checkpointPartNames,
  convertCheckpointWeight,
  isQuantizedLayer,
  type CheckpointPart,
  type CheckpointQuantization,
} from '@filigree/quantization';
import type { ConvertibleWeight } from './weight-source.js';

/** The quantised weight of a layer; undefined where the layer has a plain one. */
export function convertibleWeight(
  file: SafetensorsFile,
  layer: string,
  quantization: CheckpointQuantization,
): ConvertibleWeight | undefined {
  const parts = checkpointPartNames.flatMap((part): [string, SafetensorsTensorInfo][] => {
    const info = file.find(`${layer}.${part}`);
    return info ? [[part, info]] : [];
  });
  if (!isQuantizedLayer((part) => parts.some(([name]) => name === part))) return undefined;
  return {
    byteLength: parts.reduce((sum, [, { byteLength }]) => sum + byteLength, 0),
    async convert(signal) {
      const read: Record<string, CheckpointPart> = {};
      for (const [part, info] of parts)
        read[part] = { dtype: info.dtype, shape: info.shape, bytes: await readAll(info, signal) };
      return convertCheckpointWeight(layer, read, quantization);
    },
  };
}

async function readAll(info: SafetensorsTensorInfo, signal: AbortSignal | undefined): Promise<Uint8Array> {
  const bytes = new Uint8Array(info.byteLength);
  let at = 0;
  for await (const chunk of readTensorChunks(info, signal ? { signal } : {})) {
    bytes.set(chunk, at);
    at += chunk.byteLength;
  }
  return bytes;
}
