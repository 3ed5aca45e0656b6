import {
  fileSource,
  httpSource,
  openGguf,
  parseModelName,
  readGguf,
  readSafetensors,
  readSafetensorsIndex,
  resolveModel,
  type OnDownloadProgress,
  type ByteSource,
  type GgufFile,
  type SafetensorsFile,
} from '@filigree/checkpoint';
import { stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { UnknownFormatError } from '../errors.js';
import type { InspectedTensor, Inspection } from './inspection.js';

/** Longer than any index of shards in use. */
const maxIndexBytes = 64 * 2 ** 20;

/** How far getting a model from elsewhere is. */
export interface InspectionOptions {
  readonly signal: AbortSignal;
  readonly onProgress: OnDownloadProgress;
}

/**
 * Reads the header of a GGUF or safetensors file, of all files of a model in several, of a file behind an http(s) address; the name of a
 * model that is no path is resolved as where a model is loaded.
 */
export async function readInspection(place: string, options: InspectionOptions): Promise<Inspection> {
  const { signal } = options;
  if (/^https?:\/\//.test(place)) return inspectSource(await httpSource(place, { signal }), undefined, signal);
  const path = await modelFile(place, options);
  return inspectSource(await fileSource(path), path, signal);
}

/** A folder stands for the safetensors model in it. */
async function modelFile(place: string, options: InspectionOptions): Promise<string> {
  const found = await stat(place).catch(() => undefined);
  const path = found || !parseModelName(place) ? place : (await resolveModel(place, options)).path;
  const info = await stat(path).catch(() => undefined);
  if (!info?.isDirectory()) return path;
  for (const name of ['model.safetensors.index.json', 'model.safetensors']) {
    const file = join(path, name);
    if (await stat(file).catch(() => undefined)) return file;
  }
  throw new UnknownFormatError(`${path}: the folder has neither model.safetensors.index.json nor model.safetensors`);
}

/** @param path of a local file, whose other parts lie beside it. */
async function inspectSource(source: ByteSource, path: string | undefined, signal: AbortSignal): Promise<Inspection> {
  const beside = (name: string): Promise<ByteSource> => fileSource(join(dirname(path ?? '.'), name));
  try {
    const format = await formatOf(source, signal);
    if (format === 'gguf') {
      if (path === undefined) return await inspectGguf(await readGguf(source, { signal }));
      await source.close?.();
      return await inspectGguf(await openGguf(path, { signal }));
    }
    if (format === 'safetensors') return await inspectSafetensors(await readSafetensors(source, { signal }));
    if (path === undefined) throw new UnknownFormatError(`${source.name}: an index of shards must be a local file`);
    if (source.size > maxIndexBytes)
      throw new UnknownFormatError(`${source.name}: ${source.size} bytes are too many for an index of shards`);
    const text = new TextDecoder().decode(await source.read(0, source.size, signal));
    return await inspectSafetensors(await readSafetensorsIndex(beside, text, { signal, name: path }));
  } finally {
    await source.close?.().catch(() => undefined);
  }
}

/** By what the file begins with, not by its name. */
async function formatOf(source: ByteSource, signal: AbortSignal): Promise<'gguf' | 'safetensors' | 'index'> {
  const start = await source.read(0, Math.min(9, source.size), signal);
  const text = new TextDecoder('latin1').decode(start);
  if (text.startsWith('GGUF')) return 'gguf';
  if (text.at(8) === '{' && !text.startsWith('{')) return 'safetensors';
  if (/^\s*\{/.test(text) && source.name.endsWith('.json')) return 'index';
  const first = [...start.subarray(0, 4)].map((byte) => byte.toString(16).padStart(2, '0')).join(' ');
  throw new UnknownFormatError(
    `${source.name}: neither GGUF nor safetensors; the ${source.size} bytes begin with ${first === '' ? 'nothing' : first}`,
  );
}

async function inspectGguf(file: GgufFile): Promise<Inspection> {
  await file.close();
  return {
    file: file.source.name,
    format: 'gguf',
    version: file.version,
    bytes: file.sources.reduce((sum, source) => sum + source.size, 0),
    tensors: file.tensors.map((tensor) => inspected(tensor, tensor.type)),
    metadata: file.metadata,
  };
}

async function inspectSafetensors(file: SafetensorsFile): Promise<Inspection> {
  await file.close();
  return {
    file: file.name,
    format: 'safetensors',
    bytes: file.sources.reduce((sum, source) => sum + source.size, 0),
    tensors: file.tensors.map((tensor) => inspected(tensor, tensor.dtype)),
    metadata: new Map([...file.metadata].map(([key, value]) => [key, { type: 'string', value }])),
  };
}

function inspected(
  { name, shape, byteLength, offset, source }: GgufFile['tensors'][number] | SafetensorsFile['tensors'][number],
  type: string,
): InspectedTensor {
  const parameters = shape.reduce((product, size) => product * size, 1);
  return { name, type, shape, parameters, bytes: byteLength, offset, file: source.name };
}
