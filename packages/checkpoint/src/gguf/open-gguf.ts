import { fileSource } from '#file-source';
import type { GgufFile } from './gguf-file.js';
import { readGgufShards } from './read-gguf-shards.js';
import type { ReadGgufOptions } from './read-gguf.js';

/** Opens a GGUF file by its path, or all of the files that a model was cut into by the path of the first. Nothing but headers is read. */
export async function openGguf(path: string, options: ReadGgufOptions = {}): Promise<GgufFile> {
  const slash = Math.max(path.lastIndexOf('/'), path.lastIndexOf('\\')) + 1;
  const folder = path.slice(0, slash);
  return readGgufShards((name) => fileSource(folder + name), path.slice(slash), options);
}
