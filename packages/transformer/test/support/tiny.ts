import { bytesSource } from '@filigree/checkpoint';
import { createReferenceBackend, type Backend } from '@filigree/core-tensor';
import { createNativeBackend } from '@filigree/backend-native';
import { tinyModel, type TinyModelOptions } from '@filigree/testing';
import { loadModel, type LoadModelOptions, type Model } from '@filigree/transformer';

/** A model of random weights in memory. */
export async function loadTiny(options: LoadModelOptions = {}, tiny: TinyModelOptions = {}): Promise<Model> {
  return loadModel(bytesSource(await tinyModel(tiny), 'tiny.gguf'), options);
}

/** Backends that every behaviour is tested on. */
export const backends: readonly (readonly [string, () => Backend])[] = [
  ['native', () => createNativeBackend({ threads: 2, fallback: 'error' })],
  ['reference', () => createReferenceBackend()],
];
