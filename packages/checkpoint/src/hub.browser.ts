import { HubError, PipError } from './errors.js';
import type {
  CachedFile,
  HubDownloadOptions,
  HubSnapshotOptions,
  PipModelOptions,
  ResolvedModel,
  ResolveModelOptions,
} from './hub/options.js';

function noFiles(what: string): HubError {
  return new HubError(
    'file-system',
    `${what}: files can be downloaded to a path in Node only; use opfsCachedSource(hubUrl({ repo, file })) here`,
  );
}

/** There are no paths in a browser. */
export function cacheDirectory(): string {
  throw noFiles('cacheDirectory');
}

/** There are no paths in a browser. */
export async function listCached(): Promise<CachedFile[]> {
  throw noFiles('listCached');
}

/** There are no paths in a browser. */
export async function hubDownload({ repo, file }: HubDownloadOptions): Promise<string> {
  throw noFiles(`${repo}: ${file}`);
}

/** There are no paths in a browser. */
export async function hubSnapshot({ repo }: HubSnapshotOptions): Promise<string> {
  throw noFiles(repo);
}

/** There is no pip in a browser. */
export async function pipModel({ packages }: PipModelOptions): Promise<string> {
  throw new PipError('unavailable', `${packages.join(', ')}: there is no pip in a browser`);
}

/** There are no paths in a browser. */
export async function resolveModel(name: string, _options?: ResolveModelOptions): Promise<ResolvedModel> {
  throw noFiles(name);
}
