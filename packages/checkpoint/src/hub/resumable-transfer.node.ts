import { open, readFile, rm, stat, writeFile, type FileHandle } from 'node:fs/promises';
import { throwIfAborted } from '@filigree/core-tensor';
import { delay } from '../delay.js';
import { HubError } from '../errors.js';
import { parseContentRange } from '../sources/content-range.js';
import { refusal, unreachable, withRetries, type HubRequests, type RemoteFile } from './hub-requests.node.js';

/** One file to fetch into `part`. */
export interface Transfer extends HubRequests {
  readonly url: string;
  /** The partial file; beside it stands a note of what it is part of. */
  readonly part: string;
  readonly remote: RemoteFile;
  readonly onBytes: (done: number, total: number | undefined) => void;
  /** Writes at a position and resolves to the bytes written; replaced by tests to fill the disk. */
  readonly write: (handle: FileHandle, bytes: Uint8Array, position: number) => Promise<number>;
}

/** What the partial file is part of. */
interface PartNote {
  readonly etag?: string | undefined;
  /** Validator of the host that sent the bytes, which may be another than the Hub. */
  readonly sent?: string | undefined;
  readonly size?: number | undefined;
}

/** The connection broke or the answer did not fit what is there; another attempt may succeed. */
class BrokenTransfer extends Error {}

/**
 * Fetches a file, going on where an earlier attempt stopped, in this process or a former one. Gives up after `retries` attempts
 * in a row that added nothing. The partial file stays in any case, except when it is known to be wrong.
 */
export async function resumableTransfer(transfer: Transfer): Promise<void> {
  let furthest = await sizeOf(transfer.part);
  for (let failures = 0; ;) {
    try {
      return await attempt(transfer);
    } catch (error) {
      throwIfAborted(transfer.signal);
      if (!(error instanceof BrokenTransfer)) throw error;
      const reached = await sizeOf(transfer.part);
      failures = reached > furthest ? 0 : failures + 1;
      furthest = Math.max(furthest, reached);
      if (failures > transfer.retries) throw unreachable(transfer.what, error.cause ?? error);
      await delay(transfer.backoffMs * 2 ** failures, transfer.signal);
    }
  }
}

async function attempt(transfer: Transfer): Promise<void> {
  const { part, remote, what } = transfer;
  const note = await readNote(part);
  let have = await sizeOf(part);
  if (!mayResume(note, remote) || (remote.size !== undefined && have > remote.size)) have = 0;
  if (have > 0 && have === remote.size) return;

  const strong = note?.sent !== undefined && !note.sent.startsWith('W/');
  const response = await withRetries(transfer, (signal) =>
    transfer.fetch(transfer.url, {
      headers: {
        ...transfer.headers,
        // With a range fetch asks for no compression by itself.
        ...(have > 0 ? { range: `bytes=${have}-` } : { 'accept-encoding': 'identity' }),
        ...(have > 0 && strong ? { 'if-range': note.sent ?? '' } : {}),
      },
      signal,
    }),
  );
  if (response.status === 416) {
    await discard(response, part);
    throw new BrokenTransfer('the server does not have the range that is missing');
  }
  if (response.status >= 400) {
    await response.body?.cancel();
    throw refusal(response, what);
  }
  if (response.status !== 200 && response.status !== 206) {
    await response.body?.cancel();
    throw new HubError('protocol', `${what}: the server answered ${response.status} to a download`);
  }
  if (response.status === 200) have = 0;
  else {
    const range = parseContentRange(response.headers.get('content-range'));
    const fits =
      range?.start === have && (remote.size === undefined || range.total === undefined || range.total === remote.size);
    if (!fits) {
      await discard(response, part);
      throw new BrokenTransfer('the server sent another range than the one asked for');
    }
  }
  const total = remote.size ?? totalOf(response);
  await writeNote(part, { etag: remote.etag, sent: response.headers.get('etag') ?? undefined, size: total });
  await receive(transfer, response, have, total);
}

async function receive(transfer: Transfer, response: Response, have: number, total: number | undefined): Promise<void> {
  const handle = await open(transfer.part, have > 0 ? 'r+' : 'w');
  const reader = response.body?.getReader();
  let done = have;
  try {
    for (;;) {
      const bytes = await nextPiece(transfer, reader);
      if (!bytes) break;
      if (total !== undefined && done + bytes.byteLength > total)
        throw new HubError('protocol', `${transfer.what}: the server sent more than the ${total} bytes it announced`);
      for (let at = 0; at < bytes.byteLength;) at += await transfer.write(handle, bytes.subarray(at), done + at);
      done += bytes.byteLength;
      transfer.onBytes(done, total);
    }
    await handle.sync();
  } catch (error) {
    reader?.cancel().catch(() => undefined);
    throw error;
  } finally {
    await handle.close();
  }
  if (total !== undefined && done < total) throw new BrokenTransfer(`the connection ended after ${done} of ${total} bytes`);
}

/** The next bytes of the body; undefined at its end; BrokenTransfer when none come for `stallMs`. */
async function nextPiece(
  { signal, stallMs }: HubRequests,
  reader: ReadableStreamDefaultReader<Uint8Array> | undefined,
): Promise<Uint8Array | undefined> {
  throwIfAborted(signal);
  let timer: ReturnType<typeof setTimeout> | undefined;
  const stalled = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new BrokenTransfer(`no data for ${stallMs} ms`)), stallMs);
  });
  try {
    return (await Promise.race([reader?.read(), stalled]))?.value;
  } catch (error) {
    throwIfAborted(signal);
    throw error instanceof BrokenTransfer ? error : new BrokenTransfer('the connection broke', { cause: error });
  } finally {
    clearTimeout(timer);
  }
}

function totalOf(response: Response): number | undefined {
  const range = parseContentRange(response.headers.get('content-range'));
  if (range?.total !== undefined) return range.total;
  const length = response.headers.get('content-length');
  return length !== null && response.status === 200 ? Number(length) : undefined;
}

/** Without a validator of either kind the rest could be of another file. */
function mayResume(note: PartNote | undefined, remote: RemoteFile): boolean {
  if (!note || note.size !== remote.size) return false;
  return remote.etag !== undefined && note.etag === remote.etag;
}

async function discard(response: Response, part: string): Promise<void> {
  await response.body?.cancel();
  await removePart(part);
}

/** Removes a partial file and its note. */
export async function removePart(part: string): Promise<void> {
  await rm(part, { force: true });
  await rm(`${part}.json`, { force: true });
}

async function sizeOf(part: string): Promise<number> {
  return stat(part).then(
    (info) => info.size,
    () => 0,
  );
}

async function readNote(part: string): Promise<PartNote | undefined> {
  try {
    const value: unknown = JSON.parse(await readFile(`${part}.json`, 'utf8'));
    return value && typeof value === 'object' ? value : undefined;
  } catch {
    return undefined;
  }
}

async function writeNote(part: string, note: PartNote): Promise<void> {
  await writeFile(`${part}.json`, JSON.stringify(note));
}
