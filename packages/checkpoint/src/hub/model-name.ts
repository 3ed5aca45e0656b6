import { knownModels, type KnownModel } from './known-models.js';

/** What the name of a model that is no path means. */
export type ModelName =
  | { readonly kind: 'known'; readonly model: KnownModel }
  /** `file` as given; `quantization` chooses among the files of the repository, for example "Q4_K_M". */
  | { readonly kind: 'hub'; readonly repo: string; readonly file?: string; readonly quantization?: string };

/**
 * Reads a name: a known id, "owner/name", "owner/name:file.gguf", "owner/name/file.gguf" or "owner/name:Q4_K_M". Undefined for
 * anything else, paths among it.
 */
export function parseModelName(name: string): ModelName | undefined {
  const model = knownModels.find(({ id }) => id === name.toLowerCase());
  if (model) return { kind: 'known', model };
  const match = /^(\w[\w.-]*\/\w[\w.-]*)(?:([:/])(.+))?$/.exec(name);
  if (!match || name.includes('..')) return undefined;
  const [, repo, separator, rest] = match;
  // "models/a.gguf" is a path that does not exist rather than a repository of that name.
  if (rest === undefined) return /\.(?:gguf|safetensors)$/i.test(repo) ? undefined : { kind: 'hub', repo };
  if (rest.toLowerCase().endsWith('.gguf')) return { kind: 'hub', repo, file: rest };
  return separator === ':' ? { kind: 'hub', repo, quantization: rest } : undefined;
}
