import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { FiligreeError } from '@filigree/core-tensor';
import { safetensorsShardNames } from '../safetensors/read-safetensors-index.js';
import { isFile } from './cache.node.js';

const single = 'model.safetensors';
const index = 'model.safetensors.index.json';
const shard = /^model-\d{5}-of-\d{5}\.safetensors$/;
const described = new Set([
  'config.json',
  'generation_config.json',
  'tokenizer.json',
  'tokenizer_config.json',
  'special_tokens_map.json',
  'added_tokens.json',
  'chat_template.jinja',
  'chat_template.json',
  'vocab.json',
  'merges.txt',
]);

/** Of the files of a repository those that a model of config.json and safetensors is made of; config.json is the last. */
export function modelFolderFiles(files: readonly string[]): string[] {
  const weights = files.includes(single) ? [single] : files.filter((file) => file === index || shard.test(file));
  const rest = files.filter((file) => described.has(file) && file !== 'config.json');
  return [...weights, ...rest, ...files.filter((file) => file === 'config.json')];
}

/** Whether the files of a repository hold a model of config.json and safetensors. */
export function holdsModelFolder(files: readonly string[]): boolean {
  return files.includes('config.json') && (files.includes(single) || files.includes(index));
}

/** Why a folder is not a complete model of config.json and safetensors; undefined when it is one. */
export async function modelFolderFault(folder: string): Promise<string | undefined> {
  if (!(await isFile(join(folder, 'config.json')))) return 'there is no config.json';
  if (await isFile(join(folder, single))) return undefined;
  const text = await readFile(join(folder, index), 'utf8').catch(() => undefined);
  if (text === undefined) return `there is neither ${single} nor ${index}`;
  try {
    for (const name of safetensorsShardNames(text, join(folder, index)))
      if (!(await isFile(join(folder, name)))) return `${name} is missing`;
    return undefined;
  } catch (error) {
    if (error instanceof FiligreeError) return error.message;
    throw error;
  }
}
