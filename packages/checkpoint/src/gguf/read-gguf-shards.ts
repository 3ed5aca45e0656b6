import { GgufFormatError } from '../errors.js';
import type { ByteSource } from '../sources/byte-source.js';
import { GgufFile, type GgufTensorInfo } from './gguf-file.js';
import { readGguf, type ReadGgufOptions } from './read-gguf.js';
import { ggufShardNames } from './shard-names.js';

/**
 * Opens a GGUF model that was cut into several files as one: the metadata of the first, the tensors of all. `open` gets the name
 * of each file once. A name that is not of the form `…-00001-of-00003.gguf` is opened alone.
 */
export async function readGgufShards(
  open: (name: string) => ByteSource | Promise<ByteSource>,
  name: string,
  options: ReadGgufOptions = {},
): Promise<GgufFile> {
  const files: GgufFile[] = [];
  try {
    const names = ggufShardNames(name);
    for (const [index, shard] of names.entries()) {
      const source = await open(shard);
      try {
        files.push(await readGguf(source, options));
      } catch (error) {
        await source.close?.();
        throw error;
      }
      if (names.length > 1) assertPlace(files[index], index, names.length);
    }
    return files.length === 1 ? files[0] : merged(files);
  } catch (error) {
    for (const file of files) await file.close();
    throw error;
  }
}

function assertPlace(file: GgufFile, index: number, count: number): void {
  const [no, of] = [file.number('split.no'), file.number('split.count')];
  if (no !== index || of !== count)
    throw new GgufFormatError(
      `${file.source.name}: by its name it is part ${index} of ${count}, by its metadata (split.no, split.count) ` +
        `${no ?? 'unknown'} of ${of ?? 'unknown'}`,
    );
}

function merged(files: readonly GgufFile[]): GgufFile {
  const [first] = files;
  const tensors = new Map<string, GgufTensorInfo>();
  for (const file of files) {
    for (const tensor of file.tensors) {
      if (tensors.has(tensor.name))
        throw new GgufFormatError(`${file.source.name}: tensor "${tensor.name}" is in an earlier part as well`);
      tensors.set(tensor.name, tensor);
    }
  }
  const stated = first.number('split.tensors.count');
  if (stated !== undefined && stated !== tensors.size)
    throw new GgufFormatError(
      `${first.source.name}: the parts hold ${tensors.size} tensors, split.tensors.count says ${stated}`,
    );
  const { source, version, alignment, dataOffset, metadata } = first;
  const sources = files.map((file) => file.source);
  return new GgufFile({ source, sources, version, alignment, dataOffset, metadata, tensors: [...tensors.values()] });
}
