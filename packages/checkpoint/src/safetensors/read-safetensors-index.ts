import { SafetensorsFormatError } from '../errors.js';
import type { ByteSource } from '../sources/byte-source.js';
import type { JsonObject } from './json.js';
import { parseObject, readSafetensors } from './read-safetensors.js';
import { SafetensorsFile, type SafetensorsTensorInfo } from './safetensors-file.js';

/** More files than any published checkpoint has. */
const maxShards = 10_000;

/**
 * Opens a sharded checkpoint from the text of its `model.safetensors.index.json`. `open` gets the plain file name of each shard
 * once. A tensor of a shard that the index does not list is left out; one that the index lists and the shard lacks is an error.
 */
export async function readSafetensorsIndex(
  open: (name: string) => ByteSource | Promise<ByteSource>,
  indexJson: string,
  { signal, name = 'model.safetensors.index.json' }: { signal?: AbortSignal; name?: string } = {},
): Promise<SafetensorsFile> {
  const index = parseObject(indexJson, name);
  const shards = shardsOf(index, name);
  const sources: ByteSource[] = [];
  const tensors: SafetensorsTensorInfo[] = [];
  try {
    for (const [shard, listed] of shards) {
      const source = await open(shard);
      sources.push(source);
      const file = await readSafetensors(source, signal ? { signal } : {});
      const missing = [...listed].find((tensor) => !file.find(tensor));
      if (missing !== undefined)
        throw new SafetensorsFormatError(`${name}: tensor "${missing}" should be in ${shard}, which does not have it`);
      tensors.push(...file.tensors.filter((tensor) => listed.has(tensor.name)));
    }
  } catch (error) {
    for (const source of sources) await source.close?.();
    throw error;
  }
  const metadata = index.get('metadata');
  const strings = metadata instanceof Map ? [...metadata].map(([key, value]) => [key, String(value)] as const) : [];
  return new SafetensorsFile(name, sources, tensors, new Map(strings));
}

/** Plain file names of the shards that the text of an index lists. */
export function safetensorsShardNames(indexJson: string, name = 'model.safetensors.index.json'): string[] {
  return [...shardsOf(parseObject(indexJson, name), name).keys()];
}

/** Names of the tensors of each shard. */
function shardsOf(index: JsonObject, name: string): ReadonlyMap<string, ReadonlySet<string>> {
  const map = index.get('weight_map');
  if (!(map instanceof Map)) throw new SafetensorsFormatError(`${name}: weight_map is not an object`);
  const shards = new Map<string, Set<string>>();
  for (const [tensor, shard] of map) {
    // A name, not a path: an index must not reach files beside its own folder.
    if (typeof shard !== 'string' || !/^[^/\\:\p{Cc}]+$/u.test(shard) || /^\.+$/.test(shard))
      throw new SafetensorsFormatError(
        `${name}: tensor "${tensor}": the shard must be a plain file name, got ${JSON.stringify(shard)}`,
      );
    const listed = shards.get(shard) ?? new Set<string>();
    shards.set(shard, listed.add(String(tensor)));
    if (shards.size > maxShards) throw new SafetensorsFormatError(`${name}: more than ${maxShards} shards`);
  }
  return shards;
}
