import { OptionError } from '@filigree/core-tensor';
import {
  int8Kv,
  kiviKv,
  kvFormats,
  mustafarKv,
  turboKv,
  type CodedKvCodec,
  type KvFormat,
  type RawKvType,
} from '@filigree/kv-cache';
import type { ModelConfig } from '../config/model-config.js';

/** How keys and values are kept: as rows, or as codes that attention reads as they are. */
export const kvTypes = ['f32', 'f16', ...kvFormats] as const;

/** One for both, or codes of keys and of values apart. */
export type KvType = RawKvType | KvFormat | { readonly k: KvFormat; readonly v: KvFormat };

export type KvStorage =
  | { readonly dtype: RawKvType; readonly codec?: undefined }
  | { readonly dtype: RawKvType; readonly codec: { readonly k: CodedKvCodec; readonly v: CodedKvCodec } };

/**
 * @param model that is to use it, where it is known yet.
 * @throws OptionError when there is no such type, or not for layers with windows or heads of this size.
 */
export function kvStorage(
  type: KvType,
  model: Pick<ModelConfig, 'windows' | 'headDim'> | undefined,
  caller: string,
): KvStorage {
  if (type === 'f32' || type === 'f16') return { dtype: type };
  const { k, v } = typeof type === 'object' ? type : { k: type, v: type };
  const codec = { k: codecOf(k, caller), v: codecOf(v, caller) };
  if (model?.windows.some((window) => window > 0))
    throw new OptionError(
      `${caller}: kvType is ${JSON.stringify(type)}, but the model has layers with sliding windows; it takes f32 or f16`,
    );
  if (model) {
    codec.k.bytesPerEntry(model.headDim, 'keys');
    codec.v.bytesPerEntry(model.headDim, 'values');
  }
  return { dtype: 'f16', codec };
}

function codecOf(format: KvFormat, caller: string): CodedKvCodec {
  switch (format) {
    case 'int8':
      return int8Kv();
    case 'kivi4':
      return kiviKv({ bits: 4 });
    case 'kivi2':
      return kiviKv({ bits: 2 });
    case 'turbo4':
      return turboKv({ bits: 4 });
    case 'turbo2':
      return turboKv({ bits: 2 });
    default:
      if (kvFormats.includes(format)) return mustafarKv({ sparsity: Number(format.slice('bitmap'.length)) / 100 });
      throw new OptionError(`${caller}: kvType is ${JSON.stringify(format)}, it must be one of ${kvTypes.join(', ')}`);
  }
}
