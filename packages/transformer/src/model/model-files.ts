import {
  blobSource,
  fileSource,
  httpSource,
  openGguf,
  opfsCachedSource,
  readGguf,
  readSafetensors,
  readSafetensorsIndex,
  resolveModel,
  type ByteSource,
  type GgufFile,
  type SafetensorsFile,
} from '@filigree/checkpoint';
import { OptionError } from '@filigree/core-tensor';
import { ChatTemplate } from '../chat/chat-template.js';
import { ggufConfig } from '../config/gguf-config.js';
import { hubConfig } from '../config/hub-config.js';
import { hubQuantization } from '../config/hub-quantization.js';
import { isObject } from '../config/json-reader.js';
import type { ModelConfig } from '../config/model-config.js';
import { ModelFormatError } from '../errors.js';
import { createGgufTokenizer } from '../tokenizer/gguf-tokenizer.js';
import { createHubTokenizer } from '../tokenizer/hub-tokenizer.js';
import type { Tokenizer } from '../tokenizer/tokenizer.js';
import { ggufWeights } from '../weights/gguf-weights.js';
import { safetensorsWeights } from '../weights/safetensors-weights.js';
import type { WeightSource } from '../weights/weight-source.js';

/** What a model is built from, whatever the files. */
export interface ModelFiles {
  readonly weights: WeightSource;
  config(ropeFactors: ArrayLike<number> | undefined): ModelConfig;
  tokenizer(): Promise<Tokenizer>;
  chatTemplate(tokenizer: Tokenizer): ChatTemplate | undefined;
}

/** Opens the files of a model; nothing but headers is read. */
export async function openModelFiles(
  source: string | URL | Blob | ByteSource,
  signal: AbortSignal | undefined,
): Promise<ModelFiles> {
  if (typeof source === 'string' && !/^https?:\/\//i.test(source)) {
    const { path, kind } = await resolveModel(source, signal ? { signal } : {});
    return kind === 'folder' ? folderFiles(path, signal) : ggufFiles(await openGguf(path, signal ? { signal } : {}));
  }
  const opened = await openSource(source, signal);
  return ggufFiles(await closing(opened, (file) => readGguf(file, signal ? { signal } : {})));
}

async function openSource(source: string | URL | Blob | ByteSource, signal: AbortSignal | undefined): Promise<ByteSource> {
  if (source instanceof Blob) return blobSource(source);
  if (typeof source !== 'string' && !(source instanceof URL)) return source;
  const options = signal ? { signal } : {};
  return inBrowser() ? opfsCachedSource(source, options) : httpSource(source, options);
}

/** Whether there is storage of the page's own to keep a model in. */
function inBrowser(): boolean {
  return typeof navigator !== 'undefined' && typeof navigator.storage?.getDirectory === 'function';
}

function ggufFiles(file: GgufFile): ModelFiles {
  return {
    weights: ggufWeights(file),
    config: (factors) => ggufConfig(file, factors),
    tokenizer: () => Promise.resolve(createGgufTokenizer(file)),
    chatTemplate(tokenizer) {
      const template = file.string('tokenizer.chat_template');
      return template === undefined ? undefined : new ChatTemplate(template, tokenizer);
    },
  };
}

async function folderFiles(folder: string, signal: AbortSignal | undefined): Promise<ModelFiles> {
  const json = async (name: string): Promise<unknown> => readJson(`${folder}/${name}`, signal);
  const optional = async (name: string): Promise<unknown> => json(name).catch(() => undefined);
  const config = await json('config.json');
  const tokenizerJson = await json('tokenizer.json');
  const tokenizerConfig = await optional('tokenizer_config.json');
  const file = await openSafetensors(folder, signal);
  const sandwich = file.tensors.some(({ name }) => name.endsWith('pre_feedforward_layernorm.weight'));
  return {
    weights: safetensorsWeights(file, { sandwich, quantization: hubQuantization(config, `${folder}/config.json`) }),
    config: () => hubConfig(config, `${folder}/config.json`),
    tokenizer: () => Promise.resolve(createHubTokenizer({ tokenizerJson, tokenizerConfig })),
    chatTemplate(tokenizer) {
      const template = isObject(tokenizerConfig) ? tokenizerConfig['chat_template'] : undefined;
      return typeof template === 'string' ? new ChatTemplate(template, tokenizer) : undefined;
    },
  };
}

async function openSafetensors(folder: string, signal: AbortSignal | undefined): Promise<SafetensorsFile> {
  const options = signal ? { signal } : {};
  const index = await readText(`${folder}/model.safetensors.index.json`, signal).catch(() => undefined);
  if (index !== undefined) return readSafetensorsIndex((shard) => fileSource(`${folder}/${shard}`), index, options);
  return closing(await fileSource(`${folder}/model.safetensors`), (file) => readSafetensors(file, options));
}

async function readJson(path: string, signal: AbortSignal | undefined): Promise<unknown> {
  const text = await readText(path, signal);
  try {
    return JSON.parse(text) as unknown;
  } catch (cause) {
    throw new ModelFormatError(`${path}: it is not JSON`, { cause });
  }
}

async function readText(path: string, signal: AbortSignal | undefined): Promise<string> {
  const source = await fileSource(path);
  try {
    if (source.size > 64 * 2 ** 20) throw new OptionError(`${path}: ${source.size} bytes are too many for a file of settings`);
    return new TextDecoder().decode(await source.read(0, source.size, signal));
  } finally {
    await source.close?.();
  }
}

/** Runs `read`; when it fails the source is closed. */
async function closing<T>(source: ByteSource, read: (source: ByteSource) => Promise<T>): Promise<T> {
  try {
    return await read(source);
  } catch (error) {
    await source.close?.();
    throw error;
  }
}
