import { throwIfAborted } from '@filigree/core-tensor';
import { HubError } from '../errors.js';
import { hubRequests, type HubTuning } from './hub-download.node.js';
import { refusal, unreachable, withRetries, type HubRequests } from './hub-requests.node.js';
import { assertHubRepo } from './hub-url.js';
import type { HubOptions } from './options.js';
import { hubSettings } from './settings.node.js';

/** More than the answer for any repository of a model. */
const maxListBytes = 32 * 2 ** 20;

/** Paths of all files of a repository. */
export async function listRepo(
  { repo, revision = 'main', ...options }: HubOptions & { repo: string; revision?: string },
  tuning: HubTuning = {},
): Promise<string[]> {
  assertHubRepo(repo);
  const { endpoint, offline } = hubSettings(options);
  if (offline) throw new HubError('offline', `${repo}: its files cannot be listed, offline mode is on`);
  const requests = hubRequests(repo, options, tuning);
  const url = `${endpoint.replace(/\/+$/, '')}/api/models/${repo}/revision/${encodeURIComponent(revision)}`;
  const response = await withRetries(requests, (signal) => requests.fetch(url, { headers: requests.headers, signal }));
  if (response.status !== 200) {
    await response.body?.cancel();
    throw refusal(response, repo);
  }
  const files = filesOf(await limitedText(response, requests));
  if (!files) throw new HubError('protocol', `${repo}: the answer to ${url} is not a list of files`);
  return files;
}

async function limitedText(response: Response, { what, signal, stallMs }: HubRequests): Promise<string> {
  const decoder = new TextDecoder();
  const reader = response.body?.getReader();
  const timer = setTimeout(() => void reader?.cancel(new Error(`no end for ${stallMs} ms`)), stallMs);
  let text = '';
  let bytes = 0;
  try {
    for (;;) {
      const piece = (await reader?.read())?.value;
      if (!piece) return text + decoder.decode();
      bytes += piece.byteLength;
      if (bytes > maxListBytes) {
        await reader?.cancel();
        throw new HubError('protocol', `${what}: the list of files is longer than ${maxListBytes} bytes`);
      }
      text += decoder.decode(piece, { stream: true });
    }
  } catch (error) {
    throwIfAborted(signal);
    throw error instanceof HubError ? error : unreachable(what, error);
  } finally {
    clearTimeout(timer);
  }
}

/** `{ siblings: [{ rfilename }] }`. */
function filesOf(text: string): string[] | undefined {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return undefined;
  }
  if (!value || typeof value !== 'object' || !('siblings' in value) || !Array.isArray(value.siblings)) return undefined;
  const names = value.siblings.map((entry: unknown) =>
    entry && typeof entry === 'object' && 'rfilename' in entry && typeof entry.rfilename === 'string'
      ? entry.rfilename
      : undefined,
  );
  return names.every((name) => name !== undefined) ? names : undefined;
}
