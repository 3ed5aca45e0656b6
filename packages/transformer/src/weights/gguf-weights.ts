import type { GgufFile } from '@filigree/checkpoint';
import type { WeightSource } from './weight-source.js';

/** The tensors of a GGUF file, as they are. */
export function ggufWeights(file: GgufFile): WeightSource {
  return {
    name: file.source.name,
    tensors: file.tensors,
    find: (name) => file.find(name),
    close: () => file.close(),
  };
}
