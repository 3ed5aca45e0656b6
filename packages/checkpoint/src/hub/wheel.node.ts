import type { Readable } from 'node:stream';
import { open, type Entry, type ZipFile } from 'yauzl';

/** A file in a wheel, which is a ZIP archive. */
export interface WheelEntry {
  /** Path in the archive. Never used as a path on this machine. */
  readonly name: string;
  /** Uncompressed. */
  readonly bytes: number;
  /** The contents. The stream fails unless they are `bytes` long; their checksum is for the caller to check. */
  stream(): Promise<Readable>;
}

/** Opens a wheel, gives the entries that match to `use`, and closes it. */
export async function withWheel<T>(path: string, pattern: RegExp, use: (entries: WheelEntry[]) => Promise<T>): Promise<T> {
  const zip = await openZip(path);
  try {
    return await use(await matching(zip, pattern));
  } finally {
    zip.close();
  }
}

function openZip(path: string): Promise<ZipFile> {
  return new Promise((resolve, reject) => {
    open(path, { autoClose: false, lazyEntries: true }, (error, zip) => {
      if (error) reject(error);
      else resolve(zip);
    });
  });
}

function matching(zip: ZipFile, pattern: RegExp): Promise<WheelEntry[]> {
  const found: WheelEntry[] = [];
  return new Promise((resolve, reject) => {
    zip.on('entry', (entry: Entry) => {
      pattern.lastIndex = 0;
      if (pattern.test(entry.fileName))
        found.push({ name: entry.fileName, bytes: entry.uncompressedSize, stream: () => openEntry(zip, entry) });
      zip.readEntry();
    });
    zip.on('error', reject);
    zip.on('end', () => {
      resolve(found);
    });
    zip.readEntry();
  });
}

function openEntry(zip: ZipFile, entry: Entry): Promise<Readable> {
  return new Promise((resolve, reject) => {
    zip.openReadStream(entry, (error, stream) => {
      if (error) reject(error);
      else resolve(stream);
    });
  });
}
