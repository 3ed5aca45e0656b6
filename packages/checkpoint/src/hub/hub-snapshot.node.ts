import { dirname } from 'node:path';
import { HubError } from '../errors.js';
import { hubCachePath } from './cache.node.js';
import { hubDownload } from './hub-download.node.js';
import { listRepo } from './list-repo.node.js';
import { modelFolderFault, modelFolderFiles } from './model-folder.node.js';
import type { HubSnapshotOptions } from './options.js';
import { hubSettings } from './settings.node.js';

/**
 * Downloads what a model of config.json and safetensors consists of, or the files that `include` chooses, and resolves to the
 * folder of the cache in which they lie as in the repository. Files that are there already are not fetched again; config.json is
 * fetched last, so that a folder without it is seen to be unfinished. Offline it resolves when the model is complete already.
 */
export async function hubSnapshot({ include, ...options }: HubSnapshotOptions): Promise<string> {
  const { repo, revision = 'main' } = options;
  const { cacheDir, offline } = hubSettings(options);
  const folder = dirname(hubCachePath(cacheDir, { repo, revision, file: 'config.json' }));
  if (offline) {
    const fault = include ? 'its files cannot be listed' : await modelFolderFault(folder);
    if (fault === undefined) return folder;
    throw new HubError('offline', `${repo}: not complete in the cache (${folder}: ${fault}), and offline mode is on`);
  }
  const listed = await listRepo(options);
  const files = include ? listed.filter(include) : modelFolderFiles(listed);
  if (files.length === 0) throw new HubError('not-found', `${repo}: none of its ${listed.length} files is asked for`);
  for (const file of files) await hubDownload({ ...options, file });
  return folder;
}
